//go:build !race

package http1_test

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
)

// Invariant (6): no input makes the codec allocate more than its buffers, nor take more than linear time. Under the race detector
// sync.Pool drops values at random, and there are no budgets.

// stream is a connection on which head arrives, then piece again and again, up to size bytes, in reads of at most step bytes.
type stream struct {
	net.Conn
	head, piece string
	size, step  int
	read        int
	left        string
}

func (s *stream) Read(b []byte) (int, error) {
	if s.read >= s.size {
		return 0, io.EOF
	}
	if s.left == "" {
		if s.left = s.piece; s.read == 0 {
			s.left = s.head
		}
		if s.left == "" {
			s.left = s.piece
		}
	}
	n := copy(b[:min(len(b), s.step)], s.left)
	s.left = s.left[n:]
	s.read += n
	return n, nil
}

func (s *stream) Write(b []byte) (int, error)      { return len(b), nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// endless are requests that never end, each in another part of them.
var endless = map[string]struct{ head, piece string }{
	"empty lines":     {"", "\r\n"},
	"method":          {"", "A"},
	"target":          {"GET /", "a"},
	"version":         {"GET / HTTP/1.1", "1"},
	"name":            {"GET / HTTP/1.1\r\nHost: a\r\n", "X"},
	"value":           {"GET / HTTP/1.1\r\nHost: a\r\nX: ", "v"},
	"spaces":          {"GET / HTTP/1.1\r\nHost: a\r\nX:", " "},
	"fields":          {"GET / HTTP/1.1\r\nHost: a\r\n", "X: y\r\n"},
	"dropped fields":  {"GET / HTTP/1.1\r\nHost: a\r\n", "X_Y: z\r\n"},
	"options":         {"GET / HTTP/1.1\r\nHost: a\r\nConnection: ", "a,"},
	"length":          {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ", "1"},
	"codings":         {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ", "gzip,"},
	"body":            {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000000\r\n\r\n", "x"},
	"chunk size":      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0"},
	"chunk extension": {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1", ";a"},
	"chunk":           {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n", "x"},
	"chunks":          {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"},
	"large chunks":    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1000\r\n" + strings.Repeat("x", 0x1000) + "\r\n"},
	"trailers":        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"},
	"trailer":         {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", "y"},
	"requests":        {"", "GET /a/b/c HTTP/1.1\r\nHost: a\r\n\r\n"},
	"paths":           {"", "GET /" + strings.Repeat("a/../", 1500) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
}

// endlessAnswers are the same for Pods.
var endlessAnswers = map[string]struct{ head, piece string }{
	"version":  {"", "H"},
	"reason":   {"HTTP/1.1 200 ", "x"},
	"name":     {okAnswer, "X"},
	"value":    {okAnswer + "X: ", "v"},
	"fields":   {okAnswer, "X: y\r\n"},
	"folds":    {okAnswer + "X: y\r\n", " z\r\n"},
	"options":  {okAnswer + "Connection: ", "a,"},
	"body":     {okAnswer + "\r\n", "x"},
	"chunks":   {okAnswer + "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"},
	"trailers": {okAnswer + "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"},
	"interims": {"", "HTTP/1.1 102 x\r\nX: y\r\n\r\n"},
}

const okAnswer = "HTTP/1.1 200 OK\r\n"

// consume reads requests and their bodies until the end or the first refusal.
func consume(conn net.Conn) {
	s := http1.NewServer(conn, http1.Limits{}, new(http1.Clock))
	defer s.Close()
	x := exchange.New()
	defer x.Release()
	for s.ReadRequest(x) == nil && x.Validate() == nil {
		if pull(x.Request.Body) != nil {
			return
		}
		s.Next()
	}
}

// consumeAnswers reads answers and their bodies until the end or the first that is invalid.
func consumeAnswers(conn net.Conn) {
	c := http1.NewClient(conn, http1.Limits{})
	defer c.Close()
	x := exchange.New()
	defer x.Release()
	x.Request.Method = []byte("GET")
	for c.ReadResponse(x) == nil && pull(x.Response.Body) == nil {
	}
}

// pull reads a body and keeps nothing of it.
func pull(b exchange.Body) error {
	for b != nil {
		if _, err := b.Next(); err == io.EOF { //nolint:errorlint // a Body returns it bare
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// allocated is the least number of bytes that f allocates in some runs: what pools lose between them is not f's.
func allocated(f func()) uint64 {
	least := ^uint64(0)
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// TestMemoryIsBounded: a megabyte of anything costs no more memory than the buffers in which one head of the largest size arrives: of 32
// KiB and then of 40 for a request, of 32 and then of 64 for an answer.
func TestMemoryIsBounded(t *testing.T) {
	const size, most = 1 << 20, 104 << 10
	for name, e := range endless {
		if n := allocated(func() { consume(&stream{head: e.head, piece: e.piece, size: size, step: 4096}) }); n > most {
			t.Errorf("request, %s: %d bytes are allocated", name, n)
		}
	}
	for name, e := range endlessAnswers {
		if n := allocated(func() { consumeAnswers(&stream{head: e.head, piece: e.piece, size: size, step: 4096}) }); n > most {
			t.Errorf("answer, %s: %d bytes are allocated", name, n)
		}
	}
}

// TestTimeIsLinear: input that is sixteen times as long, and comes in small reads, takes about sixteen times as long. The measure is
// generous, and still far from what one pass over everything for each read would take.
func TestTimeIsLinear(t *testing.T) {
	const small, factor, most = 2 << 10, 16, 16 * 5
	least := func(f func()) time.Duration {
		best := time.Hour
		for range 7 {
			start := time.Now()
			f()
			best = min(best, time.Since(start))
		}
		return best
	}
	try := func(run func(size int)) float64 {
		return float64(least(func() { run(small * factor) })) / float64(least(func() { run(small) })+time.Microsecond)
	}
	check := func(name string, run func(size int)) {
		t.Helper()
		var ratio float64
		for range 5 { // somebody else may have had the processor
			if ratio = try(run); ratio <= most {
				return
			}
		}
		t.Errorf("%s: %d times the input takes %.0f times as long", name, factor, ratio)
	}
	for name, e := range endless {
		check("request, "+name, func(size int) {
			consume(&stream{head: e.head, piece: strings.Repeat(e.piece, 1+8/len(e.piece)), size: size, step: 8})
		})
	}
	for name, e := range endlessAnswers {
		check("answer, "+name, func(size int) {
			consumeAnswers(&stream{head: e.head, piece: strings.Repeat(e.piece, 1+8/len(e.piece)), size: size, step: 8})
		})
	}
}

// TestStreamGivesWhatItSays keeps the tests above honest: the codec does read on where it must.
func TestStreamGivesWhatItSays(t *testing.T) {
	all, err := io.ReadAll(&stream{head: "head ", piece: "ab", size: 20, step: 3})
	if err != nil || !bytes.HasPrefix(all, []byte("head abababab")) || len(all) < 20 {
		t.Errorf("%q, %v", all, err)
	}
	for name, want := range map[string]int{"body": 1 << 20, "chunks": 1 << 20, "requests": 1 << 20, "value": 32 << 10, "empty lines": 6} {
		e := endless[name]
		s := &stream{head: e.head, piece: e.piece, size: 1 << 20, step: 16}
		if consume(s); s.read < want || want < 1<<20 && s.read > want+10_000 {
			t.Errorf("%s: %d bytes were read, want about %d", name, s.read, want)
		}
	}
}
