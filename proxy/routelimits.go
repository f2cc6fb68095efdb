package proxy

import (
	"cmp"
	"time"

	"podlane.dev/podlane/proxy/filters"
)

// routeLimits are what bounds the requests of one Route: what its policies say, else the engine's own. 0 means no limit, but for connect and
// maxHead, where it leaves the limit to those who connect and read.
type routeLimits struct {
	maxBody int64
	// spool says that bodies are read before a Pod is asked, and within which bounds of memory.
	readFirst bool
	memory    int64
	maxHead   int
	// connect bounds the connect to one endpoint, send a pause in which the Pod takes nothing, header the wait for the answer and body a pause in
	// it. quiet takes the place of the latter two where silence is usual.
	connect, send, header, body, quiet time.Duration
}

// limitsOf resolves what a Route says.
func (e *Engine) limitsOf(f *filters.Forwarding) routeLimits {
	t := &e.timeouts
	return routeLimits{
		maxBody: max(cmp.Or(f.MaxBody, e.opts.MaxBody), 0), maxHead: f.MaxHead,
		readFirst: f.ReadFirst, memory: f.BodyMemory,
		connect: f.Connect, send: cmp.Or(f.Send, t.Stall),
		header: cmp.Or(f.Read, t.UpstreamHeader), body: cmp.Or(f.Read, t.UpstreamBody), quiet: cmp.Or(f.Read, t.Tunnel),
	}
}
