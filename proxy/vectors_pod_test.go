package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
)

// got is one whole request as a Pod got it.
type got struct {
	pod, line string
	fields    []string
	body      string
	conn      int // number of the connection
}

// String is for messages of failing tests.
func (g got) String() string {
	return fmt.Sprintf("%s: %.200q %.400q %.80q", g.pod, g.line, g.fields, g.body)
}

// record is what all Pods of a test got, byte for byte.
type record struct {
	mu       sync.Mutex
	bytes    int // of everything
	whole    int // of whole requests
	requests []got
	problems []string
	conns    int
}

// take returns what came since the last call, and forgets it. extra is the number of bytes that belong to no whole request.
func (r *record) take() (requests []got, extra int, problems []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	requests, extra, problems = r.requests, r.bytes-r.whole, r.problems
	r.requests, r.bytes, r.whole, r.problems = nil, 0, 0, nil
	return requests, extra, problems
}

// counted counts the bytes that are read from a connection, before anybody has parsed them.
type counted struct {
	net.Conn
	r *record
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.r.mu.Lock()
	c.r.bytes += n
	c.r.mu.Unlock()
	return n, err
}

// pod starts a raw TCP Pod. It reads requests with a parser of its own, which knows no leniency, and answers each with script, or where
// that is nil with its name and the target.
func (r *record) pod(t testing.TB, name string, script func(c net.Conn, q got) (again bool)) string {
	t.Helper()
	if script == nil {
		script = plainAnswer
	}
	return fakePod(t, func(_ int, c net.Conn, _ *bufio.Reader) {
		r.mu.Lock()
		r.conns++
		conn := r.conns
		r.mu.Unlock()
		br := bufio.NewReaderSize(counted{c, r}, 128<<10)
		for {
			q, n, err := readStrictly(br)
			q.pod, q.conn = name, conn
			r.mu.Lock()
			switch {
			case err == nil:
				r.requests, r.whole = append(r.requests, q), r.whole+n
			case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.ECONNRESET):
				r.problems = append(r.problems, fmt.Sprintf("%s got what it cannot read: %v", name, err))
			}
			r.mu.Unlock()
			if err != nil || !script(c, q) {
				return
			}
		}
	})
}

// plainAnswer says who answers what.
func plainAnswer(c net.Conn, q got) bool {
	method, target := words(q.line)
	text := ownAnswer(q.pod, target)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(text))
	if method == "HEAD" {
		text = ""
	}
	_, err := io.WriteString(c, head+text)
	return err == nil
}

func ownAnswer(pod, target string) string { return pod + " " + target }

// words returns method and target of a request line.
func words(line string) (method, target string) {
	method, rest, _ := strings.Cut(line, " ")
	target, _, _ = strings.Cut(rest, " ")
	return method, target
}

// readStrictly reads one request: CRLF, "Name: value", one Host, one framing. n is its size in bytes. An error that is neither
// io.EOF nor io.ErrUnexpectedEOF means that the proxy sent something that it must never send.
func readStrictly(br *bufio.Reader) (q got, n int, err error) {
	line := func() (string, error) {
		s, err := br.ReadString('\n')
		n += len(s)
		if err != nil {
			if n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		if !strings.HasSuffix(s, "\r\n") || strings.ContainsAny(s[:len(s)-2], "\r\x00") {
			return "", fmt.Errorf("line %.100q", s)
		}
		return s[:len(s)-2], nil
	}
	if q.line, err = line(); err != nil {
		return q, n, err
	}
	if w := strings.Split(q.line, " "); len(w) != 3 || w[0] == "" || !strings.HasPrefix(w[1], "/") || w[2] != "HTTP/1.1" {
		return q, n, fmt.Errorf("request line %.100q", q.line)
	}
	length, chunked, hosts := -1, false, 0
	for {
		s, err := line()
		if err != nil {
			return q, n, err
		}
		if s == "" {
			break
		}
		name, value, ok := strings.Cut(s, ": ")
		if !ok || name == "" || strings.ContainsAny(name, " \t_") || strings.Trim(value, " \t") != value {
			return q, n, fmt.Errorf("field line %.100q", s)
		}
		q.fields = append(q.fields, s)
		switch strings.ToLower(name) {
		case "host":
			hosts++
		case "content-length":
			v, err := strconv.Atoi(value)
			if err != nil || length >= 0 || strconv.Itoa(v) != value {
				return q, n, fmt.Errorf("field line %.100q behind length %d", s, length)
			}
			length = v
		case "transfer-encoding":
			if chunked || value != "chunked" {
				return q, n, fmt.Errorf("field line %.100q", s)
			}
			chunked = true
		}
	}
	if hosts != 1 || chunked && length >= 0 {
		return q, n, fmt.Errorf("%d Host fields, chunked %v, length %d in %q", hosts, chunked, length, q.fields)
	}
	if chunked {
		q.body, err = readChunks(br, line, &n)
		return q, n, err
	}
	b := make([]byte, max(length, 0))
	m, err := io.ReadFull(br, b)
	n += m
	q.body = string(b)
	if errors.Is(err, io.EOF) && len(b) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return q, n, err
}

// readChunks reads a chunked body as the codec writes it: no extensions, no trailers.
func readChunks(br *bufio.Reader, line func() (string, error), n *int) (string, error) {
	var body strings.Builder
	for {
		s, err := line()
		if err != nil {
			return "", err
		}
		size, err := strconv.ParseUint(s, 16, 31)
		if err != nil || strconv.FormatUint(size, 16) != s {
			return "", fmt.Errorf("chunk size %.100q", s)
		}
		b := make([]byte, size)
		m, err := io.ReadFull(br, b)
		if *n += m; err != nil {
			return "", io.ErrUnexpectedEOF
		}
		body.Write(b)
		end, err := line()
		if err != nil {
			return "", err
		}
		if end != "" {
			return "", fmt.Errorf("%.100q behind a chunk", end)
		}
		if size == 0 {
			return body.String(), nil
		}
	}
}

// bench is an engine, the Pods behind it and what they got.
type bench struct {
	*record
	t      testing.TB
	engine *proxy.Engine
	addr   string
	// mayAbort says that Pods may get beginnings of requests.
	mayAbort bool

	mu       sync.Mutex
	accepted map[string]*net.TCPConn // the engine's ends of connections, by the client's address
}

// tapped is a listener that remembers what it accepted.
type tapped struct {
	net.Listener
	b *bench
}

func (l tapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.b.mu.Lock()
		l.b.accepted[c.RemoteAddr().String()] = c.(*net.TCPConn)
		l.b.mu.Unlock()
	}
	return c, err
}

// place is where requests go: a host and a path to a Pod.
type place struct{ host, path, pod string }

// newBench starts an engine with routes to the Pods at places.
func newBench(t testing.TB, o proxy.Options, r *record, places ...place) *bench {
	t.Helper()
	b := &bench{record: r, t: t, engine: proxy.New(o), accepted: map[string]*net.TCPConn{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- b.engine.Serve(&proxy.Listener{Listener: tapped{l, b}}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := b.engine.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	var routes []*router.Route
	for i, p := range places {
		routes = append(routes, &router.Route{
			ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: p.host, Path: p.path},
			Backends: []router.Backend{{Service: router.ServicePort{Namespace: "default", Name: "s" + strconv.Itoa(i)}, Weight: 1}},
		})
	}
	table := router.NewTable(routes, nil)
	b.engine.Prepare(table)
	for i, p := range places {
		b.engine.SetAddresses(routes[i].Backends[0].Service.Service(), map[string][]router.Address{
			"": {{AddrPort: netip.MustParseAddrPort(p.pod), UID: "u" + strconv.Itoa(i), Ready: true, Serving: true}},
		})
	}
	b.engine.Publish(table)
	return b
}

// dial opens a connection to the engine.
func (b *bench) dial() *net.TCPConn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// hangUp closes a connection of dial.
func (b *bench) hangUp(c *net.TCPConn) {
	_ = c.Close()
	// Its port may soon be another's.
	b.mu.Lock()
	delete(b.accepted, c.LocalAddr().String())
	b.mu.Unlock()
}

// send writes pieces to c so that each is read by itself: the next one leaves when the engine has taken the one before out of its
// socket. An engine that has closed the connection already is no error: it has heard enough.
func (b *bench) send(c *net.TCPConn, pieces []string) {
	for i, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			return
		}
		if i < len(pieces)-1 && !b.drained(c.LocalAddr().String()) {
			return
		}
	}
}

// drained waits until the engine's end of a connection has nothing left to read.
func (b *bench) drained(client string) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		b.mu.Lock()
		c := b.accepted[client]
		b.mu.Unlock()
		if c == nil {
			time.Sleep(20 * time.Microsecond)
			continue
		}
		raw, err := c.SyscallConn()
		if err != nil {
			return false
		}
		left := 0
		if err := raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }); err != nil {
			return false
		}
		if left == 0 {
			return true
		}
		time.Sleep(10 * time.Microsecond)
	}
	return false
}

// connections is the number of connections that Pods have accepted.
func connections(r *record) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns
}
