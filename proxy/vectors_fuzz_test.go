package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/test/vectors"
	"podlane.dev/podlane/test/vectors/mutate"
)

// FuzzEngine holds the contract's fuzz invariants (1), (2) and (5) for the whole engine over real sockets: Pods get whole requests in the
// strictest form, with nothing in them that their client did not send or the proxy owns; every answer of a Pod goes to the one who
// asked, in order; it makes no difference how the bytes come; and a clean request behind it all gets its own answer. script is a
// program for package mutate.
func FuzzEngine(f *testing.F) {
	all, err := vectors.All()
	if err != nil {
		f.Fatal(err)
	}
	for i, v := range all {
		if len(v.Input) < 2000 && !v.Octet && i%3 == 0 {
			f.Add([]byte(v.Input), []byte{byte(i / 3), byte(i * 7), byte(i * 13), byte(i * 31)}, uint16(len(v.Input)/2))
		}
	}
	// A client that closes its sending side is not gone here: that is how the engine learns that nothing more will come.
	b := newVectorBench(f, proxy.Options{AllowHalfClose: true})
	b.mayAbort = true
	f.Fuzz(func(t *testing.T, data, script []byte, at uint16) {
		b.t = t
		text := string(mutate.Apply(data, script))
		whole := b.converse(t, text, nil)
		if pieces := cut(text, int(at)%(len(text)+1), len(text)-1); pieces != nil {
			if inPieces := b.converse(t, text, pieces); inPieces != whole {
				t.Fatalf("%.2000q\nwhole:\n%s\ncut at %d:\n%s", text, whole, at, inPieces)
			}
		}
		if err := b.clean(0); err != nil {
			t.Fatalf("%.2000q: the clean request behind it: %v", text, err)
		}
	})
}

// converse sends text, in pieces where there are any, ends the sending side, and returns what came of it: the requests that the Pods got
// and the answers that the client got, without what is different each time.
func (b *bench) converse(t *testing.T, text string, pieces []string) string {
	t.Helper()
	b.take()
	var c client
	if pieces == nil {
		c, pieces = b.dialTo("http"), []string{text}
	} else {
		c = b.dialWatched()
	}
	defer func() { _ = c.Close() }()
	raw := b.hear(t, c, pieces)
	if !b.settled() {
		t.Fatalf("%.2000q: a Pod still waits for the rest of a request", text)
	}
	requests, _, problems := b.take()
	if len(problems) > 0 {
		t.Fatalf("%.2000q: %.2000q", text, problems)
	}
	var out strings.Builder
	var expected []string
	for _, q := range requests {
		if err := b.invented(q, text, port(c.RemoteAddr())); err != nil {
			t.Fatalf("%.2000q: %v; the Pod got %v", text, err, q)
		}
		q.Fields = slices.DeleteFunc(q.Fields, func(f string) bool {
			return strings.HasPrefix(f, "X-Request-ID: ") || strings.HasPrefix(f, "X-Forwarded-Port: ")
		})
		fmt.Fprintln(&out, q)
		if expected = append(expected, ownAnswer(q.pod, q.Target())); q.Method() == "HEAD" {
			expected[len(expected)-1] = ""
		}
	}
	statuses, texts := answersIn(t, text, raw)
	if !slices.Equal(texts, expected) {
		t.Fatalf("%.2000q: the answers are %.2000q, want %.2000q; %.2000q", text, texts, expected, raw)
	}
	fmt.Fprintln(&out, statuses)
	return out.String()
}

// hear sends pieces and returns all that comes back.
func (b *bench) hear(t *testing.T, c client, pieces []string) []byte {
	t.Helper()
	b.send(c, pieces)
	_ = c.CloseWrite()
	raw, err := io.ReadAll(c)
	if unlessReset(err) != nil {
		t.Fatalf("%.2000q: %.2000q, %v", pieces, raw, err)
	}
	return raw
}

// answersIn reads answers: the statuses of all final ones, and the bodies of those that Pods gave. Which of them answer HEAD is not known
// here: those have a length, and then the next answer or nothing.
func answersIn(t *testing.T, text string, raw []byte) (statuses []int, fromPods []string) {
	t.Helper()
	for len(raw) > 0 {
		head, rest, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
		if !ok {
			t.Fatalf("%.2000q is answered by half a head %.2000q", text, raw)
		}
		if err := judgeLines(string(head)); err != nil {
			t.Fatalf("%.2000q: answer %.2000q: %v", text, head, err)
		}
		res, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(head), strings.NewReader("\r\n\r\n"))), &http.Request{Method: "HEAD"})
		if err != nil {
			t.Fatalf("%.2000q: answer %.2000q: %v", text, head, err)
		}
		if raw = rest; res.StatusCode == 100 {
			continue
		}
		statuses = append(statuses, res.StatusCode)
		body := ""
		if n := int(res.ContentLength); n > 0 && n <= len(rest) && !bytes.HasPrefix(rest, []byte("HTTP/1.1 ")) {
			body, raw = string(rest[:n]), rest[n:]
		}
		if res.StatusCode == 200 && res.Header.Get("Allow") == "" {
			fromPods = append(fromPods, body)
		}
	}
	return statuses, fromPods
}
