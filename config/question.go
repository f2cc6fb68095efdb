package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
)

// Question is a request to be explained, but for its URL.
type Question struct {
	// Headers are header fields as "Name: value", in order.
	Headers []string
	Method  string
	// Client is the address at the other end of the socket, "" for one that is nobody's.
	Client string
	// ServerName is that of the handshake, "" for the host of the URL.
	ServerName string
}

// NewQuestion returns the defaults.
func NewQuestion() *Question { return &Question{Method: "GET"} }

// Title is the heading in --help.
func (*Question) Title() string { return "Request" }

// AddFlags binds the options to fs.
func (q *Question) AddFlags(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&q.Headers, "header", "H", q.Headers, "header field, as `\"Name: value\"`; may be given several times, and Host too")
	fs.StringVarP(&q.Method, "method", "X", q.Method, "method")
	fs.StringVar(&q.Client, "client-ip", q.Client, "`address` of the client; without it 192.0.2.1, which is nobody's")
	fs.StringVar(&q.ServerName, "sni", q.ServerName, "server `name` of the TLS handshake; without it the host of the URL")
}

// Validate checks the fields and the address.
func (q *Question) Validate() error {
	for _, h := range q.Headers {
		if name, _, ok := strings.Cut(h, ":"); !ok || strings.TrimSpace(name) == "" {
			return fmt.Errorf("--header: %q is no header field: write \"Name: value\"", h)
		}
	}
	if q.Client == "" {
		return nil
	}
	if _, err := netip.ParseAddr(q.Client); err != nil {
		return fmt.Errorf("--client-ip: %q is not an IP address: write 203.0.113.7", q.Client)
	}
	return nil
}
