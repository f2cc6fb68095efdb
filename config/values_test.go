package config_test

import (
	"testing"
	"time"

	"github.com/spf13/pflag"

	"podlane.dev/podlane/config"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]struct {
		bytes config.Size
		text  string
	}{
		"0": {0, "0"}, "1": {1, "1"}, "1000": {1000, "1000"}, "1024": {1024, "1k"}, "8k": {8 << 10, "8k"}, "8K": {8 << 10, "8k"},
		"1m": {1 << 20, "1m"}, "1024m": {1 << 30, "1g"}, "3G": {3 << 30, "3g"}, "1536k": {1536 << 10, "1536k"},
		"8589934591g": {8589934591 << 30, "8589934591g"},
	} {
		var size config.Size
		if err := size.Set(text); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if size != want.bytes || size.String() != want.text {
			t.Errorf("%s = %d %q, want %d %q", text, int64(size), size.String(), int64(want.bytes), want.text)
		}
	}
	for _, text := range []string{"", "k", "-1", "+1", "1kb", "1.5m", "1 k", "8589934592g", "9223372036854775808", "1b"} {
		size := config.Size(7)
		if err := size.Set(text); err == nil {
			t.Errorf("%q = %d, want an error", text, int64(size))
		}
		if size != 7 {
			t.Errorf("%q: a refused text changed the value", text)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]struct {
		value time.Duration
		text  string
	}{
		"0": {0, "0s"}, "10": {10 * time.Second, "10s"}, "1.5": {1500 * time.Millisecond, "1.5s"}, "300ms": {300 * time.Millisecond, "300ms"},
		"240s": {4 * time.Minute, "4m"}, "90s": {90 * time.Second, "1m30s"}, "1h": {time.Hour, "1h"}, "1h30m": {90 * time.Minute, "1h30m"},
		"1h0m5s": {time.Hour + 5*time.Second, "1h0m5s"}, "10m": {10 * time.Minute, "10m"},
	} {
		group := config.ServeShutdown()
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		group.AddFlags(fs)
		if err := fs.Parse([]string{"--drain-delay", text}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := fs.Lookup("drain-delay").Value.String(); group.DrainDelay != want.value || got != want.text {
			t.Errorf("%s = %v %q, want %v %q", text, group.DrainDelay, got, want.value, want.text)
		}
	}
}

func TestPrefixes(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "10.0.0.0/8": "10.0.0.0/8", "192.0.2.1, 2001:db8::/32 ,": "192.0.2.1/32,2001:db8::/32", "::1": "::1/128",
		"::ffff:192.0.2.1": "192.0.2.1/32", "0.0.0.0/0,::/0": "0.0.0.0/0,::/0",
	} {
		var p config.Prefixes
		if err := p.Set(text); err != nil || p.String() != want {
			t.Errorf("%q = %q, %v, want %q", text, p.String(), err, want)
		}
	}
	for _, text := range []string{"10.0.0.1/8", "10.0.0.0/33", "a", "10.0.0.0/8;::1", "fe80::1%eth0"} {
		p := config.Prefixes{}
		if err := p.Set(text); err == nil {
			t.Errorf("%q = %q, want an error", text, p.String())
		}
	}
}

func TestWords(t *testing.T) {
	w := config.Words{"old"}
	if err := w.Set(" a, b,,c "); err != nil || w.String() != "a,b,c" || len(w) != 3 {
		t.Errorf("words = %q, %v", w, err)
	}
	if err := w.Set(""); err != nil || len(w) != 0 {
		t.Errorf("words of nothing = %q, %v", w, err)
	}
}

func FuzzSize(f *testing.F) {
	f.Add("8k")
	f.Add("9223372036854775807")
	f.Fuzz(func(t *testing.T, text string) {
		var size, again config.Size
		if size.Set(text) != nil {
			return
		}
		if err := again.Set(size.String()); err != nil || again != size || size < 0 {
			t.Fatalf("%q = %d, written %q, read %d, %v", text, int64(size), size.String(), int64(again), err)
		}
	})
}

func FuzzPrefixes(f *testing.F) {
	f.Add("10.0.0.0/8,::1")
	f.Fuzz(func(t *testing.T, text string) {
		var p, again config.Prefixes
		if p.Set(text) != nil {
			return
		}
		if err := again.Set(p.String()); err != nil || again.String() != p.String() {
			t.Fatalf("%q = %q, read again %q, %v", text, p.String(), again.String(), err)
		}
	})
}

func FuzzAddresses(f *testing.F) {
	f.Add(":8080,[::1]:0")
	f.Fuzz(func(t *testing.T, text string) {
		var a, again config.Addresses
		if a.Set(text) != nil {
			return
		}
		if err := again.Set(a.String()); err != nil || again.String() != a.String() {
			t.Fatalf("%q = %q, read again %q, %v", text, a.String(), again.String(), err)
		}
	})
}
