package resources_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// upload sends a body without end in the background, until the connection ends or limit bytes have gone.
type upload struct {
	sent  atomic.Int64
	ended chan struct{}
}

func (c *client) upload(limit int64) *upload {
	u := &upload{ended: make(chan struct{})}
	go func() {
		defer close(u.ended)
		block := make([]byte, 64<<10)
		for u.sent.Load() < limit {
			n, err := c.Write(block[:min(int64(len(block)), limit-u.sent.Load())])
			u.sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	return u
}

// stalls waits until the upload goes no further: its bytes have filled every buffer on the way.
func (u *upload) stalls(t *testing.T) int64 {
	t.Helper()
	last, same := int64(-1), 0
	await(t, "an upload that nobody reads to be held back", func() bool {
		now := u.sent.Load()
		if now == last {
			same++
		} else {
			last, same = now, 0
		}
		time.Sleep(10 * time.Millisecond)
		return same >= 20
	})
	return last
}

// F10: a Pod that answers before it has the request's body. The client has the answer while it is still sending; the connection to
// the Pod is never used again, and the client's ends once it has stopped or a time is over.
func TestF10EarlyAnswer(t *testing.T) {
	noLeaks(t)
	size := int64(pick(64, 1024)) << 20
	const no = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
	for _, early := range []struct {
		name   string
		script func(c *podConn)
	}{
		{"without reading", func(c *podConn) {
			_, _ = io.WriteString(c, no)
			<-time.After(300 * time.Millisecond)
		}},
		{"after some of it", func(c *podConn) {
			_, _ = io.CopyN(io.Discard, c.in, 1<<20)
			_, _ = io.WriteString(c, no)
			c.untilClosed()
		}},
		{"and closes", func(c *podConn) { // unread bytes make a RST of the close
			_, _ = io.WriteString(c, no)
			_ = c.CloseWrite()
		}},
		{"and goes on reading", func(c *podConn) {
			_, _ = io.WriteString(c, no)
			c.untilClosed()
		}},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %v", early.name, chunked), func(t *testing.T) {
				p := newPod(t, func(c *podConn) {
					if c.request() == nil {
						return
					}
					if c.n == 0 {
						early.script(c)
						return
					}
					fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
					c.answerAll("next")
				})
				r := newRig(t, proxy.Options{MaxBody: -1})
				r.route("a.test", p.addr)
				c := dial(t, r.addr)
				framing := fmt.Sprintf("Content-Length: %d\r\n\r\n", size)
				if chunked {
					framing = fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size)
				}
				c.send("POST / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: early\r\n%s", framing)
				u := c.upload(size)
				began := time.Now()
				_ = c.SetReadDeadline(time.Now().Add(patience))
				res, err := http.ReadResponse(c.in, nil)
				took, sent := time.Since(began), u.sent.Load()
				if err != nil {
					t.Fatalf("no answer while %d bytes were sent: %v", sent, err)
				}
				body, err := io.ReadAll(res.Body)
				if res.StatusCode != http.StatusForbidden || string(body) != "no" || err != nil || !res.Close {
					t.Errorf("%d %q %v, close %v", res.StatusCode, body, err, res.Close)
				}
				if sent == size {
					t.Logf("the whole body had left before the answer came")
				}
				c.Close()
				<-u.ended
				if line := r.logged("early"); line.Status != http.StatusForbidden || line.Reason != "" {
					t.Errorf("logged as %+v", line)
				}
				dial(t, r.addr).ask(t, "a.test", "next")
				if n := p.conns.Load(); n != 2 {
					t.Errorf("the Pod saw %d connections, want another for the next request", n)
				}
				t.Logf("F10: answer %s after the head, %d of %d MiB sent by then", took.Round(100*time.Microsecond), sent>>20, size>>20)
			})
		}
	}
}

// F10: a Pod that stops reading holds the client back, and nothing else: no byte is lost or kept in memory, and when it goes on
// reading, so does the upload.
func TestF10PodStopsReading(t *testing.T) {
	noLeaks(t)
	size := int64(pick(48, 1024)) << 20
	goOn := make(chan struct{})
	sum := make(chan int64, 1)
	p := newPod(t, func(c *podConn) {
		_ = c.SetReadBuffer(64 << 10)
		q := c.request()
		if q == nil {
			return
		}
		wanted(t, goOn)
		n, _ := io.Copy(io.Discard, q.Body)
		sum <- n
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.untilClosed()
	})
	r := newRig(t, proxy.Options{MaxBody: -1})
	r.route("a.test", p.addr)
	c := dial(t, r.addr)
	before := heapInUse()
	c.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", size)
	u := c.upload(size)
	held := u.stalls(t)
	grown := heapInUse() - before
	if held > 24<<20 {
		t.Errorf("the client could send %d bytes to a Pod that reads none", held)
	}
	if grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	close(goOn)
	if status, _, err := c.answer(); status != http.StatusOK || err != nil {
		t.Errorf("%d %v", status, err)
	}
	<-u.ended
	if n := receive(t, "the end of the upload at the Pod", sum); n != size {
		t.Errorf("the Pod got %d bytes, want %d", n, size)
	}
	t.Logf("F10: held back after %d KiB, which lie in sockets: the heap grew by %d KiB", held>>10, grown>>10)
}

// F10: a Pod that answers what it reads while it reads: both directions run at once, however much lies between them, and every
// byte arrives.
func TestF10BothDirectionsAtOnce(t *testing.T) {
	noLeaks(t)
	size := pick(24, 1024) << 20
	p := newPod(t, func(c *podConn) {
		q := c.request()
		if q == nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		buf := make([]byte, 32<<10)
		for {
			n, err := q.Body.Read(buf)
			if n > 0 {
				fmt.Fprintf(c, "%x\r\n%s\r\n", n, buf[:n])
			}
			if err != nil {
				break
			}
		}
		fmt.Fprint(c, "0\r\n\r\n")
		c.untilClosed()
	})
	r := newRig(t, proxy.Options{MaxBody: -1})
	r.route("a.test", p.addr)
	c := dial(t, r.addr)
	began := time.Now()
	c.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
	source, sent := rand.NewChaCha8([32]byte{10}), sha256.New()
	done := make(chan error, 1)
	go func() {
		block := make([]byte, 100_000)
		var err error
		for left := size; left > 0 && err == nil; {
			n := min(left, len(block))
			_, _ = source.Read(block[:n]) // never fails
			sent.Write(block[:n])
			_, err = fmt.Fprintf(c, "%x\r\n%s\r\n", n, block[:n])
			left -= n
		}
		fmt.Fprint(c, "0\r\n\r\n")
		done <- err
	}()
	_ = c.SetReadDeadline(time.Now().Add(3 * patience))
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := sha256.New()
	n, err := io.Copy(got, res.Body)
	if err != nil || n != int64(size) {
		t.Fatalf("%d of %d bytes came back: %v", n, size, err)
	}
	if err := receive(t, "the end of the upload", done); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Error("what came back is not what was sent")
	}
	t.Logf("F10: %d MiB there and back in %s", size>>20, time.Since(began).Round(time.Millisecond))
}

// F10: a client that resets while its upload is held back by the Pod frees the Pod; it does not wait for a stall to be over.
func TestF10ClientResetsWhileHeldBack(t *testing.T) {
	noLeaks(t)
	p := newPod(t, func(c *podConn) {
		_ = c.SetReadBuffer(64 << 10)
		if c.request() != nil {
			<-t.Context().Done()
		}
	})
	r := newRig(t, proxy.Options{MaxBody: -1})
	r.route("a.test", p.addr)
	c := dial(t, r.addr)
	c.send("POST / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: reset\r\nContent-Length: %d\r\n\r\n", int64(1)<<40)
	u := c.upload(1 << 40)
	u.stalls(t)
	began := time.Now()
	c.reset()
	<-u.ended
	if line := r.logged("reset"); line.Status != 499 || line.Reason != "client-gone" {
		t.Errorf("logged as %+v", line)
	}
	t.Logf("F10: the request ended %s after the client's reset", time.Since(began).Round(time.Millisecond))
}
