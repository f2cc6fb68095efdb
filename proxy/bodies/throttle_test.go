package bodies

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// A throttled answer has sent at no time more than it may, and is as fast as it may be.
func TestThrottleKeepsTheRate(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name        string
		t           Throttle
		size, piece int
		want        time.Duration
	}{
		{"one second's bytes are free", Throttle{PerSecond: 1000}, 1000, 100, 0},
		{"then the rate holds", Throttle{PerSecond: 1000}, 5000, 100, 4 * time.Second},
		{"pieces larger than a second's bytes", Throttle{PerSecond: 1000}, 20_000, 16 << 10, 19 * time.Second},
		{"after", Throttle{PerSecond: 1000, After: 10_000}, 12_000, 700, time.Second},
		{"no more than after", Throttle{PerSecond: 1, After: 10_000}, 10_000, 700, 0},
		{"one byte a second", Throttle{PerSecond: 1}, 4, 4, 3 * time.Second},
		{"a rate that is no multiple of anything", Throttle{PerSecond: 1024 * 3}, 1 << 20, 4096, 340333 * time.Millisecond},
		{"more than the source has in years", Throttle{PerSecond: math.MaxInt64}, 1 << 20, 4096, 0},
		{"an after beyond all bytes", Throttle{PerSecond: 1, After: math.MaxInt64}, 1 << 20, 4096, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				data := bytes.Repeat([]byte("0123456789abcdef"), row.size/16+1)[:row.size]
				start := time.Now()
				b := row.t.body(&script{pieces: cut(data, row.piece)}, start)
				var got []byte
				for {
					for wait := b.Wait(); wait > 0; wait = b.Wait() {
						time.Sleep(wait)
					}
					p, err := b.Next()
					if err != nil {
						break
					}
					got = append(got, p...)
					if may := float64(row.t.After) + float64(row.t.PerSecond)*(time.Since(start).Seconds()+1); float64(len(got)) > may {
						t.Fatalf("%d bytes after %v, may be %.0f", len(got), time.Since(start), may)
					}
				}
				if !bytes.Equal(got, data) {
					t.Errorf("%d bytes, not those of the source", len(got))
				}
				// The clock of the test is exact: the wait for one part is what the end may miss.
				part := max(time.Second/quanta, time.Second/time.Duration(row.t.PerSecond))
				if took := time.Since(start); took < row.want || took > row.want+part+time.Millisecond {
					t.Errorf("took %v, want %v", took, row.want)
				}
			})
		})
	}
}

// A source that was slow may be made up for, as nginx has it: the rate is that of the whole answer.
func TestThrottleCountsFromTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		time.Sleep(9 * time.Second) // until the Pod has answered
		b := Throttle{PerSecond: 1000}.body(&script{pieces: [][]byte{make([]byte, 64<<10)}}, start)
		n := 0
		for b.Wait() == 0 {
			p, err := b.Next()
			if err != nil {
				t.Fatal(err)
			}
			n += len(p)
		}
		if n != 10_000 {
			t.Errorf("%d bytes at once, want 10,000", n)
		}
	})
}

// Who does not wait gets bytes all the same, a part at a time, and owes the time.
func TestThrottleWithoutWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := Throttle{PerSecond: 1000}.body(&script{pieces: [][]byte{make([]byte, 3000)}}, time.Now())
		if got := readAll(t, b); len(got) != 3000 {
			t.Errorf("%d bytes", len(got))
		}
		if wait := b.Wait(); wait < 2*time.Second || wait > 2200*time.Millisecond {
			t.Errorf("then waits %v, want 2 s and a part", wait)
		}
	})
}

func TestThrottlePassesOnWhatTheSourceSays(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	waits := &script{pieces: [][]byte{[]byte("ab")}, err: broken, long: 7, ready: func(int) bool { return false }}
	b := Throttle{PerSecond: 1}.body(waits, time.Now())
	if b.Length() != 7 {
		t.Errorf("length %d, want 7", b.Length())
	}
	if b.Ready() {
		t.Error("ready although the source is not")
	}
	if p, err := b.Next(); err != nil || string(p) != "a" {
		t.Fatalf("%q %v", p, err)
	}
	if !b.Ready() {
		t.Error("not ready although a byte is left")
	}
	if p, err := b.Next(); err != nil || string(p) != "b" {
		t.Fatalf("%q %v", p, err)
	}
	if p, err := b.Next(); !errors.Is(err, broken) || p != nil {
		t.Errorf("%q %v, want the source's error", p, err)
	}
}

// The end of an answer whose length is known comes with its last byte.
func TestThrottleDoesNotWaitForTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := Throttle{PerSecond: 5}.body(&script{pieces: [][]byte{make([]byte, 5)}, long: 5}, time.Now())
		if p, err := b.Next(); err != nil || len(p) != 5 {
			t.Fatalf("%d bytes, %v", len(p), err)
		}
		if wait := b.Wait(); wait != 0 {
			t.Errorf("waits %v", wait)
		}
	})
}

func TestThrottleFilter(t *testing.T) {
	t.Parallel()
	x := exchange.New()
	defer x.Release()
	Throttle{PerSecond: 1}.FilterResponse(x)
	if x.Response.Body != nil {
		t.Error("an answer without a body got one")
	}
	source := &script{}
	for _, t0 := range []Throttle{{}, {PerSecond: -1}, {After: 10}} {
		x.Response.Body = source
		if t0.FilterResponse(x); x.Response.Body != exchange.Body(source) {
			t.Errorf("%+v wraps a body", t0)
		}
	}
	Throttle{PerSecond: 1}.FilterResponse(x)
	if _, paced := x.Response.Body.(exchange.Paced); !paced {
		t.Error("the body is not paced")
	}
}

func TestThrottleCostsOneAllocation(t *testing.T) {
	x := exchange.New()
	defer x.Release()
	piece := make([]byte, 4096)
	source := &script{pieces: [][]byte{piece, piece}, buf: make([]byte, 0, 4096)}
	if n := testing.AllocsPerRun(100, func() {
		source.at = 0
		x.Response.Body = source
		Throttle{PerSecond: 1 << 20, After: 1 << 30}.FilterResponse(x)
		for {
			if _, err := x.Response.Body.Next(); err != nil {
				break
			}
		}
	}); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}
