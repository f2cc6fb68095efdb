package bodies

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"

	"podlane.dev/podlane/proxy/exchange"
)

// kinds are the codings with a reader of each, gzip's not of the package that writes.
var kinds = map[string]func(io.Reader) (io.Reader, error){
	"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	"br":   func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
}

// compress makes body the body of an answer to a client that takes one coding.
func compress(t testing.TB, c *Compression, coding string, body exchange.Body) *exchange.Exchange {
	t.Helper()
	a := plain(coding)
	a.body = body
	x := a.exchange(t)
	if c.FilterResponse(x); all(&x.Response.Fields, "Content-Encoding") != coding {
		t.Fatalf("the answer is not coded as %s", coding)
	}
	return x
}

func decode(t testing.TB, coding string, p []byte) []byte {
	t.Helper()
	r, err := kinds[coding](bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(got), err)
	}
	return got
}

// prose is text of a kind that compresses like JSON, and noise what does not at all.
func prose(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"name":"item-%x","price":%d.%02d,"tags":["a%d","b%d"]},`, i*7919, uint32(i)*2654435761, i%977, i%100, i%13, i%29)
	}
	return b.Bytes()[:n]
}

func noise(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{7})
	_, _ = r.Read(p)
	return p
}

func TestCodedBodiesDecode(t *testing.T) {
	c := both(t)
	sources := map[string][]byte{"prose": prose(150_000), "noise": noise(100_000), "zeros": make([]byte, 1<<20), "one byte": {'x'}}
	for coding := range kinds {
		for name, data := range sources {
			for _, piece := range []int{1, 100, 4096, 16 << 10, 64 << 10, 4 << 20} {
				data := data
				if piece < 100 {
					data = data[:min(len(data), 5000)]
				}
				for _, ready := range []bool{true, false} {
					s := &script{pieces: cut(data, piece), ready: func(int) bool { return ready }}
					x := compress(t, c, coding, s)
					got := readAll(t, x.Response.Body)
					if !bytes.Equal(decode(t, coding, got), data) {
						t.Errorf("%s of %s in pieces of %d, ready %v: not what went in", coding, name, piece, ready)
					}
				}
			}
		}
		// A body of unknown length may turn out to have none.
		if got := decode(t, coding, readAll(t, compress(t, c, coding, &script{}).Response.Body)); len(got) != 0 {
			t.Errorf("%s of nothing gives %d bytes", coding, len(got))
		}
	}
	if n := c.Active(); n != 0 {
		t.Errorf("%d answers are still being compressed", n)
	}
}

// What has come can be read before the source is asked for more, where asking would wait: event streams are not held back.
func TestNothingIsHeldBack(t *testing.T) {
	c := both(t)
	for coding := range kinds {
		t.Run(coding, func(t *testing.T) {
			var events [][]byte
			for i := range 50 {
				events = append(events, fmt.Appendf(nil, "data: %d\n\n", i))
			}
			// Events come in bursts of three.
			s := &script{pieces: events, ready: func(next int) bool { return next%3 != 0 }}
			x := compress(t, c, coding, s)
			pr, pw := io.Pipe()
			defer func() { _ = pr.Close() }()
			seen := make(chan []byte, len(events))
			go func() {
				r, err := kinds[coding](pr)
				for err == nil {
					buf := make([]byte, 4096)
					var n int
					n, err = r.Read(buf)
					seen <- buf[:n]
				}
				close(seen)
			}()
			var got []byte
			for {
				p, err := x.Response.Body.Next()
				if err != nil {
					break
				}
				if _, err := pw.Write(p); err != nil {
					t.Fatal(err)
				}
				if s.at == len(events) {
					continue // a reader of gzip looks behind the end for more before it gives out the last bytes
				}
				// All that the source gave must come out of the decoder without another call of Next.
				want := bytes.Join(events[:s.at], nil)
				for len(got) < len(want) {
					got = append(got, <-seen...)
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("after %d events: %q", s.at, got)
				}
				if s.at%3 != 0 {
					t.Fatalf("left after %d events although more was there", s.at)
				}
			}
			_ = pw.Close()
			for p := range seen {
				got = append(got, p...)
			}
			if len(got) != len(bytes.Join(events, nil)) {
				t.Error("events are missing")
			}
		})
	}
}

// While more is there, the encoder is left to gather: only then does it find repetitions.
func TestReadySourceIsNotFlushed(t *testing.T) {
	c := both(t)
	data := prose(256 << 10)
	for coding := range kinds {
		size := func(ready bool) int {
			s := &script{pieces: cut(data, 1<<10), ready: func(int) bool { return ready }}
			return len(readAll(t, compress(t, c, coding, s).Response.Body))
		}
		gathered, flushed := size(true), size(false)
		t.Logf("%s of %d bytes in pieces of 1 KiB: %d gathered, %d flushed", coding, len(data), gathered, flushed)
		if flushed < gathered+gathered/20 {
			t.Errorf("%s: %d bytes where more was there, %d where not", coding, gathered, flushed)
		}
	}
}

func TestBrokenSource(t *testing.T) {
	broken := errors.New("broken")
	c := both(t)
	for coding := range kinds {
		x := compress(t, c, coding, &script{pieces: [][]byte{prose(1000)}, err: broken})
		if _, err := pullAll(x.Response.Body); !errors.Is(err, broken) {
			t.Errorf("%s: %v, want the source's error", coding, err)
		}
		if n := c.Active(); n != 0 {
			t.Errorf("%s: %d answers are still being compressed", coding, n)
		}
	}
}

// A body that nobody reads to its end gives its encoder back with the exchange, once.
func TestAbandonedBodyGivesItsEncoderBack(t *testing.T) {
	c := both(t)
	for coding := range kinds {
		for _, pulls := range []int{0, 1} {
			x := compress(t, c, coding, &script{pieces: cut(prose(1<<20), 4096), ready: func(int) bool { return false }})
			body := x.Response.Body
			for range pulls {
				if _, err := body.Next(); err != nil {
					t.Fatal(err)
				}
			}
			if c.Active() != 1 {
				t.Fatalf("%d answers are being compressed", c.Active())
			}
			x.End()
			x.End()
			if c.Active() != 0 {
				t.Fatalf("%d answers are still being compressed", c.Active())
			}
			if _, err := body.Next(); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("a body that was given up goes on: %v", err)
			}
		}
	}
}

// Beyond the number of encoders answers leave as they came.
func TestEncodersAreLimited(t *testing.T) {
	c := newCompression(t, CompressionSettings{Gzip: &Coding{Level: 1, Types: []string{"text/plain"}}, Encoders: 2})
	first, second := plain("gzip").exchange(t), plain("gzip").exchange(t)
	c.FilterResponse(first)
	c.FilterResponse(second)
	third := plain("gzip")
	third.fields = append(third.fields, "Content-Length: 6000", `ETag: "a"`)
	x := third.exchange(t)
	c.FilterResponse(x)
	f := &x.Response.Fields
	if _, wraps := x.Response.Body.(*encoded); wraps || all(f, "Content-Length") != "6000" || all(f, "ETag") != `"a"` || all(f, "Vary") != "Accept-Encoding" {
		t.Errorf("the third is coded %v, with %q %q", wraps, all(f, "Content-Length"), all(f, "ETag"))
	}
	first.End()
	c.FilterResponse(x)
	if _, wraps := x.Response.Body.(*encoded); !wraps {
		t.Error("an encoder that was given back is not used")
	}
}

// One filter serves all routes at once.
func TestCompressionIsShared(t *testing.T) {
	c := both(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			data := prose(20_000 + i)
			for range 20 {
				for coding := range kinds {
					a := plain(coding)
					a.body = &script{pieces: cut(data, 3000), ready: func(next int) bool { return next%2 == 0 }}
					x := a.exchange(t)
					c.FilterResponse(x)
					if i%2 == 0 {
						_, _ = x.Response.Body.Next()
						x.End()
						continue
					}
					if got := decode(t, coding, readAll(t, x.Response.Body)); !bytes.Equal(got, data) {
						t.Error("an answer holds what is not its own")
					}
				}
			}
		})
	}
	all.Wait()
	if c.Active() != 0 {
		t.Errorf("%d answers are still being compressed", c.Active())
	}
}

// An encoder of any level has a bound.
func TestEncoderMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own, and makes brotli's best levels take a minute")
	}
	data := append(prose(384<<10), noise(128<<10)...)
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what a pool holds lives for two
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for level := range 12 {
		for coding := range kinds {
			s := CompressionSettings{Brotli: &Coding{Level: level, Types: []string{"text/plain"}}}
			if coding == "gzip" {
				s = CompressionSettings{Gzip: &Coding{Level: level, Types: []string{"text/plain"}}}
			}
			c, err := NewCompression(s)
			if err != nil {
				continue
			}
			x := compress(t, c, coding, &script{pieces: cut(data, 16<<10), buf: make([]byte, 16<<10)})
			before, pulled, most := heap(), 0, int64(0)
			for {
				p, err := x.Response.Body.Next()
				if err != nil {
					break
				}
				if pulled++; pulled%4 == 0 {
					most = max(most, heap()-before)
				}
				if cap(p) > 512<<10 {
					t.Errorf("%s %d gives out %d bytes at once", coding, level, cap(p))
				}
			}
			t.Logf("%s %d: %d KiB", coding, level, most>>10)
			if most > 4<<20 || coding == "gzip" && most > 2<<20 {
				t.Errorf("%s %d holds %d KiB", coding, level, most>>10)
			}
			x.End()
		}
	}
}

func TestCompressionAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop objects at random")
	}
	c := both(t)
	data := prose(16 << 10)
	for coding := range kinds {
		x := plain(coding).exchange(t)
		source := &script{buf: make([]byte, 16<<10)}
		run := func() {
			x.Response.Fields.Reset(nil)
			x.Response.Fields.AddString("Content-Type", "text/plain")
			source.pieces, source.at = append(source.pieces[:0], data), 0
			x.Response.Body = source
			c.FilterResponse(x)
			for {
				if _, err := x.Response.Body.Next(); err != nil {
					break
				}
			}
			x.End()
		}
		for range 5 {
			run()
		}
		// The body itself; brotli's encoder has some of its own.
		if n := testing.AllocsPerRun(50, run); n > 4 || coding == "gzip" && n > 1 {
			t.Errorf("%s: %v allocations", coding, n)
		}
	}
}

func BenchmarkCompression(b *testing.B) {
	data := prose(1 << 20)
	for _, row := range []struct {
		coding string
		level  int
		total  int
		ready  bool
	}{
		{"gzip", 1, 1 << 20, true}, {"gzip", 1, 1 << 20, false}, {"gzip", 1, 8 << 10, true}, {"gzip", 5, 1 << 20, true},
		{"br", 4, 1 << 20, true}, {"br", 4, 1 << 20, false}, {"br", 4, 8 << 10, true},
	} {
		b.Run(fmt.Sprintf("%s/%d/%dKiB/ready=%v", row.coding, row.level, row.total>>10, row.ready), func(b *testing.B) {
			settings := CompressionSettings{Gzip: &Coding{Level: max(row.level, 1), Types: []string{"text/plain"}}}
			if row.coding == "br" {
				settings = CompressionSettings{Brotli: &Coding{Level: row.level, Types: []string{"text/plain"}}}
			}
			c := newCompression(b, settings)
			x := plain(row.coding).exchange(b)
			pieces := cut(data[:row.total], 16<<10)
			n := 0
			b.SetBytes(int64(row.total))
			b.ReportAllocs()
			for b.Loop() {
				x.Response.Fields.Reset(nil)
				x.Response.Fields.AddString("Content-Type", "text/plain")
				x.Response.Body = &script{pieces: pieces, ready: func(int) bool { return row.ready }}
				c.FilterResponse(x)
				n = 0
				for {
					p, err := x.Response.Body.Next()
					if err != nil {
						break
					}
					n += len(p)
				}
				x.End()
			}
			b.ReportMetric(float64(row.total)/float64(n), "ratio")
		})
	}
}
