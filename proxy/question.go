package proxy

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
)

// Question is a request that nobody has sent. The zero value of a field but the first means what is beside it.
type Question struct {
	// URL is absolute: scheme, host, and the path as a client would send it.
	URL string `json:"url"`
	// Method is GET, or POST for gRPC.
	Method string `json:"method"`
	// Fields are the header fields besides Host, which may be among them.
	Fields []exchange.Field `json:"-"`
	// Client is the other end of the socket, 192.0.2.1, which is nobody's.
	Client netip.Addr `json:"client"`
	// ServerName is that of the handshake: the host of an https URL. It may be another.
	ServerName string `json:"serverName,omitempty"`
	// Version is HTTP/1.1, or HTTP/2 for gRPC, where it is spoken. HTTP10, HTTP11 and HTTP2 may be asked for.
	Version exchange.Version `json:"-"`
	// Shake makes the handshake of an https URL for the server name: nil is one of TLS 1.3 in which no certificate is shown. Its error is why it fails.
	Shake func(serverName string) (Shaken, error) `json:"-"`
	// AuthStatus is what services that authenticate clients answer: one of 2xx, unless they are remembered to have said something else.
	AuthStatus int `json:"authStatus,omitempty"`

	shaken Shaken
	// assumed is what the answer depends on and the question does not say.
	assumed []string
}

// Shaken is what a handshake came to.
type Shaken struct {
	// Version and CipherSuite are crypto/tls's numbers.
	Version, CipherSuite uint16
	// Protocol is what ALPN chose.
	Protocol string
	// Credentials returns what a client shows that is asked for a certificate under a policy; nil stands for one that shows none.
	Credentials func(*router.TLSPolicy) exchange.Credentials
}

// Check fills in what the question leaves out, as Explain does. The error says what is wrong with it.
func (q *Question) Check() error {
	scheme, authority, target, err := q.parts()
	if err != nil {
		return err
	}
	for _, text := range append([]string{q.URL, q.Method, q.ServerName}, namesAndValues(q.Fields)...) {
		if strings.ContainsAny(text, "\r\n\x00") {
			return errors.New("a line break or NUL is in the question: no request can have one there")
		}
	}
	if strings.ContainsAny(q.Method, " ") || strings.Contains(target, " ") {
		return fmt.Errorf("%q %q: there is a space in it, which ends it: write %%20 in a URL", q.Method, target)
	}
	if q.AuthStatus != 0 && (q.AuthStatus < 200 || q.AuthStatus > 599) {
		return fmt.Errorf("%d is no status that an authentication service answers with: write one from 200 to 599", q.AuthStatus)
	}
	q.Method = cmp.Or(q.Method, map[bool]string{true: "POST", false: "GET"}[q.grpc()])
	if !q.Client.IsValid() {
		q.Client = anyClient
	}
	q.Client = q.Client.Unmap()
	if scheme != "https" {
		q.ServerName = ""
	} else if q.ServerName == "" {
		name := hostOf(authority)
		if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err != nil {
			q.ServerName = strings.TrimSuffix(name, ".")
		}
	}
	q.ServerName = strings.ToLower(q.ServerName)
	return nil
}

// parts cuts the URL, without changing anything of the path.
func (q *Question) parts() (scheme, authority, target string, err error) {
	scheme, rest, ok := strings.Cut(q.URL, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return "", "", "", fmt.Errorf("%q is not an absolute URL: write https://app.example.com/path", q.URL)
	}
	rest, _, _ = strings.Cut(rest, "#")
	authority, target = rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, target = rest[:i], rest[i:]
	}
	if target[0] == '?' {
		target = "/" + target
	}
	if authority == "" || strings.Contains(authority, "@") {
		return "", "", "", fmt.Errorf("%q is not a URL that a client could ask for: write https://app.example.com/path", q.URL)
	}
	return scheme, authority, target, nil
}

// grpc reports whether the request is one of gRPC.
func (q *Question) grpc() bool {
	for _, f := range q.Fields {
		if strings.EqualFold(f.Name, exchange.ContentType.Name()) {
			return grpcType([]byte(f.Value))
		}
	}
	return false
}

// secure reports whether the URL is one of https.
func (q *Question) secure() bool {
	scheme, _, _, _ := q.parts() // Check has looked at it
	return scheme == "https"
}

// shake makes the handshake, and returns why there is none.
func (q *Question) shake() (err error) {
	q.shaken = Shaken{Version: tls.VersionTLS13, Protocol: "h2"}
	if q.Shake != nil && q.secure() {
		q.shaken, err = q.Shake(q.ServerName)
	}
	return err
}

// agree settles the version of HTTP, as client and proxy do where the connection begins. inClear says which one is spoken there in clear besides HTTP/1.1.
func (q *Question) agree(inClear exchange.Version) error {
	if upper := strings.ToUpper(q.Method); upper != q.Method && slices.Contains(usual, upper) {
		q.assumed = append(q.assumed, fmt.Sprintf("the client means the method %s, which is not %s: methods are case-sensitive", q.Method, upper))
	}
	asked := q.Version
	if asked == 0 && q.grpc() {
		q.Version = exchange.HTTP2
	}
	switch offered := q.secure() && q.shaken.Protocol == "h2" || !q.secure() && inClear == exchange.HTTP2; {
	case q.Version == 0:
		q.Version = exchange.HTTP11
	case q.Version != exchange.HTTP2 || offered:
	case asked != 0 && !q.secure():
		return errors.New("HTTP/2 is not spoken in clear (--use-h2c is off): write https://, or ask for HTTP/1.1")
	case asked != 0:
		q.Version = exchange.HTTP11
		q.assumed = append(q.assumed, "HTTP/2 is not offered (use-http2, or the operator's TLS settings): the client falls back to HTTP/1.1")
	default:
		q.Version = exchange.HTTP11
		q.assumed = append(q.assumed, "the client speaks HTTP/1.1: gRPC needs HTTP/2, which is not offered here")
	}
	return nil
}

// usual are the methods that somebody may write in lower case.
var usual = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} //nolint:gochecknoglobals // a constant

// anyClient is an address of nobody's (RFC 5737).
var anyClient = netip.AddrFrom4([4]byte{192, 0, 2, 1}) //nolint:gochecknoglobals // a constant

// hostOf returns an authority without its port.
func hostOf(authority string) string {
	from := strings.IndexByte(authority, ']') + 1
	if i := strings.IndexByte(authority[from:], ':'); i >= 0 {
		return authority[:from+i]
	}
	return authority
}

// head returns the request as HTTP/1.1, or 1.0, writes it.
func (q *Question) head() []byte {
	_, authority, target, _ := q.parts() // Check has looked at it
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", q.Method, target, q.Version)
	host := false
	for _, f := range q.Fields {
		host = host || strings.EqualFold(f.Name, "Host")
	}
	if !host {
		fmt.Fprintf(&b, "Host: %s\r\n", authority)
	}
	for _, f := range q.Fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// block returns the request as HTTP/2 writes it. A Host is the :authority.
func (q *Question) block() []exchange.Field {
	scheme, authority, target, _ := q.parts() // Check has looked at it
	var fields []exchange.Field
	host := false
	for _, f := range q.Fields {
		if !host && strings.EqualFold(f.Name, "Host") {
			host, authority = true, f.Value
			continue
		}
		fields = append(fields, exchange.Field{Name: strings.ToLower(f.Name), Value: f.Value})
	}
	return append([]exchange.Field{
		{Name: ":method", Value: q.Method}, {Name: ":scheme", Value: scheme}, {Name: ":authority", Value: authority}, {Name: ":path", Value: target},
	}, fields...)
}

func namesAndValues(fields []exchange.Field) []string {
	all := make([]string, 0, 2*len(fields))
	for _, f := range fields {
		all = append(all, f.Name, f.Value)
	}
	return all
}

// client is who would have sent the request, after a handshake under t where there is one.
func (q *Question) client(t *router.Table) *exchange.Client {
	scheme, authority, _, _ := q.parts() // Check has looked at it
	c := &exchange.Client{Peer: netip.AddrPortFrom(q.Client, 0), Addr: q.Client, Proto: scheme, Port: 80, TLS: scheme == "https"}
	if c.TLS {
		c.Port, c.ServerName, c.TLSVersion, c.CipherSuite = 443, q.ServerName, q.shaken.Version, q.shaken.CipherSuite
		switch p := t.TLSPolicy(q.ServerName); {
		case p == nil:
		case q.shaken.Credentials != nil:
			c.Credentials = q.shaken.Credentials(p)
		default:
			c.Credentials = bare{p}
		}
	}
	if _, port, ok := strings.Cut(authority[len(hostOf(authority)):], ":"); ok {
		if ap, err := netip.ParseAddrPort("127.0.0.1:" + port); err == nil {
			c.Port = ap.Port()
		}
	}
	c.Local = netip.AddrPortFrom(netip.IPv4Unspecified(), c.Port)
	return c
}

// bare are the Credentials of a client that was asked for a certificate and showed none.
type bare struct{ policy *router.TLSPolicy }

// Policy implements exchange.Credentials, as the others do.
func (b bare) Policy() *router.TLSPolicy { return b.policy }

// Judge says that nothing was shown.
func (bare) Judge(*router.TLSPolicy, time.Time) router.Verdict { return router.Verdict{} }

// Certificate returns nil.
func (bare) Certificate() *x509.Certificate { return nil }

// Names returns none.
func (bare) Names() (subject, issuer string) { return "", "" }
