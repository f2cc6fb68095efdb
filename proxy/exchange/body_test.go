package exchange

import (
	"io"
	"slices"
	"testing"
)

// closer notes its name when it is closed, and then does what else it is told.
type closer struct {
	name   string
	closed *[]string
	also   func()
}

func (c closer) Close() error {
	*c.closed = append(*c.closed, c.name)
	if c.also != nil {
		c.also()
	}
	return io.ErrClosedPipe // nobody's concern
}

func TestOwnedIsClosedOnceInReverse(t *testing.T) {
	var closed []string
	x := New()
	x.Own(closer{name: "a", closed: &closed})
	x.Own(closer{name: "b", closed: &closed})
	x.End()
	x.Own(closer{name: "c", closed: &closed})
	x.Release()
	if want := []string{"b", "a", "c"}; !slices.Equal(closed, want) {
		t.Errorf("closed %q, want %q", closed, want)
	}
	// What a pooled Exchange keeps is memory, and nothing of the exchange before.
	y := New()
	y.Own(closer{name: "d", closed: &closed})
	y.Release()
	if len(closed) != 4 || closed[3] != "d" {
		t.Errorf("closed %q", closed)
	}
}

func TestEndAfterAPanicClosesTheRest(t *testing.T) {
	var closed []string
	x := New()
	x.Own(closer{name: "a", closed: &closed})
	x.Own(closer{name: "b", closed: &closed, also: func() { panic("a bug") }})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		x.End()
	}()
	x.End()
	if want := []string{"b", "a"}; !slices.Equal(closed, want) {
		t.Errorf("closed %q, want %q", closed, want)
	}
}

func TestOwnAllocatesNothingInAPooledExchange(t *testing.T) {
	var c io.Closer = io.NopCloser(nil)
	x := new(Exchange)
	run := func() {
		x.Own(c)
		x.End()
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// wrapped is a Body that says nothing of its readiness.
type wrapped struct{ Body }

func TestReady(t *testing.T) {
	text := &Text{S: "x"}
	if !Ready(text) {
		t.Error("a text is not ready")
	}
	if Ready(wrapped{text}) {
		t.Error("a Body that cannot tell is taken for ready")
	}
}
