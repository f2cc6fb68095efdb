package http1_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/test/vectors"
)

// judge compares what the codec made of a vector with what the contract says.
func judge(t *testing.T, v vectors.Vector, how string, got []outcome) {
	t.Helper()
	if len(v.Answers) == 0 && got[0].head != "" {
		t.Errorf("%s: %v, want no message", how, got[0])
	}
	for i, want := range v.Answers {
		if i >= len(got) {
			t.Errorf("%s: %d messages, want %d", how, len(got), len(v.Answers))
			return
		}
		o := got[i]
		switch want.End {
		case vectors.Local, vectors.LocalClosed:
			// What the engine answers is well-formed, but its body need not come.
			if o.head == "" {
				t.Errorf("%s: message %d: %v, want an answer by the engine", how, i, o)
			}
			if want.End == vectors.LocalClosed {
				return
			}
		case vectors.Refused, vectors.Aborted:
			if slices.Contains(v.Rules, "path-7") && o.head != "" {
				continue // refused for its route, of which the codec knows nothing
			}
			if o.status != want.Status || want.End == vectors.Refused && o.head != "" {
				t.Errorf("%s: message %d: %v, want %d", how, i, o, want.Status)
			}
		default:
			if o.err != "" {
				t.Errorf("%s: message %d: %v, want it accepted", how, i, o)
			}
		}
	}
	seen := slices.DeleteFunc(slices.Clone(got), func(o outcome) bool { return o.err != "" })
	for i, want := range v.Seen {
		if i < len(seen) && seen[i].body != want.Body {
			t.Errorf("%s: body %d is %.80q, want %.80q", how, i, seen[i].body, want.Body)
		}
	}
}

func read(v vectors.Vector, pieces [][]byte) []outcome {
	return readRequests(&piecewise{pieces: pieces, end: endOf(v)}, max(1, len(v.Answers)), http1.Limits{})
}

// endOf is what follows a vector's input.
func endOf(v vectors.Vector) error {
	if v.HalfClose {
		return io.EOF
	}
	return errSilent
}

// TestVectors runs every example of the contract in one piece, cut in two at every byte, and byte by byte: the outcome must be the
// same in every detail.
func TestVectors(t *testing.T) {
	all, err := vectors.All()
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	for _, v := range all {
		t.Run(v.ID, func(t *testing.T) {
			whole := read(v, split(v.Input))
			judge(t, v, "whole", whole)
			same := func(how string, at int, got []outcome) {
				if runs++; !slices.Equal(got, whole) {
					t.Fatalf("%s %d: %v, want %v", how, at, got, whole)
				}
			}
			for _, at := range cuts(v.Input) {
				if v.Octet && at%5 != 0 {
					continue // its neighbours are cut elsewhere
				}
				same("cut at", at, read(v, split(v.Input, at)))
			}
			same("bytes of", len(v.Input), read(v, every(v.Input)))
		})
	}
	t.Logf("%d examples, %d runs", len(all), runs)
}

// TestVectorsOverSockets does the same on the codec's way for plain sockets, with fewer cuts.
func TestVectorsOverSockets(t *testing.T) {
	all, err := vectors.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		if slices.ContainsFunc(v.Answers, func(a vectors.Answer) bool { return a.End == vectors.LocalClosed }) {
			continue // its body need not be whole, and would be waited for
		}
		t.Run(v.ID, func(t *testing.T) {
			run := func(pieces [][]byte) []outcome {
				conn, end := overSocket(t, pieces, endOf(v))
				defer end()
				return readRequests(conn, max(1, len(v.Answers)), http1.Limits{})
			}
			whole := run(split(v.Input))
			judge(t, v, "whole", whole)
			at := cuts(v.Input)
			for n, i := range at {
				if n%(1+len(at)/4) != 0 {
					continue
				}
				if got := run(split(v.Input, i)); !slices.Equal(got, whole) {
					t.Fatalf("cut at %d: %v, want %v", i, got, whole)
				}
			}
			if len(v.Input) > 4<<10 {
				return
			}
			if got := run(every(v.Input)); !slices.Equal(got, whole) {
				t.Fatalf("byte by byte: %v, want %v", got, whole)
			}
		})
	}
}

// TestTightLimits moves each limit over every position of a request: refusals at a limit must not depend on splits either, nor may any
// position of it panic.
func TestTightLimits(t *testing.T) {
	inputs := []string{
		"GET /abc HTTP/1.1\r\nHost: a\r\nX: yz\r\n\r\n",
		"GET /abc HTTP/1.1\r\nHost: a\r\nX: yz\n\r\n",
		"GET /abc HTTP/1.1\nHost: a\r\n\r\n",
		"GET /abc HTTP/1.1\r\nHost: a\rX\r\n\r\n",
		"GET /abc HTTP/1.1\r\nA: 1\r\nB: 2\r\nC\r: 3\r\n\r\n",
		"GET /abc HTTP/1.1\r\nA: 1\r\nB: 2\r\nC : 3\r\n\r\n",
		"\r\n\r\nGET / HTTP/1.1\r\r\n\r\n",
	}
	for _, in := range inputs {
		for n := 1; n < len(in)+3; n++ {
			for name, limits := range map[string]http1.Limits{
				"request line": {RequestLine: n}, "header block": {HeaderBlock: n}, "fields": {Fields: n},
			} {
				run := func(pieces [][]byte) []outcome {
					return readRequests(&piecewise{pieces: pieces, end: errSilent}, 1, limits)
				}
				whole := run(split(in))
				for at := 1; at < len(in); at++ {
					if got := run(split(in, at)); !slices.Equal(got, whole) {
						t.Fatalf("%q, %s %d, cut at %d: %v, whole %v", in, name, n, at, got, whole)
					}
				}
				if got := run(every(in)); !slices.Equal(got, whole) {
					t.Fatalf("%q, %s %d, byte by byte: %v, whole %v", in, name, n, got, whole)
				}
			}
		}
	}
}

// TestEndOfInput: a client that ends its side between requests is no error, and inside one it is.
func TestEndOfInput(t *testing.T) {
	const one = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
	for i := range len(one) {
		got := readRequests(&piecewise{pieces: split(one[:i]), end: io.EOF}, 1, http1.Limits{})
		want := "unexpected EOF"
		if i == 0 {
			want = "EOF"
		}
		if got[0].err != want {
			t.Errorf("%d bytes: %v, want %s", i, got, want)
		}
	}
}

func TestUnderscores(t *testing.T) {
	const in = "GET / HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\nX-Y: 2\r\n\r\n"
	for mode, want := range map[http1.Underscores]string{
		http1.DropUnderscores: "X-Y: 2", http1.KeepUnderscores: "X_Y: 1\r\nX-Y: 2", http1.RejectUnderscores: "",
	} {
		got := readRequests(&piecewise{pieces: split(in), end: errSilent}, 1, http1.Limits{Underscores: mode})[0]
		switch {
		case want == "" && got.status != 400:
			t.Errorf("reject: %v", got)
		case want != "" && !strings.HasSuffix(got.head, "Host: a\r\n"+want+"\r\n"):
			t.Errorf("mode %d: %v, want %q", mode, got, want)
		}
	}
}
