package socket

// Sleeper is whoever waits for a socket without a goroutine.
type Sleeper interface {
	// Asleep reports whether Wake has not been called yet. It must not block.
	Asleep() bool
	// Wake says that there is something to read. It may come when s is awake already, and must not block.
	Wake()
}
