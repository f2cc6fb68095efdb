package filters

import (
	"time"

	"podlane.dev/podlane/router"
)

// Forwarding says how the requests of one Route are sent to Pods. The zero value of a field means that the proxy's own setting holds.
type Forwarding struct {
	// MaxBody is the size of a request body in bytes beyond which the answer is 413; negative means no limit.
	MaxBody int64
	// ReadFirst says that a request's body is read to its end before a Pod is asked. BodyMemory is how much of it stays in memory then.
	ReadFirst  bool
	BodyMemory int64
	// Connect, Send and Read bound the connect to one endpoint, a pause in which the Pod takes nothing, and one in which it sends nothing. Where
	// Read is set it bounds what is silent for long by nature too: tunnels, event streams, gRPC.
	Connect, Send, Read time.Duration
	// MaxHead is the size in bytes of the head of an answer over HTTP/1.1 beyond which it is 502.
	MaxHead int
	// Balance says how requests are spread over the endpoints.
	Balance Balance
	// Affinity is the cookie that keeps clients with their endpoints, nil for none.
	Affinity *Affinity
	// Again says what is tried again elsewhere; nil means that the rules of the proxy hold.
	Again *Again
	// Mirror copies requests, nil for none.
	Mirror *Mirror
	// Errors says which answers the Route's ErrorBackend gives, nil for none.
	Errors *router.CustomErrors
}

// CanaryForwarding returns what the canary of r says about its own Backend: how requests are spread over its endpoints, and
// whether clients stay with theirs.
func CanaryForwarding(r *router.Route) Forwarding {
	var f Forwarding
	for i := range r.Alternative.Policies {
		switch v := &r.Alternative.Policies[i]; v.Family {
		case balanceFamily:
			f.Balance = v.Parsed.(Balance)
		case affinityFamily:
			f.Affinity = v.Parsed.(*Affinity)
		}
	}
	return f
}
