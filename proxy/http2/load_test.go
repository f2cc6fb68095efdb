package http2_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/proxy/http2"
)

// The load comes from a process of its own, which TestMain becomes when this variable holds an address, so that what getrusage says of
// the test's process is the server's alone.
const loadEnv = "PODLANE_H2_LOAD"

const (
	loadConns   = 16
	loadStreams = 16
)

// loadMain sends requests to the address in the variable, as many as its second word says, and prints nothing.
func loadMain(what string) int {
	addr, count, _ := strings.Cut(what, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return 2
	}
	var all sync.WaitGroup
	failed := make(chan error, loadConns)
	for range loadConns {
		all.Go(func() {
			if err := load(addr, n/loadConns); err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		fmt.Fprintln(os.Stderr, err)
		return 1
	default:
		return 0
	}
}

// requestBlocks returns the header block of the first request of a connection, and that of all that follow: every field is in the
// dynamic table then.
func requestBlocks() (first, next []byte) {
	var sink strings.Builder
	e := hpack.NewEncoder(&sink)
	write := func() []byte {
		sink.Reset()
		for _, f := range [][2]string{
			{":method", "GET"}, {":scheme", "http"}, {":authority", "www.example.com"}, {":path", "/static/app.js?v=3"},
			{"user-agent", "Mozilla/5.0 (X11; Linux x86_64)"}, {"accept", "*/*"}, {"accept-encoding", "gzip, deflate, br"},
			{"accept-language", "en"}, {"cookie", "session=0123456789abcdef; theme=dark"}, {"referer", "https://www.example.com/"},
		} {
			_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		return []byte(sink.String())
	}
	return write(), write()
}

func appendHeaders(dst []byte, id uint32, block []byte) []byte {
	n := len(block)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), 1, 5, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	return append(dst, block...)
}

// load makes n requests on one connection, loadStreams at a time. It reads no more of the answers than it must.
func load(addr string, n int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	first, next := requestBlocks()
	out := []byte(xhttp2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	out = append(out, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0x3f, 0, 0, 0)
	id, sent, done := uint32(1), 0, 0
	for ; sent < min(loadStreams, n); sent++ {
		block := next
		if sent == 0 {
			block = first
		}
		out = appendHeaders(out, id, block)
		id += 2
	}
	in := make([]byte, 64<<10)
	r, w := 0, 0
	for {
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
		if done == n {
			return nil
		}
		w = copy(in, in[r:w])
		r = 0
		m, err := c.Read(in[w:])
		if err != nil {
			return fmt.Errorf("after %d of %d: %w", done, n, err)
		}
		w += m
		for w-r >= 9 {
			length := int(in[r])<<16 | int(in[r+1])<<8 | int(in[r+2])
			if w-r < 9+length {
				break
			}
			typ, flags := in[r+3], in[r+4]
			switch {
			case typ <= 1 && flags&1 != 0:
				if done++; sent < n {
					out = appendHeaders(out, id, next)
					id += 2
					sent++
				}
			case typ == 4 && flags&1 == 0:
				out = append(out, 0, 0, 0, 4, 1, 0, 0, 0, 0)
			case typ == 3, typ == 7:
				return fmt.Errorf("frame %d with code %d", typ, binary.BigEndian.Uint32(in[r+9+length-4:]))
			}
			r += 9 + length
		}
	}
}

// cost is the CPU time of this process for n requests that another one makes.
func cost(t testing.TB, addr string, n int) time.Duration {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", loadEnv, addr, n))
	before := cpu(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("load: %v\n%s", err, out)
	}
	return cpu(t) - before
}

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// netHTTP serves the same answer with x/net's server.
func netHTTP(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "hello")
	})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				(&xhttp2.Server{}).ServeConn(c, &xhttp2.ServeConnOpts{Handler: handler}) //nolint:staticcheck // it is what we compare with
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// TestCost prints what a request costs, beside x/net's server in the same run. It holds no more than that ours is not dearer.
func TestCost(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("a measurement")
	}
	const n = 64_000
	ours, theirs := newServer(t, http2.Options{}, hello).listen(t), netHTTP(t)
	cost(t, ours, n/10)
	cost(t, theirs, n/10)
	var a, b time.Duration
	for range 3 {
		a += cost(t, ours, n)
		b += cost(t, theirs, n)
	}
	perRequest := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / (3 * n) }
	t.Logf("CPU per request, %d connections x %d streams: ours %.2f µs, x/net %.2f µs, ratio %.2f",
		loadConns, loadStreams, perRequest(a), perRequest(b), float64(a)/float64(b))
	if a > b {
		t.Errorf("ours costs more than x/net's server")
	}
}
