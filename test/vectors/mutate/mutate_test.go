package mutate

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

const message = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"

func TestOperatorsChangeSomething(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range operators {
		changed := 0
		for range 200 {
			script := []byte{byte(i), byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())}
			in := []byte(message)
			out := Apply(in, script)
			if string(in) != message {
				t.Fatalf("operator %d changes its input", i)
			}
			if !bytes.Equal(in, out) {
				changed++
			}
			if again := Apply(in, script); !bytes.Equal(again, out) {
				t.Fatalf("operator %d: %q, then %q", i, out, again)
			}
		}
		if changed < 50 {
			t.Errorf("operator %d changed %d of 200", i, changed)
		}
	}
}

func TestApplyIsBounded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		script := make([]byte, StepSize*100)
		for i := range script {
			script[i] = byte(rnd.Uint32())
		}
		for _, in := range []string{message, "\n", "x", "", strings.Repeat("\r\n", 500), strings.Repeat("x", maxSize)} {
			if out := Apply([]byte(in), script); len(out) > maxSize {
				t.Fatalf("%d bytes of %d", len(out), len(in))
			}
		}
	}
}

func TestRechunk(t *testing.T) {
	got := string(rechunk([]byte(message), 1, 0))
	want := "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n2\r\nll\r\n1\r\no\r\n0\r\n\r\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTransferEncodings(t *testing.T) {
	all := TransferEncodings()
	seen := map[string]bool{}
	for i, s := range all {
		if seen[s] {
			t.Errorf("%q comes twice", s)
		}
		seen[s] = true
		v, ok := strings.CutPrefix(strings.ToLower(s), "transfer-encoding:")
		if good := ok && strings.Trim(v, " \t") == "chunked"; good != (i == 0) {
			t.Errorf("%d: %q is right: %v", i, s, good)
		}
	}
	if len(all) < 1770 {
		t.Errorf("%d mutations", len(all)-1)
	}
	t.Logf("%d mutations", len(all)-1)
}

func TestRandomIsRepeatable(t *testing.T) {
	corpus := []string{message, "GET / HTTP/1.1\r\n\r\n"}
	a, b := rand.New(rand.NewPCG(5, 6)), rand.New(rand.NewPCG(5, 6))
	different := map[string]bool{}
	for range 1000 {
		x, y := Random(a, corpus), Random(b, corpus)
		if x != y {
			t.Fatalf("%q and %q", x, y)
		}
		different[x] = true
	}
	if len(different) < 800 {
		t.Errorf("%d of 1000 are different", len(different))
	}
}
