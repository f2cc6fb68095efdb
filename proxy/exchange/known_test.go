package exchange_test

import (
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
)

// cases are spellings of a field name that mean the same.
func cases(name string) []string {
	mixed := []byte(name)
	for i := range mixed {
		if i%2 == 0 {
			mixed[i] = strings.ToUpper(name)[i]
		} else {
			mixed[i] = strings.ToLower(name)[i]
		}
	}
	return []string{name, strings.ToLower(name), strings.ToUpper(name), string(mixed)}
}

func TestIDOfKnowsEveryName(t *testing.T) {
	seen := map[string]exchange.ID{}
	for id := exchange.Unknown + 1; id < exchange.NumID; id++ {
		name := id.Name()
		if name == "" {
			t.Fatalf("ID %d has no name", id)
		}
		if twin, ok := seen[strings.ToLower(name)]; ok {
			t.Errorf("%q is ID %d and ID %d", name, twin, id)
		}
		seen[strings.ToLower(name)] = id
		for _, spelling := range cases(name) {
			if got := exchange.IDOf(spelling); got != id {
				t.Errorf("IDOf(%q) = %d, want %d", spelling, got, id)
			}
			if got := exchange.IDOf([]byte(spelling)); got != id {
				t.Errorf("IDOf([]byte %q) = %d, want %d", spelling, got, id)
			}
		}
	}
	if exchange.Unknown.Name() != "" {
		t.Error("Unknown has a name")
	}
}

// TestIDOfKnowsNothingElse changes every known name by one byte in every way. Those that differ by the 0x20 bit of a byte that is no
// letter are the ones that a careless case folding would let through.
func TestIDOfKnowsNothingElse(t *testing.T) {
	known := map[string]exchange.ID{}
	for id := exchange.Unknown + 1; id < exchange.NumID; id++ {
		known[strings.ToLower(id.Name())] = id
	}
	check := func(name []byte) {
		if got := exchange.IDOf(name); got != known[asciiLower(name)] {
			t.Fatalf("IDOf(%q) = %d, want %d", name, got, known[asciiLower(name)])
		}
	}
	for id := exchange.Unknown + 1; id < exchange.NumID; id++ {
		name := []byte(id.Name())
		for i := range name {
			was := name[i]
			for c := range 256 {
				name[i] = byte(c)
				check(name)
			}
			name[i] = was
			check(append(append([]byte{}, name[:i]...), name[i+1:]...))
			check(append(append(append([]byte{}, name[:i]...), '-'), name[i:]...))
		}
	}
	for _, s := range []string{"", "a", "h", "hos", "\x00\x00", strings.Repeat("x", 300)} {
		check([]byte(s))
	}
}

func asciiLower(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = exchange.Lower(c)
	}
	return string(out)
}

func TestLower(t *testing.T) {
	for c := range 256 {
		want := byte(c)
		if c >= 'A' && c <= 'Z' {
			want += 'a' - 'A'
		}
		if got := exchange.Lower(byte(c)); got != want {
			t.Errorf("Lower(%#x) = %#x", c, got)
		}
	}
}
