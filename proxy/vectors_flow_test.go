package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy"
)

// What the contract says about the order of things: examples whose client has to wait for something before it goes on.

// expecting is a request whose body waits for 100 Continue.
const expecting = "POST /e HTTP/1.1\r\nHost: §\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n"

// TestExpect: the proxy itself says 100, after routing, and the Pod sees nothing of the expectation (SECURITY A8).
func TestExpect(t *testing.T) {
	for _, scheme := range schemes {
		t.Run(scheme, func(t *testing.T) {
			r := &record{}
			pod := r.pod(t, "a", nil)
			b := newBench(t, proxy.Options{}, r, place{host: "a", path: "/", pod: pod}).speaking(scheme)
			c := b.dial()
			defer func() { _ = c.Close() }()
			br := bufio.NewReader(c)
			chunked := "PUT /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
			for i, request := range []string{strings.ReplaceAll(expecting, "§", "a"), chunked, strings.ReplaceAll(expecting, "§", "a")} {
				b.send(c, []string{request})
				line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
				if _, err := io.ReadFull(br, line); err != nil || string(line) != "HTTP/1.1 100 Continue\r\n\r\n" {
					t.Fatalf("%q, %v", line, err)
				}
				body := []string{"he", "llo"}
				if request == chunked {
					body = []string{"5\r\nhe", "llo\r\n0\r\n\r\n"}
				}
				b.send(c, body)
				res, text, err := readAnswer(br, "POST")
				if err != nil || text != ownAnswer("a", "/e") || res.Close {
					t.Fatalf("%q, %v", text, err)
				}
				requests, _, problems := b.take()
				if len(requests) != 1 || len(problems) > 0 || requests[0].Body != "hello" || strings.Contains(fmt.Sprint(requests[0].Fields), "Expect") {
					t.Fatalf("%d: the Pod got %v, %v", i, requests, problems)
				}
			}
			// A client that does not wait needs no 100: its answer is the only one.
			b.send(c, []string{strings.ReplaceAll(expecting, "§", "a") + "hello"})
			if res, text, err := readAnswer(br, "POST"); err != nil || res.StatusCode != 200 {
				t.Fatalf("%v %q, %v", res, text, err)
			}
		})
	}
}

// TestExpectIsNotEncouraged: a request that is answered without its body gets no 100, and the connection ends (SECURITY A7).
func TestExpectIsNotEncouraged(t *testing.T) {
	r := &record{}
	pod := r.pod(t, "a", nil)
	b := newBench(t, proxy.Options{MaxBody: 4}, r, place{host: "a", path: "/", pod: pod}, place{host: "locked", path: "/", pod: pod, denied: "x"})
	for host, status := range map[string]int{"nobody": 404, "a": 413, "locked": 503} {
		c := b.dial()
		b.send(c, []string{strings.ReplaceAll(expecting, "§", host)})
		br := bufio.NewReader(c)
		res, text, err := readAnswer(br, "POST")
		if err != nil || res.StatusCode != status {
			t.Fatalf("%v %q, %v; want %d", res, text, err, status)
		}
		// A body that is sent all the same is discarded, not read as a request.
		b.send(c, []string{"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"})
		if err := unlessReset(ended(br, res)); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
	if requests, extra, _ := b.take(); len(requests) > 0 || extra > 0 {
		t.Errorf("the Pod got %v and %d bytes", requests, extra)
	}
}

// TestBodyLimits: 413 for a body that is, or becomes, too large. No Pod sees a whole request, and the client gets its answer although it
// goes on sending.
func TestBodyLimits(t *testing.T) {
	const limit = 100_000
	for name, c := range map[string]struct {
		framing string
		body    string
		status  int
	}{
		"length":            {fmt.Sprintf("Content-Length: %d", limit+1), strings.Repeat("x", limit+1), 413},
		"length, just so":   {fmt.Sprintf("Content-Length: %d", limit), strings.Repeat("x", limit), 200},
		"chunks":            {"Transfer-Encoding: chunked", strings.Repeat("3e8\r\n"+strings.Repeat("x", 1000)+"\r\n", 101) + "0\r\n\r\n", 413},
		"chunks, just so":   {"Transfer-Encoding: chunked", strings.Repeat("3e8\r\n"+strings.Repeat("x", 1000)+"\r\n", 100) + "0\r\n\r\n", 200},
		"one chunk, no end": {"Transfer-Encoding: chunked", "ffffffff\r\n" + strings.Repeat("x", 2*limit), 413},
	} {
		t.Run(name, func(t *testing.T) {
			r := &record{}
			pod := r.pod(t, "a", nil)
			b := newBench(t, proxy.Options{MaxBody: limit}, r, place{host: "a", path: "/", pod: pod})
			conn := b.dial()
			defer conn.Close()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				b.send(conn, []string{"POST /p HTTP/1.1\r\nHost: a\r\n" + c.framing + "\r\n\r\n" + c.body})
			}()
			br := bufio.NewReader(conn)
			res, text, err := readAnswer(br, "POST")
			if err != nil || res.StatusCode != c.status {
				t.Fatalf("%v %q, %v; want %d", res, text, err, c.status)
			}
			<-sent
			requests, _, problems := b.take()
			if whole := c.status == 200; len(problems) > 0 || whole != (len(requests) == 1) {
				t.Errorf("the Pod got %d whole requests, %v", len(requests), problems)
			}
			if c.status == 413 {
				if err := unlessReset(ended(br, res)); err != nil {
					t.Error(err)
				}
			}
			b.mayAbort = c.status == 413
			if err := b.clean(1); err != nil {
				t.Error(err)
			}
			if !b.settled() {
				t.Error("the Pod still waits for the rest of the request")
			}
		})
	}
}

// TestEarlyAnswers: a Pod that answers before it has the whole body is heard at once; then neither connection is used again, and what the
// client goes on sending is not read as requests (SECURITY A7).
func TestEarlyAnswers(t *testing.T) {
	for _, scheme := range schemes {
		for name, framing := range map[string]string{"length": "Content-Length: 1000000", "chunks": "Transfer-Encoding: chunked"} {
			t.Run(scheme+"/"+name, func(t *testing.T) {
				r := &record{}
				conns := make(chan string, 9)
				pod := fakePod(t, func(n int, c net.Conn, br *bufio.Reader) {
					q, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					conns <- fmt.Sprint(n, " ", q.RequestURI)
					text := ownAnswer("a", q.RequestURI)
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
					_, _ = io.Copy(io.Discard, br)
				})
				b := newBench(t, proxy.Options{}, r, place{host: "a", path: "/", pod: pod}).speaking(scheme)
				c := b.dial()
				defer func() { _ = c.Close() }()
				b.send(c, []string{"POST /early HTTP/1.1\r\nHost: a\r\n" + framing + "\r\n\r\n"})
				br := bufio.NewReader(c)
				res, text, err := readAnswer(br, "POST")
				if err != nil || text != ownAnswer("a", "/early") {
					t.Fatalf("%q, %v", text, err)
				}
				b.send(c, []string{"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"})
				if err := unlessReset(ended(br, res)); err != nil {
					t.Error(err)
				}
				next := b.dialTo("http")
				defer func() { _ = next.Close() }()
				b.send(next, []string{"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"})
				if _, text, err := readAnswer(bufio.NewReader(next), "GET"); err != nil || text != ownAnswer("a", "/next") {
					t.Fatalf("%q, %v", text, err)
				}
				if first, second := <-conns, <-conns; first != "0 /early" || second != "1 /next" || len(conns) > 0 {
					t.Errorf("the Pod got %q, then %q, and %d more", first, second, len(conns))
				}
			})
		}
	}
}

// TestOneAtATime: a pipelined request does not reach a Pod before the answer to the one in front of it is complete.
func TestOneAtATime(t *testing.T) {
	for _, scheme := range schemes {
		t.Run(scheme, func(t *testing.T) {
			r := &record{}
			release, arrived := make(chan struct{}), make(chan string, 3)
			pod := r.pod(t, "a", func(c net.Conn, q got) bool {
				arrived <- q.Target()
				if q.Target() == "/1" {
					_, _ = io.WriteString(c, okHead+"Content-Length: 4\r\n\r\na /")
					<-release
					_, err := io.WriteString(c, "1")
					return err == nil
				}
				return plainAnswer(c, q)
			})
			b := newBench(t, proxy.Options{}, r, place{host: "a", path: "/", pod: pod}).speaking(scheme)
			c := b.dial()
			defer func() { _ = c.Close() }()
			b.send(c, []string{"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n"})
			if first := <-arrived; first != "/1" {
				t.Fatalf("%s came first", first)
			}
			select {
			case early := <-arrived:
				t.Errorf("%s came before the answer to /1", early)
			case <-time.After(20 * time.Millisecond):
			}
			close(release)
			br := bufio.NewReader(c)
			for _, target := range []string{"/1", "/2", "/3"} {
				if _, text, err := readAnswer(br, "GET"); err != nil || text != ownAnswer("a", target) {
					t.Fatalf("%q, %v", text, err)
				}
			}
		})
	}
}

// TestReadAheadIsBounded: while a Pod has not answered, no more than 16 KiB of what its client has pipelined behind the request is read.
func TestReadAheadIsBounded(t *testing.T) {
	const count, most = 1500, 16 << 10
	r := &record{}
	arrived, release := make(chan struct{}), make(chan struct{})
	pod := r.pod(t, "a", func(c net.Conn, q got) bool {
		if q.Target() == "/1" {
			close(arrived)
			<-release
		}
		return plainAnswer(c, q)
	})
	b := newBench(t, proxy.Options{}, r, place{host: "a", path: "/", pod: pod})
	c := b.dialWatched()
	defer func() { _ = c.Close() }()
	var text strings.Builder
	for i := range count {
		fmt.Fprintf(&text, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i+1)
	}
	go b.send(c, []string{text.String()})
	<-arrived
	// All that the sockets can hold has been sent when nothing moves any more; what the engine holds is what is missing in between.
	if !eventually(func() bool { return unsent(c.TCPConn) == 0 }) {
		t.Fatal("the requests do not fit into the socket")
	}
	if ahead := text.Len() - c.other.unread(); ahead <= 0 || ahead > most {
		t.Errorf("the engine holds %d bytes, at most %d are allowed", ahead, most)
	}
	close(release)
	br := bufio.NewReader(c)
	for i := range count {
		if _, got, err := readAnswer(br, "GET"); err != nil || got != ownAnswer("a", fmt.Sprintf("/%d", i+1)) {
			t.Fatalf("answer %d: %q, %v", i+1, got, err)
		}
	}
}

// unsent is the number of bytes that were written to a socket and that have not arrived.
func unsent(c syscall.Conn) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n
}

// TestRefusalIsRead: a client that goes on sending behind a refused request gets its refusal and no reset, up to 64 KiB; and one that
// never stops is not listened to for ever.
func TestRefusalIsRead(t *testing.T) {
	r := &record{}
	b := newBench(t, proxy.Options{}, r, place{host: "a", path: "/", pod: r.pod(t, "a", nil)})
	const bad = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"
	for _, more := range []int{0, 1, 10_000, 60_000} {
		c := b.dial()
		b.send(c, []string{bad + strings.Repeat("x", more)})
		br := bufio.NewReader(c)
		res, text, err := readAnswer(br, "GET")
		if err != nil || res.StatusCode != 400 {
			t.Fatalf("%d bytes more: %v %q, %v", more, res, text, err)
		}
		if err := ended(br, res); err != nil {
			t.Errorf("%d bytes more: %v", more, err)
		}
		_ = c.Close()
	}
	c := b.dial()
	defer func() { _ = c.Close() }()
	b.send(c, []string{bad})
	piece := strings.Repeat("x", 64<<10)
	var err error
	sent := 0
	for ; err == nil && sent < 1<<30; sent += len(piece) {
		_, err = io.WriteString(c, piece)
	}
	if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("after %d bytes: %v, want the end of the connection", sent, err)
	}
	if requests, extra, _ := b.take(); len(requests) > 0 || extra > 0 {
		t.Errorf("the Pod got %v and %d bytes", requests, extra)
	}
}
