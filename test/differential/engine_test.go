package differential

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/test/vectors"
)

// request is one request in the terms in which oracles are compared: framing removed, fields in order.
type request struct {
	method, target string
	fields         []field
	body           string
}

type field struct{ name, value string }

// get returns the value of the first field of a name.
func (q request) get(name string) string {
	for _, f := range q.fields {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

// sent is a request as the engine sent it to a Pod: what went over the wire, and how a strict reader takes it.
type sent struct {
	raw string
	request
}

// forwarded sends every input to an engine, each on a connection of its own, and returns what a Pod got, each only once.
func forwarded(t *testing.T, inputs []string) []sent {
	t.Helper()
	var mu sync.Mutex
	var all []sent
	seen := map[string]bool{}
	const workers = 4
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			e := newEngine(t)
			for i := w; i < len(inputs); i += workers {
				if err := e.send(inputs[i]); err != nil {
					t.Errorf("%q: %v", inputs[i], err)
					return
				}
				mu.Lock()
				for _, q := range e.take() {
					// The only field that differs each time.
					_, after, _ := strings.Cut(q.raw, "X-Request-ID: ")
					if key := q.raw[:len(q.raw)-len(after)] + strings.TrimLeft(after, "0123456789abcdef"); !seen[key] {
						seen[key] = true
						all = append(all, q)
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// engine is a proxy with one Pod, which records what it gets.
type engine struct {
	addr string

	mu       sync.Mutex
	requests []sent
	problem  error
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{}
	pod := e.startPod(t)
	// A client that closes its sending side is not gone here: that is how the engine learns that nothing more will come.
	p := proxy.New(proxy.Options{AllowHalfClose: true})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- p.Serve(&proxy.Listener{Listener: l}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(p.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	port := router.ServicePort{Namespace: "default", Name: "pod"}
	table := router.NewTable([]*router.Route{{
		ID: router.RouteID{Namespace: "default", Ingress: "all", Path: "/"}, Backends: []router.Backend{{Service: port, Weight: 1}},
	}}, nil)
	p.Prepare(table)
	p.SetAddresses(port.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(pod), UID: "u", Ready: true, Serving: true}}})
	p.Publish(table)
	return e
}

// startPod starts the Pod and returns its address.
func (e *engine) startPod(t *testing.T) string {
	t.Helper()
	return serve(t, func(c net.Conn) {
		br := bufio.NewReaderSize(c, 64<<10)
		for {
			q, err := vectors.ReadRequest(br)
			if v, ok := errors.AsType[*vectors.Violation](err); ok {
				e.mu.Lock()
				e.problem = v
				e.mu.Unlock()
			}
			if err != nil {
				return
			}
			s := sent{raw: string(q.Raw), request: request{method: q.Method(), target: q.Target(), body: q.Body}}
			for _, f := range q.Fields {
				name, value, _ := strings.Cut(f, ": ")
				s.fields = append(s.fields, field{name, value})
			}
			e.mu.Lock()
			e.requests = append(e.requests, s)
			e.mu.Unlock()
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
				return
			}
		}
	})
}

// serve accepts connections on loopback until the test ends.
func serve(t *testing.T, f func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				f(c)
				mu.Lock()
				delete(open, c)
				mu.Unlock()
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// send sends text on a connection of its own and waits until everything is answered.
func (e *engine) send(text string) error {
	_, err := converse(e.addr, text, endsBehind)
	e.mu.Lock()
	defer e.mu.Unlock()
	return errors.Join(err, e.problem)
}

// ending says whether a client ends its sending side behind what it has to say.
type ending uint8

const (
	staysOpen ending = iota
	endsBehind
)

// converse sends text to addr, a port or the path of a socket, and returns all that comes back until the other side ends. That it has heard enough is no error.
func converse(addr, text string, end ending) (string, error) {
	network := "tcp"
	if addr[0] == '/' {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, text); err == nil && end == endsBehind {
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}
	answers, err := io.ReadAll(c)
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		err = nil
	}
	return string(answers), err
}

func (e *engine) take() []sent {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.requests
	e.requests = nil
	return all
}

// accepted is the beginning of an input that the codec accepts, and the requests in it as it reads them.
type accepted struct {
	raw      string
	requests []request
}

// accept reads an input with the codec alone, as the engine does. ok is false where nothing is accepted.
func accept(input string) (a accepted, ok bool) {
	conn := &text{left: input}
	s := http1.NewServer(conn, http1.Limits{}, new(http1.Clock))
	defer s.Close()
	for range 8 {
		q, goesOn, ok := acceptOne(s)
		if !ok {
			break
		}
		a.requests = append(a.requests, q)
		a.raw = input[:len(input)-len(conn.left)-s.Buffered()]
		if !goesOn {
			break
		}
		s.Next()
	}
	return a, len(a.requests) > 0
}

func acceptOne(s *http1.Server) (q request, goesOn, ok bool) {
	x := exchange.New()
	defer x.Release()
	r := &x.Request
	if s.ReadRequest(x) != nil {
		return q, false, false
	}
	q.method, q.target = string(r.Method), string(r.Target)
	for i := range r.Fields.Len() {
		if _, name, value, ok := r.Fields.At(i); ok {
			q.fields = append(q.fields, field{string(name), string(value)})
		}
	}
	if x.Validate() != nil {
		return q, false, false
	}
	for r.Body != nil {
		p, err := r.Body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return q, false, false
		}
		q.body += string(p)
	}
	return q, !r.Close && len(r.Upgrade) == 0, true
}

// text is a connection on which a text arrives, and then the end.
type text struct {
	net.Conn
	left string
}

func (c *text) Read(b []byte) (int, error) {
	if c.left == "" {
		return 0, io.EOF
	}
	n := copy(b, c.left)
	c.left = c.left[n:]
	return n, nil
}
