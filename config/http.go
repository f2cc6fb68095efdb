package config

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
)

// HTTP are the limits and timeouts of clients. A duration of 0 means no limit, and so does a number of 0 where its flag
// says so.
type HTTP struct {
	// TrustedProxies are the peers whose forwarding fields are believed.
	TrustedProxies Prefixes
	// ProxyProtocol has connections from ProxyProtocolTrusted, or from TrustedProxies where that is empty, begin with a header of the PROXY
	// protocol, which may take ProxyProtocolTimeout.
	ProxyProtocol        bool
	ProxyProtocolTrusted Prefixes
	ProxyProtocolTimeout time.Duration

	// RequestLine and HeaderBlock are sizes of a request's head, HeaderFields the number of its fields, Body the size of
	// its body.
	RequestLine, HeaderBlock Size
	HeaderFields             int
	Body                     Size
	// Underscores is drop, reject or keep: what happens to fields with "_" in their names.
	Underscores string

	// FirstByte and Header bound the wait for a head, BodyIdle that for the next byte of a body, SendIdle that for a client
	// or Pod to take a byte, KeepAlive that for the next request, Tunnel the silence of an upgraded connection.
	FirstByte, Header, BodyIdle, SendIdle, KeepAlive, Tunnel time.Duration
	// Linger and LingerIdle bound how long what a client still sends after an early answer is read and dropped.
	Linger, LingerIdle time.Duration

	// KeepAliveRequests is how many requests one connection may carry, Connections how many connections are open at a time, and
	// AddressConnections how many of them one client address may have.
	KeepAliveRequests, Connections, AddressConnections int
	// SpoolDir is where request bodies lie that are read before a Pod is asked and do not stay in memory, SpoolSize and SpoolFiles what all of them
	// may take.
	SpoolDir   string
	SpoolSize  Size
	SpoolFiles int
	// AllowHalfClose answers clients that closed their sending side.
	AllowHalfClose bool
}

// NewHTTP returns the defaults.
func NewHTTP() *HTTP {
	return &HTTP{
		RequestLine: 8 << 10, HeaderBlock: 32 << 10, HeaderFields: 100, Body: 1 << 20, Underscores: "drop",
		FirstByte: 10 * time.Second, Header: 10 * time.Second, BodyIdle: time.Minute, SendIdle: time.Minute,
		KeepAlive: 75 * time.Second, Tunnel: time.Hour, Linger: 30 * time.Second, LingerIdle: 5 * time.Second,
		KeepAliveRequests: 10_000, ProxyProtocolTimeout: 5 * time.Second, SpoolDir: os.TempDir(), SpoolSize: 1 << 30, SpoolFiles: 1000,
	}
}

// Title is the heading in --help.
func (*HTTP) Title() string { return "Clients (a timeout of 0 means none)" }

// AddFlags binds the options to fs. Names are those of ingress-nginx's ConfigMap where the meaning is the same.
func (h *HTTP) AddFlags(fs *pflag.FlagSet) {
	fs.Var(&h.TrustedProxies, "trusted-proxies",
		"address ranges of proxies in front whose X-Forwarded-*, Forwarded and X-Real-IP fields are believed; from all others they are replaced")

	fs.BoolVar(&h.ProxyProtocol, "use-proxy-protocol", h.ProxyProtocol,
		"connections of trusted load balancers begin with a header of the PROXY protocol, v1 or v2, that says who the client is; others begin without")
	fs.Var(&h.ProxyProtocolTrusted, "proxy-protocol-trusted",
		"address ranges of the load balancers that send this header; without it those of --trusted-proxies")
	addDuration(fs, &h.ProxyProtocolTimeout, "proxy-protocol-header-timeout", "how long this header may take")

	fs.Var(&h.RequestLine, "request-line-size", "largest request line; a longer one gets 414")
	fs.Var(&h.HeaderBlock, "request-header-size", "largest header block of a request; a larger one gets 431")
	fs.IntVar(&h.HeaderFields, "request-header-fields", h.HeaderFields, "most header fields of a request; more get 431")
	fs.Var(&h.Body, "proxy-body-size", "largest request body; a larger one gets 413; 0 for no limit")
	fs.Var(choice{&h.Underscores, []string{"drop", "reject", "keep"}}, "underscores-in-headers",
		"what happens to request fields with \"_\" in their names, which applications confuse with \"-\"")

	addDuration(fs, &h.FirstByte, "client-first-byte-timeout", "how long a new connection may take to send its first byte")
	addDuration(fs, &h.Header, "client-header-timeout", "how long a request's whole head may take from its first byte")
	addDuration(fs, &h.BodyIdle, "client-body-timeout", "how long a request's body may pause")
	addDuration(fs, &h.SendIdle, "send-timeout", "how long a client or Pod may go without taking a byte that is sent to it")
	addDuration(fs, &h.KeepAlive, "keep-alive", "how long a connection may be idle between requests")
	addDuration(fs, &h.Tunnel, "tunnel-timeout", "how long a WebSocket or another upgraded connection may be silent in both directions")
	addDuration(fs, &h.Linger, "lingering-time", "after an early answer, how long in all the rest of the request is read and dropped")
	addDuration(fs, &h.LingerIdle, "lingering-timeout", "after an early answer, how long the rest of the request may pause")

	fs.IntVar(&h.KeepAliveRequests, "keep-alive-requests", h.KeepAliveRequests,
		"requests after which a client's connection is closed; 0 for no limit")
	fs.IntVar(&h.Connections, "max-connections", h.Connections,
		"client connections at a time; 0 derives it from the limit of open files")
	fs.IntVar(&h.AddressConnections, "max-connections-per-address", h.AddressConnections,
		"connections of one client address at a time, further ones are closed at once; trusted proxies are exempt; 0 for no limit")
	fs.StringVar(&h.SpoolDir, "spool-dir", h.SpoolDir,
		"folder for request bodies that are read before a Pod is asked (proxy-request-buffering: on) and are too large for memory; on a disk")
	fs.Var(&h.SpoolSize, "spool-size", "what these bodies may take there in all; beyond that the answer is 503")
	fs.IntVar(&h.SpoolFiles, "spool-files", h.SpoolFiles, "how many of them there may be at a time")
	fs.BoolVar(&h.AllowHalfClose, "allow-half-close", h.AllowHalfClose,
		"answer clients that closed their sending side before the Pod answered, or in the middle of an event stream, instead of taking them for gone")
}

// The least limits that let ordinary requests pass.
const (
	minRequestLine  = 512
	minHeaderBlock  = 1 << 10
	minHeaderFields = 10
)

// Validate refuses limits under which nothing would work.
func (h *HTTP) Validate() error {
	return first(
		h.checkProxyProtocol(),
		atLeastSize("request-line-size", h.RequestLine, minRequestLine),
		atLeastSize("request-header-size", h.HeaderBlock, minHeaderBlock),
		atLeast("request-header-fields", h.HeaderFields, minHeaderFields, "10"),
		atLeastSize("spool-size", h.SpoolSize, 1<<20),
		atLeast("spool-files", h.SpoolFiles, 1, "1"),
		atLeast("keep-alive-requests", h.KeepAliveRequests, 0, "0"),
		atLeast("max-connections", h.Connections, 0, "0"),
		atLeast("max-connections-per-address", h.AddressConnections, 0, "0"),
	)
}

// checkProxyProtocol refuses a header that nobody may send.
func (h *HTTP) checkProxyProtocol() error {
	if h.ProxyProtocol && len(h.AnnouncedFrom()) == 0 {
		return fmt.Errorf("--use-proxy-protocol: nobody is trusted to send the header: write --proxy-protocol-trusted=10.0.0.0/8, with the load balancer's addresses")
	}
	return nil
}

// AnnouncedFrom returns the address ranges from which connections begin with a header of the PROXY protocol.
func (h *HTTP) AnnouncedFrom() Prefixes {
	switch {
	case !h.ProxyProtocol:
		return nil
	case len(h.ProxyProtocolTrusted) > 0:
		return h.ProxyProtocolTrusted
	}
	return h.TrustedProxies
}
