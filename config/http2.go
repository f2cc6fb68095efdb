package config

import "github.com/spf13/pflag"

// HTTP2 are the options of HTTP/2 on the side of clients.
type HTTP2 struct {
	// On offers HTTP/2 on HTTPS listeners. Plain accepts it on plain ones, from clients that
	// begin with it.
	On, Plain bool
	// Streams is how many requests one connection may have under way.
	Streams int
	// WebSocket accepts WebSocket over HTTP/2 (RFC 8441).
	WebSocket bool
}

// NewHTTP2 returns the defaults.
func NewHTTP2() *HTTP2 { return &HTTP2{On: true, Streams: 100} }

// Title is the heading in --help.
func (*HTTP2) Title() string { return "HTTP/2" }

// AddFlags binds the options to fs. Names are those of ingress-nginx's ConfigMap where the meaning is the same.
func (h *HTTP2) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&h.On, "use-http2", h.On, "offer HTTP/2 on HTTPS listeners")
	fs.BoolVar(&h.Plain, "use-h2c", h.Plain, "accept HTTP/2 on plain listeners from clients that begin with it (prior knowledge)")
	fs.IntVar(&h.Streams, "http2-max-concurrent-streams", h.Streams, "requests that one connection may have under way")
	fs.BoolVar(&h.WebSocket, "http2-websocket", h.WebSocket, "accept WebSocket over HTTP/2 (RFC 8441)")
}

// Validate refuses limits under which nothing would work.
func (h *HTTP2) Validate() error { return atLeast("http2-max-concurrent-streams", h.Streams, 1, "1") }

// Protocols returns what ALPN offers, best first.
func (h *HTTP2) Protocols() []string {
	if !h.On {
		return []string{"http/1.1"}
	}
	return []string{"h2", "http/1.1"}
}
