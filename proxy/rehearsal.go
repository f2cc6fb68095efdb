package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/router"
)

// rehearsal takes a request that nobody sent through the engine: the codec, validation, matching, filters and the choice of a Backend are those
// of every request, and where a Pod would be asked it ends. It is counted and logged nowhere. It belongs to one goroutine.
type rehearsal struct {
	// draw is what random choices come to, and drawn of how many the last one was; 0 where nothing was left to chance.
	draw, drawn int
	live        *live
	trace       router.Trace
	// lane is what was chosen, nil for none, and by says what decided.
	chosen bool
	lane   *lane
	by     string
	// asked is the Pods that would have been asked, nil where none would; erring says that they are those of the error service.
	asked  *lane
	erring bool
	sent   Sent
	client []exchange.Field // the fields as the client sent them
	pinned *Pin
}

// watch returns where a lookup in l is written down, nil for a request that was sent.
func (r *rehearsal) watch(l *live) *router.Trace {
	if r == nil {
		return nil
	}
	r.live = l
	return &r.trace
}

// pick is session.pick with draws that are known.
func (r *rehearsal) pick(s *session) *lane {
	r.chosen = true
	r.lane = s.chain.choose(s.x, func(n int) int {
		r.drawn = n
		return min(r.draw, n-1)
	})
	if r.drawn == 0 {
		r.by = decision(s.x.Upstream.CanaryBy)
	}
	return r.lane
}

// decision says what decided between an Ingress and its canary, "" where there was nothing to decide.
func decision(by exchange.Decider) string {
	switch by {
	case exchange.DecidedByAbsence:
		return "the canary has no endpoints"
	case exchange.DecidedByAffinity:
		return "the client's affinity cookie"
	case exchange.DecidedByHeader:
		return "canary-by-header"
	case exchange.DecidedByCookie:
		return "canary-by-cookie"
	case exchange.DecidedByWeight:
		return "canary-weight is 0"
	case exchange.NoDecider:
	}
	return ""
}

// arrive is where a request would be sent to the Pods of l. The failure is that of a Backend without endpoints, or ends the rehearsal.
func (r *rehearsal) arrive(s *session, l *lane) failure {
	if l.pool.Len() == 0 {
		return failNoEndpoint
	}
	r.asked, r.erring, r.sent = l, s.erring, sentOf(s, r.client)
	r.pinned = l.pin(s.x)
	return failClient
}

// rehearse takes the request of q through e, and then has look see what became of it.
func (e *Engine) rehearse(q *Question, draw int, look func(*session)) error {
	head, err := q.head()
	if err != nil {
		return err
	}
	c := &call{e: e, terms: e.live.Load().terms, wire: nowhere{}, fd: -1}
	limits := c.terms.limits
	limits.Yield = false
	codec := http1.NewServer(&script{Reader: bytes.NewReader(head)}, limits, &e.clock)
	defer codec.Close()
	c.srv = codec
	s := c.start(q.client(e.live.Load().table))
	defer s.x.Release()
	s.rehearsal = &rehearsal{draw: draw}
	s.x.Rehearsal, s.x.Waiter = new(exchange.Rehearsal), nobody{e}
	if err := codec.ReadRequest(s.x); err != nil {
		if _, refused := errors.AsType[*exchange.Reject](err); !refused {
			return fmt.Errorf("the request cannot be read: %w", err)
		}
		s.unreadable(unmarked, err)
	} else {
		s.rehearsal.client = s.x.Request.Fields.List()
		s.run()
	}
	look(s)
	return nil
}

// nobody is the Waiter of a request that nobody sent: nobody waits.
type nobody struct{ e *Engine }

// Wait calls f with a context that has ended.
func (n nobody) Wait(_ time.Duration, f func(ctx context.Context)) {
	ended, cancel := context.WithCancel(n.e.life)
	cancel()
	f(ended)
}

// head returns the request as HTTP/1.1 writes it.
func (q *Question) head() ([]byte, error) {
	_, authority, target, err := q.parts()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", q.Method, target)
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
	for _, text := range append([]string{q.URL, q.Method}, namesAndValues(q.Fields)...) {
		if strings.ContainsAny(text, "\r\n\x00") {
			return nil, errors.New("a line break or NUL is in the question: no request can have one there")
		}
	}
	return b.Bytes(), nil
}

func namesAndValues(fields []exchange.Field) []string {
	all := make([]string, 0, 2*len(fields))
	for _, f := range fields {
		all = append(all, f.Name, f.Value)
	}
	return all
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
	if authority == "" || strings.Contains(authority, "@") || strings.ContainsAny(target, " ") {
		return "", "", "", fmt.Errorf("%q is not a URL that a client could ask for: write https://app.example.com/path, with %%20 for a space", q.URL)
	}
	return scheme, authority, target, nil
}

// complete fills in what the question leaves out.
func (q *Question) complete() error {
	scheme, authority, _, err := q.parts()
	if err != nil {
		return err
	}
	if q.Method == "" {
		q.Method = "GET"
	}
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

// client is who would have sent the request, after a handshake under t where there is one. It shows no certificate.
func (q *Question) client(t *router.Table) *exchange.Client {
	scheme, authority, _, _ := q.parts() // complete has looked at it
	c := &exchange.Client{Peer: netip.AddrPortFrom(q.Client, 0), Addr: q.Client, Proto: scheme, Port: 80, TLS: scheme == "https"}
	if c.TLS {
		c.Port, c.ServerName, c.TLSVersion = 443, q.ServerName, tls.VersionTLS13
		if p := t.TLSPolicy(q.ServerName); p != nil {
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

// script is a connection whose client has sent all that it will, and reads nothing.
type script struct {
	net.Conn
	*bytes.Reader
}

// Read returns what the client sent.
func (s *script) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// Write takes everything.
func (*script) Write(p []byte) (int, error) { return len(p), nil }

// nowhere is the wire of a request that nobody sent.
type nowhere struct{}

func (nowhere) interruptRead()    {}
func (nowhere) interruptWrite()   {}
func (nowhere) resumeRead()       {}
func (nowhere) reset()            {}
func (nowhere) cut()              {}
func (nowhere) linger()           {}
func (nowhere) lingerBriefly()    {}
func (nowhere) leave()            {}
func (nowhere) tunnel() tunnelEnd { return nil }
