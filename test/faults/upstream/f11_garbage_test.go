package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// A lie is what a Pod sends in place of an answer. head says that a good head comes before it, so that the client may have that already:
// it then sees a cut answer instead of 502.
type lie struct {
	name string
	text string
	head bool
}

// lies are the ways in which a Pod breaks HTTP.
func lies() []lie {
	const ok = "HTTP/1.1 200 OK\r\n"
	const chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
	const end = "Content-Length: 2\r\n\r\nno"
	return []lie{
		{"TLS alert", "\x15\x03\x01\x00\x02\x02\x16", false},
		{"SSH", "SSH-2.0-OpenSSH_9.6\r\n", false},
		{"HTTP/2 settings", "\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80\x00\x04\x00\x01\x00\x00\x00\x05\x00\xff\xff\xff", false},
		{"SMTP", "220 mail.test ESMTP\r\n", false},
		{"HTTP/0.9", "<html>hello</html>\r\n", false},
		{"zeros", strings.Repeat("\x00", 5000), false},
		{"only line ends", strings.Repeat("\r\n", 100), false},
		{"version 2", "HTTP/2.0 200 OK\r\n" + end, false},
		{"lower-case version", "http/1.1 200 OK\r\n" + end, false},
		{"status of four digits", "HTTP/1.1 2000 OK\r\n" + end, false},
		{"status of two digits", "HTTP/1.1 99 X\r\n" + end, false},
		{"status below 100", "HTTP/1.1 007 X\r\n" + end, false},
		{"no status", "HTTP/1.1 OK\r\n" + end, false},
		{"two spaces", "HTTP/1.1  200 OK\r\n" + end, false},
		{"NUL in the reason", "HTTP/1.1 200 O\x00K\r\n" + end, false},
		{"LF alone", "HTTP/1.1 200 OK\nContent-Length: 2\n\nno", false},
		{"one LF alone", ok + "X: 1\n" + end, false},
		{"CR alone", ok + "X: 1\rY: 2\r\n" + end, false},
		{"NUL in a value", ok + "X: a\x00b\r\n" + end, false},
		{"no colon", ok + "X\r\n" + end, false},
		{"no name", ok + ": x\r\n" + end, false},
		{"space before the colon", ok + "X : 1\r\n" + end, false},
		{"folded first line", ok + " X: 1\r\n" + end, false},
		{"one huge field", ok + "X: " + strings.Repeat("x", 70_000) + "\r\n" + end, false},
		{"many fields", ok + strings.Repeat("X: 1\r\n", 300) + end, false},
		{"two lengths", ok + "Content-Length: 2\r\n" + end, false},
		{"two different lengths", ok + "Content-Length: 3\r\n" + end, false},
		{"signed length", ok + "Content-Length: +2\r\n\r\nno", false},
		{"negative length", ok + "Content-Length: -2\r\n\r\nno", false},
		{"list of lengths", ok + "Content-Length: 2, 2\r\n\r\nno", false},
		{"empty length", ok + "Content-Length:\r\n\r\nno", false},
		{"hexadecimal length", ok + "Content-Length: 0x2\r\n\r\nno", false},
		{"endless length", ok + "Content-Length: 99999999999999999999\r\n\r\nno", false},
		{"coding gzip", ok + "Transfer-Encoding: gzip\r\n\r\nno", false},
		{"coding gzip, chunked", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", false},
		{"coding chunked twice", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"coding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", false},
		{"flood of 100", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 5000), false},
		{"flood of 102", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 5000), false},
		{"large 100", "HTTP/1.1 100 Continue\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 100) + "\r\n" + ok + end, false},
		{"chunk size of no digit", chunked + "zz\r\nno\r\n0\r\n\r\n", true},
		{"negative chunk size", chunked + "-2\r\nno\r\n0\r\n\r\n", true},
		{"chunk size 0x", chunked + "0x2\r\nno\r\n0\r\n\r\n", true},
		{"endless chunk size", chunked + "fffffffffffffffff\r\nno", true},
		{"huge chunk size", chunked + "ffffffffffffffff\r\nno", true},
		{"empty chunk size", chunked + "\r\nno\r\n0\r\n\r\n", true},
		{"LF behind a chunk size", chunked + "2\nno\r\n0\r\n\r\n", true},
		{"no CRLF behind a chunk", chunked + "2\r\nnoXX0\r\n\r\n", true},
		{"broken extension", chunked + "2;=\r\nno\r\n0\r\n\r\n", true},
		{"long extension", chunked + "2;a=" + strings.Repeat("x", 4000) + "\r\nno\r\n0\r\n\r\n", true},
		{"broken trailer", chunked + "2\r\nno\r\n0\r\nX\r\n\r\n", true},
		{"huge trailer", chunked + "2\r\nno\r\n0\r\nX: " + strings.Repeat("x", 70_000) + "\r\n\r\n", true},
	}
}

// Each lie gets 502, or where the head was good a visibly cut answer; the connection is closed; the next request gets its own answer.
func TestF11Garbage(t *testing.T) {
	r := newRig(t, proxy.Options{})
	all := lies()
	// closed gets, for each lie, whether its connection was closed by the proxy, within the time in which the Pod says nothing more.
	closed := make(chan bool, 1)
	p := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) {
		for {
			id, _, body, err := request(in)
			if err != nil {
				return
			}
			k, err := strconv.Atoi(strings.TrimPrefix(id, "lie-"))
			if err != nil {
				if respond(c, "honest", id, body) != nil {
					return
				}
				continue
			}
			_, _ = io.WriteString(c, all[k/2].text)
			_ = c.CloseWrite()
			closed <- untilClosed(c, in)
			return
		}
	})
	r.serve(ready(p.at))
	refused, aborted := 0, 0
	for k := range 2 * len(all) {
		row := all[k/2]
		// Once on a fresh connection, once on one of the pool, which must not make it a reason to repeat a request.
		if k%2 == 0 {
			r.assign(web())
			r.assign(web(), ready(p.at))
		}
		id := fmt.Sprintf("lie-%d", k)
		switch a := r.ask(http.MethodGet, web().host, id); {
		case a.status == http.StatusBadGateway && a.whole():
			refused++
		case row.head && a.status == http.StatusOK && !a.whole():
			aborted++
		default:
			t.Errorf("%s: %s", row.name, a)
		}
		if !<-closed {
			t.Errorf("%s: the connection to the Pod stays open", row.name)
		}
		for _, next := range []string{"a", "b"} {
			id := id + next
			if a := r.ask(http.MethodPost, web().host, id); a.status != http.StatusOK || string(a.body) != id {
				t.Errorf("after %s: %s", row.name, a)
			}
			r.quiet()
		}
	}
	await(t, "every lie is counted", func() bool {
		return r.rejected("upstream-invalid")+r.rejected("upstream-truncated")+r.rejected("upstream-reset") == 2*len(all)
	})
	if n := r.rejected("upstream-invalid"); n < len(all) {
		t.Errorf("%d of %d counted as upstream-invalid", n, 2*len(all))
	}
	t.Logf("F11: %d kinds of garbage, on fresh and on pooled connections: %d times 502, %d aborted, 0 taken for an answer; %d answers after them were right",
		len(all), refused, aborted, 4*len(all))
}

// A flood is what a Pod sends without end.
type flood struct{ name, head, again string }

// Floods are cut: what is read of one and what it costs is bounded, and nothing stays in memory.
func TestF11Floods(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	piece := strings.Repeat("x", 8<<10)
	for _, row := range []flood{
		{"status line", "HTTP/1.1 200 ", piece},
		{"one field", "HTTP/1.1 200 OK\r\nX: ", piece},
		{"fields", "HTTP/1.1 200 OK\r\n", "X: " + piece + "\r\n"},
		{"folded lines", "HTTP/1.1 200 OK\r\nX: 1\r\n", strings.Repeat(" x\r\n", 2<<10)},
		{"interim answers", "", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 400)},
		{"no line end", "", piece},
		{"chunk size", chunked, strings.Repeat("0", 8<<10)},
		{"chunk extension", chunked + "2;a=", piece},
		{"chunks of one byte behind long extensions", chunked, strings.Repeat("1;a="+strings.Repeat("b", 100)+"\r\nx\r\n", 80)},
		{"trailers", chunked + "0\r\n", "X: " + piece + "\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, proxy.Options{})
			var taken atomic.Int64
			p := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) {
				if _, _, _, err := request(in); err != nil {
					return
				}
				_ = c.SetWriteBuffer(4 << 10)
				_ = c.SetWriteDeadline(time.Now().Add(patience))
				n, err := io.WriteString(c, row.head)
				// A proxy that reads on for ever ends here, and fails below.
				for sent := 0; err == nil && sent < maxFlood; sent += n {
					taken.Add(int64(n))
					n, err = io.WriteString(c, row.again)
				}
			})
			r.serve(ready(p.at))
			// The first ones pay for what is pooled.
			r.flooded(10)
			taken.Store(0)
			const requests = 100
			before := memory()
			r.flooded(requests)
			after := memory()
			per := (after.TotalAlloc - before.TotalAlloc) / requests
			grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
			// The client and the Pod allocate here too.
			if per > 512<<10 || grown > 4<<20 {
				t.Errorf("%d bytes allocated for each, %d bytes stay", per, grown)
			}
			if n := taken.Load() / requests; n >= maxFlood/2 {
				t.Errorf("the Pod could send %d bytes", n)
			}
			t.Logf("F11: endless %s: %d requests ended, %d KiB left the Pod (its kernel's buffers included) and %d KiB were allocated for each, heap %+d KiB after all",
				row.name, requests, taken.Load()/requests>>10, per>>10, grown>>10)
		})
	}
}

// maxFlood bounds a flood that nobody ends.
const maxFlood = 64 << 20

// flooded sends n requests, eight at a time, to a Pod that floods. None may get a whole answer but 502.
func (r *rig) flooded(n int) {
	r.t.Helper()
	var tasks sync.WaitGroup
	for worker := range 8 {
		tasks.Go(func() {
			for i := worker; i < n; i += 8 {
				if a := r.ask(http.MethodGet, web().host, fmt.Sprint(i)); a.whole() && a.status != http.StatusBadGateway || isTimeout(a.err) {
					r.t.Errorf("request %d: %s", i, a)
				}
			}
		})
	}
	tasks.Wait()
	await(r.t, "all requests are over", func() bool { return r.engine.Requests() == 0 && r.engine.Connections() == 0 })
}

func memory() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC() // empties what sync.Pool keeps for one cycle
	runtime.ReadMemStats(&m)
	return m
}

// Bytes behind an answer, at once or later on the idle connection, are never taken for the answer to another request.
func TestF11BytesBehindAnswer(t *testing.T) {
	const poison = "HTTP/1.1 200 OK\r\nX-Id: poison\r\nContent-Length: 6\r\n\r\npoison"
	for _, row := range []struct {
		name, text string
		body       int // length of the right answer
		later      bool
	}{
		{"an answer at once", poison, 10, false},
		{"an answer at once, behind a long one", poison, 200_000, false},
		{"one byte at once", "x", 10, false},
		{"more than was announced", strings.Repeat("x", 100_000), 10, false},
		{"an answer later", poison, 10, true},
		{"one byte later", "x", 10, true},
		{"408 later, as servers do", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", 10, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, proxy.Options{})
			idle, sent := make(chan struct{}), make(chan struct{})
			p := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) {
				for {
					id, _, body, err := request(in)
					if err != nil {
						return
					}
					if row.later {
						if respond(c, "liar", id, body) != nil {
							return
						}
						select {
						case <-idle:
						case <-time.After(patience):
							return
						}
						_, _ = io.WriteString(c, row.text)
						sent <- struct{}{}
						continue
					}
					answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%*s", id, row.body, row.body, id)
					if _, err := io.WriteString(c, answer+row.text); err != nil {
						return
					}
				}
			})
			r.serve(ready(p.at))
			const requests = 30
			for i := range requests {
				id := fmt.Sprintf("id-%d", i)
				if a := r.ask(http.MethodPost, web().host, id); a.status != http.StatusOK || strings.TrimSpace(string(a.body)) != id || a.header.Get("X-Id") != id || !a.whole() {
					t.Fatalf("request %d: %s", i, a)
				}
				r.quiet()
				if row.later {
					idle <- struct{}{}
					<-sent
				}
			}
			if n, _ := p.connections(); n != requests {
				t.Errorf("%d connections for %d requests: one was used again", n, requests)
			}
			if n := r.events.stales.Load(); row.later && n != requests-1 {
				t.Errorf("%d connections found with bytes on them, want %d", n, requests-1)
			}
			t.Logf("F11: %s: %d requests, each got its own answer on a connection of its own", row.name, requests)
		})
	}
}
