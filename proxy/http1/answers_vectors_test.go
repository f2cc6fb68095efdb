package http1_test

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/test/vectors"
)

// readAnswers reads the interim answers and the final one to a request of the given method.
func readAnswers(conn net.Conn, method string) []outcome {
	c := http1.NewClient(conn, http1.Limits{})
	defer c.Close()
	x := exchange.New()
	defer x.Release()
	x.Request.Method = []byte(method)
	var all []outcome
	for range 20 {
		o := readAnswer(c, x)
		if p, ok := conn.(*piecewise); ok && o.err == "" {
			o.used = p.read - len(c.Unread())
		}
		if all = append(all, o); o.err != "" || o.status >= 200 || o.status == 101 {
			break
		}
	}
	return all
}

func readAnswer(c *http1.Client, x *exchange.Exchange) (o outcome) {
	if err := c.ReadResponse(x); err != nil {
		if http1.IsInvalid(err) {
			o.status = 502
		}
		o.err = err.Error()
		return o
	}
	r := &x.Response
	o.status = r.Status
	o.head = string(r.Reason) + "\n" + string(r.Fields.AppendTo(nil))
	var err error
	if o.body, err = drain(r.Body); err != nil {
		o.err = err.Error()
		return o
	}
	o.head += string(r.Trailers.AppendTo(nil))
	return o
}

// TestPodAnswers reads every example of a Pod's answer in one piece, cut in two at every byte, and byte by byte: the outcome must be the
// same in every detail, and as the contract says as far as the codec decides it.
func TestPodAnswers(t *testing.T) {
	all, err := vectors.PodAnswers()
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	for _, a := range all {
		t.Run(a.ID, func(t *testing.T) {
			end := map[vectors.After]error{vectors.Stays: errSilent, vectors.Ends: io.EOF, vectors.Resets: unix.ECONNRESET}[a.After]
			read := func(pieces [][]byte) []outcome {
				runs++
				return readAnswers(&piecewise{pieces: pieces, end: end}, a.Method)
			}
			whole := read(split(a.Raw))
			judgeAnswer(t, a, whole[len(whole)-1])
			for _, at := range cuts(a.Raw) {
				if got := read(split(a.Raw, at)); !slices.Equal(got, whole) {
					t.Fatalf("cut at %d: %v, want %v", at, got, whole)
				}
			}
			if got := read(every(a.Raw)); !slices.Equal(got, whole) {
				t.Fatalf("byte by byte: %v, want %v", got, whole)
			}
		})
	}
	t.Logf("%d examples, %d runs", len(all), runs)
}

// judgeAnswer compares the final answer, or why there is none, with what the contract says.
func judgeAnswer(t *testing.T, a vectors.PodAnswer, o outcome) {
	t.Helper()
	switch {
	case a.Cut:
		if o.err == "" || !strings.HasPrefix(a.Body, o.body) {
			t.Errorf("%v, want a part of %.50q", o, a.Body)
		}
	case a.Status == 502:
		// Floods and switches that nobody asked for are the engine's to refuse.
		flood := strings.HasPrefix(a.ID, "S13-flood")
		if o.err == "" && o.status >= 200 && !flood {
			t.Errorf("%v, want none", o)
		}
	case o.err != "" || o.status != a.Status || o.body != a.Body:
		t.Errorf("%v, want %d %.50q", o, a.Status, a.Body)
	}
}
