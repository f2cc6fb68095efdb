package tracing_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/tracing"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// The examples of W3C Trace Context, and what it says must be ignored.
func TestParseParent(t *testing.T) {
	for text, want := range map[string]bool{
		parent: true,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00":       true,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff":       true,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":       true,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later": true,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.later": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1":        false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x":       false,
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":       false,
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01":       false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":       false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01":       false,
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":       false,
		"0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":       false,
		"": false,
	} {
		c, ok := tracing.ParseParent([]byte(text))
		if ok != want {
			t.Errorf("%q: %v, want %v", text, ok, want)
		}
		if !ok && c != (exchange.TraceContext{}) {
			t.Errorf("%q gives %v", text, c)
		}
	}
	c, _ := tracing.ParseParent([]byte(parent))
	if got := string(c.AppendParent(nil)); got != parent {
		t.Errorf("%s came back as %s", parent, got)
	}
	c.Sampled = false
	if got, want := string(c.AppendParent(nil)), parent[:len(parent)-1]+"0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzParent(f *testing.F) {
	f.Add([]byte(parent))
	f.Add([]byte("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later"))
	f.Fuzz(func(t *testing.T, value []byte) {
		c, ok := tracing.ParseParent(value)
		if !ok {
			return
		}
		back := c.AppendParent(nil)
		// Version and the other flags are ours; the IDs are not.
		if len(value) < len(back) || !bytes.Equal(back[2:53], value[2:53]) {
			t.Errorf("%q came back as %q", value, back)
		}
		if again, ok := tracing.ParseParent(back); !ok || again != c {
			t.Errorf("%q is read as %v", back, again)
		}
	})
}

func TestSampler(t *testing.T) {
	sampled := exchange.TraceContext{TraceID: [16]byte{1}, SpanID: [8]byte{1}, Sampled: true}
	unsampled := sampled
	unsampled.Sampled = false
	none := exchange.TraceContext{}
	for _, c := range []struct {
		sampler tracing.Sampler
		parent  exchange.TraceContext
		want    bool
	}{
		{tracing.Sampler{}, none, true},
		{tracing.Sampler{}, unsampled, true},
		{tracing.Sampler{Rule: tracing.Never}, sampled, false},
		{tracing.Sampler{Rule: tracing.Never, ParentBased: true}, sampled, true},
		{tracing.Sampler{Rule: tracing.Never, ParentBased: true}, none, false},
		{tracing.Sampler{ParentBased: true}, unsampled, false},
		{tracing.Sampler{Rule: tracing.Ratio, Share: 1}, none, true},
		{tracing.Sampler{Rule: tracing.Ratio}, none, false},
	} {
		if got := c.sampler.Samples(c.parent, [16]byte{8: 0xff, 9: 0xff, 10: 0xff}); got != c.want {
			t.Errorf("%v with parent %v: %v", c.sampler, c.parent, got)
		}
	}
	// A quarter of many; by the ID alone.
	quarter := tracing.Sampler{Rule: tracing.Ratio, Share: 0.25}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	taken := 0
	for range 20_000 {
		var id [16]byte
		for i := range id {
			id[i] = byte(random.Uint32())
		}
		if quarter.Samples(none, id) {
			taken++
		}
	}
	if taken < 4_700 || taken > 5_300 {
		t.Errorf("%d of 20000, want a quarter", taken)
	}
}
