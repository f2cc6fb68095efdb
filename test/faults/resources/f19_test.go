package resources_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/test/faults/resources/serving"
)

// What an idle connection may cost in resident memory: the design's 5 KB and 15 KB, with room for what the allocator and the collector
// keep, which after the many handshakes of a moment ago is much.
const (
	idleBytes    = 8 << 10
	idleTLSBytes = 32 << 10
)

// F19: connections that wait for their next request cost little memory and no time.
func TestF19IdleConnections(t *testing.T) {
	noLeaks(t)
	for _, kind := range []struct {
		name  string
		count int
		limit int64
		dial  func(p *serving.Process) (net.Conn, error)
	}{
		{"plain", pick(8000, 9000), idleBytes, func(p *serving.Process) (net.Conn, error) { return net.DialTimeout("tcp", p.HTTP, patience) }},
		{"TLS", pick(1500, 8000), idleTLSBytes, func(p *serving.Process) (net.Conn, error) {
			d := &net.Dialer{Timeout: patience}
			//nolint:gosec // the certificate is made up by the process
			return tls.DialWithDialer(d, "tcp", p.HTTPS, &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", SessionTicketsDisabled: true})
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			p := serving.Start(t, serving.Options{
				Program: serving.Program(t), Dir: serving.Folder(t, map[string][]string{"a.test": {plainPod(t, "ok").addr}}),
				Args: []string{"--keep-alive=1h", "--profiling"},
			})
			// What the first requests make it allocate, once and for all, is not the cost of a connection.
			conns := idleConnections(t, 200, func() (net.Conn, error) { return kind.dial(p) })
			defer func() {
				for _, c := range conns {
					c.Close()
				}
			}()
			collect(p)
			before := p.Resident()
			conns = append(conns, idleConnections(t, kind.count, func() (net.Conn, error) { return kind.dial(p) })...)
			early := (p.Resident() - before) / int64(kind.count)
			collect(p)
			each := (p.Resident() - before) / int64(kind.count)
			busy := p.UsageDuring(time.Second)
			t.Logf("F19: %d idle %s connections: %d bytes of resident memory each, %d before garbage was collected (the design: 5 KB plain, "+
				"15 KB TLS); the process used %s and slept %d times in 1 s", kind.count, kind.name, each, early, busy.CPU.Round(100*time.Microsecond), busy.Sleeps)
			if each > kind.limit {
				t.Errorf("%d bytes for each idle connection, want at most %d", each, kind.limit)
			}
			if busy.CPU > 200*time.Millisecond {
				t.Errorf("%s of processor time in 1 s in which nothing happened", busy.CPU)
			}
			if n := int(p.Metric("podlane_connections_open")); n != len(conns) {
				t.Errorf("%d connections are open, want %d", n, len(conns))
			}
			for _, c := range []net.Conn{conns[0], conns[len(conns)/2], conns[len(conns)-1]} {
				if err := request(c); err != nil {
					t.Errorf("a request after the wait: %v", err)
				}
			}
		})
	}
}

// collect makes the process collect all of its garbage: a collection halves a stack at most.
func collect(p *serving.Process) {
	for range 3 {
		p.Collect()
	}
}

// idleConnections makes connections that have made one request each, a few at a time.
func idleConnections(t *testing.T, n int, connect func() (net.Conn, error)) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	var all sync.WaitGroup
	const workers = 8
	for w := range workers {
		all.Go(func() {
			for i := w; i < n; i += workers {
				c, err := connect()
				if err == nil {
					conns[i] = c
					err = request(c)
				}
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		t.FailNow()
	}
	return conns
}

// request makes one request without leaving anything in memory.
func request(c net.Conn) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	in := readers.Get().(*bufio.Reader)
	defer readers.Put(in)
	in.Reset(c)
	head, err := readHead(in)
	if err != nil {
		return err
	}
	if len(head) < 12 || head[9:12] != "200" {
		return errors.New(head)
	}
	_, err = io.ReadFull(in, make([]byte, len("ok")))
	return err
}

var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// F19: 100,000 silent connections, or as many as the limit of descriptors allows. They are in memory, so what is counted is what
// the proxy itself holds for each, without the kernel's part.
func TestF19ManyConnections(t *testing.T) {
	noLeaks(t)
	count := 100_000
	if raceEnabled {
		count = 5000 // the race detector's own memory grows with goroutines
	}
	var e *proxy.Engine
	count = withDescriptors(t, count, func() {
		e = proxy.New(proxy.Options{MaxConnections: 2 * count, Timeouts: proxy.Timeouts{FirstByte: -1}})
	})
	l := &silentListener{queue: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- e.Serve(&proxy.Listener{Listener: l}) }()
	measure := func() int64 {
		runtime.GC()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	before := measure()
	for range count {
		l.queue <- newSilentConn()
	}
	await(t, "all connections", func() bool { return e.Connections() == count })
	each := (measure() - before) / int64(count)
	t.Logf("F19: %d silent connections: %d bytes of heap and stacks each", count, each)
	if each > idleBytes && !raceEnabled {
		t.Errorf("%d bytes each, want at most %d", each, idleBytes)
	}
	ctx, cancel := within(t, 2*patience)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// withDescriptors calls f while the process may open files enough for count connections, by which an engine judges how many it may take,
// or as many as this user may have. It returns how many those are.
func withDescriptors(t *testing.T, count int, f func()) int {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	want := uint64(4 * count)
	if before.Cur >= want {
		f()
		return count
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want, Max: max(want, before.Max)}); err != nil {
		f()
		return int(before.Cur / 5 * 2)
	}
	f()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	return count
}

// silentListener accepts what a test puts in its queue.
type silentListener struct {
	queue  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *silentListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *silentListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*silentListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

// silentConn is a connection on which nothing ever comes.
type silentConn struct {
	once  sync.Once
	ended chan struct{} // closed by Close, and by a deadline in the past
}

func newSilentConn() *silentConn { return &silentConn{ended: make(chan struct{})} }

func (c *silentConn) Read([]byte) (int, error) {
	<-c.ended
	return 0, os.ErrDeadlineExceeded
}

func (*silentConn) Write(b []byte) (int, error) { return len(b), nil }

func (c *silentConn) Close() error {
	c.once.Do(func() { close(c.ended) })
	return nil
}

func (*silentConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }
func (*silentConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 4000} }

func (c *silentConn) SetDeadline(d time.Time) error { return c.SetReadDeadline(d) }

func (c *silentConn) SetReadDeadline(d time.Time) error {
	if !d.IsZero() && time.Until(d) <= 0 {
		return c.Close()
	}
	return nil
}

func (*silentConn) SetWriteDeadline(time.Time) error { return nil }
