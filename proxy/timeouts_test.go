package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// exchangeRaw sends text on a new connection and returns all that comes back until the proxy closes.
func exchangeRaw(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("after %.40q: %v; got %q", text, err, b)
	}
	return string(b)
}

func TestClientTimeouts(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { _, _ = io.Copy(w, q.Body) })
	short := 150 * time.Millisecond
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{FirstByte: short, Header: short, Body: short, Idle: short, LingerSilence: short}})
	r.route("a.test", pod)
	for _, row := range []struct{ name, text, want string }{
		{"no byte at all", "", ""},
		{"half a head", "GET / HTTP/1.1\r\nHost: a.te", "HTTP/1.1 408 "},
		{"half a short body", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhello", "HTTP/1.1 408 "},
		{"half a long body", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50_000), "HTTP/1.1 408 "},
		{"half a chunked body", "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "HTTP/1.1 408 "},
		{"idle after an answer", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200 "},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := exchangeRaw(t, r.addr, row.text)
			if !strings.HasPrefix(got, row.want) || row.want == "" && got != "" {
				t.Errorf("got %q, want %q…", got, row.want)
			}
		})
	}
}

// A header that trickles in must not put off its deadline byte by byte.
func TestSlowHeaderIsCut(t *testing.T) {
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{Header: 300 * time.Millisecond}})
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			if _, err := c.Write([]byte("G")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Error("200 bytes trickled in over 4 s without being cut")
	}()
	_, _ = io.ReadAll(c)
	c.Close()
	<-done
}

func TestExpectContinue(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Expect") != "" {
			t.Error("Expect reached the Pod")
		}
		_, _ = io.Copy(w, q.Body)
	})
	r := newRig(t, proxy.Options{})
	r.route("a.test", pod)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for range 2 {
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		line, err := br.ReadString('\n')
		if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q %v", line, err)
		}
		_, _ = br.ReadString('\n')
		fmt.Fprint(c, "hello")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "hello" || err != nil {
			t.Fatalf("%q %v", b, err)
		}
	}
}

// A client that reads nothing must not make the proxy buffer: the Pod is held back.
func TestSlowReaderHoldsThePodBack(t *testing.T) {
	const size = 64 << 20
	sent := make(chan int64, 1)
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		_ = c.SetWriteDeadline(time.Now().Add(700 * time.Millisecond))
		n, _ := io.Copy(c, io.LimitReader(zeros{}, size))
		sent <- n
	})
	r := newRig(t, proxy.Options{})
	r.route("a.test", pod)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if n := <-sent; n > size/2 {
		t.Errorf("the Pod could send %d bytes to a client that read none", n)
	}
}

func TestStalledReaderIsCut(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { _, _ = io.Copy(w, io.LimitReader(zeros{}, 64<<20)) })
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{Stall: 200 * time.Millisecond}})
	r.route("a.test", pod)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	waitFor(t, "the request to begin", func() bool { return r.engine.Requests() == 1 })
	waitFor(t, "the stalled request to end", func() bool { return r.engine.Requests() == 0 })
}

// A client that takes its bytes slowly is not one that takes none: it is not cut, however long one write to it lasts.
func TestSlowReaderIsNotCut(t *testing.T) {
	const size = 8 << 20
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = io.Copy(w, io.LimitReader(zeros{}, size))
	})
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{Stall: time.Second}})
	r.route("a.test", pod)
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	c, err := d.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), nil)
	if err != nil {
		t.Fatal(err)
	}
	var read int64
	for begin := time.Now(); time.Since(begin) < 3*time.Second; time.Sleep(10 * time.Millisecond) {
		n, err := io.CopyN(io.Discard, res.Body, 2<<10)
		if read += n; err != nil {
			t.Fatalf("after %d bytes and %v: %v", read, time.Since(begin), err)
		}
	}
	n, err := io.Copy(io.Discard, res.Body)
	if read += n; err != nil || read != size {
		t.Errorf("%d of %d bytes: %v", read, size, err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A connection that waits at the gate is served when another ends.
func TestConnectionLimitDelays(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	r := newRig(t, proxy.Options{MaxConnections: 2})
	r.route("a.test", pod)
	var open []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		open = append(open, c)
	}
	waitFor(t, "two connections", func() bool { return r.engine.Connections() == 2 })
	third := make(chan string, 1)
	go func() {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			third <- err.Error()
			return
		}
		defer c.Close()
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		b, _ := io.ReadAll(c)
		third <- string(b)
	}()
	select {
	case got := <-third:
		t.Fatalf("the third connection was served beyond the limit: %q", got)
	case <-time.After(100 * time.Millisecond):
	}
	open[0].Close()
	if got := <-third; !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("got %q", got)
	}
}

// An address that is handed to another Pod must not see the connections of the one before.
func TestAddressReuseByAnotherPod(t *testing.T) {
	conns := make(chan int, 16)
	pod := fakePod(t, func(n int, c net.Conn, br *bufio.Reader) {
		conns <- n
		answerAll(c, br, fmt.Sprint("connection ", n))
	})
	r := newRig(t, proxy.Options{})
	r.routeUID("a.test", "uid-1", pod)
	_, first := r.do("GET", "http://a.test/", nil)
	_, again := r.do("GET", "http://a.test/", nil)
	r.routeUID("a.test", "uid-2", pod)
	_, other := r.do("GET", "http://a.test/", nil)
	if first != again || first == other {
		t.Errorf("connections %q, %q, then for another Pod %q", first, again, other)
	}
}
