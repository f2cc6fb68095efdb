package filters

import "time"

// Forwarding says how the requests of one Route are sent to Pods. The zero value of a field means that the proxy's own setting holds.
type Forwarding struct {
	// MaxBody is the size of a request body in bytes beyond which the answer is 413; negative means no limit.
	MaxBody int64
	// Connect, Send and Read bound the connect to one endpoint, a pause in which the Pod takes nothing, and one in which it sends nothing.
	Connect, Send, Read time.Duration
}
