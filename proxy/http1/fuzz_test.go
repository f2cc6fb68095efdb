package http1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/test/vectors"
	"podlane.dev/podlane/test/vectors/mutate"
)

// seeds gives every vector of moderate size to f that differs from its neighbours by more than a byte, as it is, with a split in its
// middle, and some with a mutation.
func seeds(f *testing.F) {
	f.Helper()
	all, err := vectors.All()
	if err != nil {
		f.Fatal(err)
	}
	for i, v := range all {
		if len(v.Input) > 2000 || v.Octet {
			continue
		}
		f.Add([]byte(v.Input), []byte{}, uint16(len(v.Input)/2))
		if i%4 == 0 {
			f.Add([]byte(v.Input), []byte{byte(i / 4), byte(i * 7), byte(i * 13), byte(i * 31)}, uint16(i))
		}
	}
}

// splits are the ways in which one input arrives.
func splits(data []byte, at uint16) map[string][][]byte {
	s := string(data)
	ways := map[string][][]byte{"cut": split(s, min(int(at), len(s)))}
	if len(s) < 4<<10 {
		ways["byte by byte"] = every(s)
	}
	return ways
}

// FuzzRequest holds the contract's fuzz invariants (1) to (5): any split gives the same outcome; what is accepted a strict reference accepts
// as the same; it is sent on as exactly one request, which net/http reads as the same, and which is sent on as itself. script is
// a program for package mutate.
func FuzzRequest(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data, script []byte, at uint16) {
		data = mutate.Apply(data, script)
		whole := readRequests(&piecewise{pieces: [][]byte{slices.Clone(data)}, end: io.EOF}, 4, http1.Limits{})
		for how, pieces := range splits(data, at) {
			if got := readRequests(&piecewise{pieces: pieces, end: io.EOF}, 4, http1.Limits{}); !slices.Equal(got, whole) {
				t.Fatalf("%s: %v, whole %v", how, got, whole)
			}
		}
		compareReference(t, string(data), whole)
		if whole[0].err != "" {
			return
		}
		first, ok := forwarded(t, string(data))
		if !ok {
			return
		}
		compare(t, first, whole[0])
		second, ok := forwarded(t, first)
		if !ok || settled(second) != settled(first) {
			t.Fatalf("sent on %.2000q, and that is sent on as %.2000q", first, second)
		}
	})
}

// settled is a request that is sent on, without what the codec is free in: "TE: trailers" is written anew at each hop, behind the others, and
// chunks are as large as the pieces in which the body was read.
func settled(sent string) string {
	const te = "TE: trailers\r\n"
	head, body, _ := strings.Cut(sent, "\r\n\r\n")
	lines, found := head+"\r\n", ""
	if i := strings.Index(lines, "\r\n"+te); i >= 0 {
		lines, found = lines[:i+2]+lines[i+2+len(te):], te
	}
	if strings.HasSuffix(lines, "\r\nTransfer-Encoding: chunked\r\n") {
		if whole, rest, ok := chunkReference(body); ok && rest == "" {
			body = "0\r\n\r\n"
			if whole != "" {
				body = fmt.Sprintf("%x\r\n%s\r\n%s", len(whole), whole, body)
			}
		}
	}
	return lines + found + "\r\n" + body
}

// compareReference reads in with the reference: it must accept all that was accepted, as the same, with the same ends.
func compareReference(t *testing.T, in string, got []outcome) {
	t.Helper()
	at := 0
	for i, o := range got {
		if o.err != "" {
			return
		}
		q, ok := readByReference(in[at:])
		if !ok {
			t.Fatalf("message %d at %d of %.2000q is accepted, but not strictly right", i, at, in)
		}
		at += q.used
		if at != o.used || q.body != o.body || !strings.HasPrefix(o.head, q.method+" ") {
			t.Fatalf("message %d of %.2000q: %v, by the reference %+v", i, in, o, q)
		}
	}
}

// forwarded parses the first request of in, which is good, and returns what a Pod gets. ok is false for what is not forwarded, or not
// by the codec alone.
func forwarded(t *testing.T, in string) (string, bool) {
	t.Helper()
	s := http1.NewServer(&piecewise{pieces: split(in), end: io.EOF}, http1.Limits{}, new(http1.Clock))
	defer s.Close()
	x := exchange.New()
	defer x.Release()
	if err := s.ReadRequest(x); err != nil {
		t.Fatalf("%.2000q: %v", in, err)
	}
	if reject := x.Validate(); reject != nil {
		t.Fatalf("%.2000q: %v", in, reject)
	}
	if string(x.Request.Target) == "*" || !x.Request.Fields.Has(exchange.Host) || len(x.Request.Authority) == 0 {
		return "", false
	}
	out, err := reserialise(x)
	if err != nil {
		t.Fatalf("%.2000q: %v", in, err)
	}
	return out, true
}

// compare reads sent with net/http and with the codec: it must be exactly one request, and for both the same.
func compare(t *testing.T, sent string, want outcome) {
	t.Helper()
	rest := bufio.NewReader(strings.NewReader(sent))
	q, err := http.ReadRequest(rest)
	if err != nil {
		t.Fatalf("net/http refuses %.2000q: %v", sent, err)
	}
	body, err := io.ReadAll(q.Body)
	if err != nil || string(body) != want.body {
		t.Fatalf("%.2000q: net/http reads body %.2000q, %v; want %.2000q", sent, body, err, want.body)
	}
	if left, err := io.ReadAll(rest); err != nil || len(left) > 0 {
		t.Fatalf("%.2000q: %.200q is left behind the request", sent, left)
	}
	method, target, _ := strings.Cut(sent, " ")
	target, _, _ = strings.Cut(target, " ")
	if q.Method != method || q.RequestURI != target || !strings.HasPrefix(want.head, method+" ") {
		t.Fatalf("%.2000q: net/http reads %.2000q %.2000q", sent, q.Method, q.RequestURI)
	}
	compareFields(t, sent, q)
}

// compareFields checks that net/http sees the lines of the head that was sent, no less and no more. It removes some from the map, and
// adds Cache-Control for Pragma.
func compareFields(t *testing.T, sent string, q *http.Request) {
	t.Helper()
	head, _, _ := strings.Cut(sent, "\r\n\r\n")
	want := http.Header{}
	for _, l := range strings.Split(head, "\r\n")[1:] {
		name, value, _ := strings.Cut(l, ":")
		want.Add(name, strings.Trim(value, " \t"))
	}
	if q.Host != want.Get("Host") {
		t.Fatalf("%.2000q: net/http reads host %.2000q", sent, q.Host)
	}
	for _, name := range []string{"Host", "Transfer-Encoding", "Trailer"} {
		want.Del(name)
	}
	if len(want["Pragma"]) > 0 && len(want["Cache-Control"]) == 0 {
		q.Header.Del("Cache-Control")
	}
	for name, values := range want {
		if !slices.Equal(q.Header[name], values) {
			t.Fatalf("%.2000q: net/http reads %s: %.2000q, want %.2000q", sent, name, q.Header[name], values)
		}
	}
	for name := range q.Header {
		if len(want[name]) == 0 {
			t.Fatalf("%.2000q: net/http reads a field %.2000q", sent, name)
		}
	}
}

// FuzzChunked holds invariants (1), (3) and (8) for the chunk decoder: any split gives the same outcome, data out is no more than bytes in,
// and what is accepted the reference and net/http accept as the same.
func FuzzChunked(f *testing.F) {
	all, err := vectors.All()
	if err != nil {
		f.Fatal(err)
	}
	for i, v := range all {
		if _, body, ok := strings.Cut(v.Input, "\r\n\r\n"); ok && v.ID[0] == 'K' && len(body) < 2000 {
			f.Add([]byte(body), []byte{}, uint16(len(body)/2))
			f.Add([]byte(body), []byte{byte(i), byte(i * 7), byte(i * 13), byte(i * 31)}, uint16(i))
		}
	}
	f.Add([]byte("1\r\nx\r\n1;aaaaaaaaaaaaaaa\r\ny\r\n0\r\nA: b\r\n\r\n"), []byte{}, uint16(9))
	const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	f.Fuzz(func(t *testing.T, data, script []byte, at uint16) {
		data = mutate.Apply(data, script)
		run := func(pieces [][]byte) outcome {
			return readRequests(&piecewise{pieces: append([][]byte{[]byte(head)}, pieces...), end: io.EOF}, 1, http1.Limits{})[0]
		}
		whole := run([][]byte{slices.Clone(data)})
		for how, pieces := range splits(data, at) {
			if got := run(pieces); got != whole {
				t.Fatalf("%s: %v, whole %v", how, got, whole)
			}
		}
		if len(whole.body) > len(data) {
			t.Fatalf("%d bytes out of %d", len(whole.body), len(data))
		}
		if whole.err != "" {
			return
		}
		body, rest, ok := chunkReference(string(data))
		if used := len(head) + len(data) - len(rest); !ok || body != whole.body || used != whole.used {
			t.Fatalf("the reference reads %.2000q, %v, %d bytes; want %v", body, ok, used, whole)
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if err != nil || string(theirs) != whole.body {
			t.Fatalf("net/http reads %.2000q, %v; want %.2000q", theirs, err, whole.body)
		}
	})
}

// FuzzResponse holds invariant (1) for answers, and that what is accepted is passed on as one answer, which net/http reads as the same.
func FuzzResponse(f *testing.F) {
	for _, s := range samples {
		if len(s.in) < 2000 {
			f.Add([]byte(s.in), []byte{}, uint16(len(s.in)/2), s.method == "HEAD")
		}
	}
	all, err := vectors.PodAnswers()
	if err != nil {
		f.Fatal(err)
	}
	for i, a := range all {
		if len(a.Raw) < 2000 {
			f.Add([]byte(a.Raw), []byte{byte(i), byte(i * 7), byte(i * 13), byte(i * 31)}, uint16(i), a.Method == "HEAD")
		}
	}
	f.Fuzz(func(t *testing.T, data, script []byte, at uint16, head bool) {
		data = mutate.Apply(data, script)
		method := "GET"
		if head {
			method = "HEAD"
		}
		run := func(pieces [][]byte) outcome {
			return answer(&piecewise{pieces: pieces, end: io.EOF}, method, http1.Limits{})
		}
		whole := run([][]byte{slices.Clone(data)})
		for how, pieces := range splits(data, at) {
			if got := run(pieces); !equal(got, whole) {
				t.Fatalf("%s: %v, whole %v", how, got, whole)
			}
		}
		if len(whole.body) > len(data) {
			t.Fatalf("%d bytes out of %d", len(whole.body), len(data))
		}
		if whole.err == "" && whole.status >= 200 {
			comparePassedOn(t, data, method, whole)
		}
	})
}

// comparePassedOn writes the good answer in data to a client, and reads that with net/http.
func comparePassedOn(t *testing.T, data []byte, method string, want outcome) {
	t.Helper()
	c := http1.NewClient(&piecewise{pieces: [][]byte{slices.Clone(data)}, end: io.EOF}, http1.Limits{})
	defer c.Close()
	conn := &piecewise{pieces: split(method + " / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"), end: io.EOF}
	s := http1.NewServer(conn, http1.Limits{}, new(http1.Clock))
	defer s.Close()
	x := exchange.New()
	defer x.Release()
	if err := s.ReadRequest(x); err != nil {
		t.Fatal(err)
	}
	if reject := x.Validate(); reject != nil {
		t.Fatal(reject)
	}
	if err := c.ReadResponse(x); err != nil {
		t.Fatal(err)
	}
	x.Response.RemoveHopByHop()
	s.StartResponse(x, 0)
	if body, err := drain(x.Response.Body); err != nil {
		t.Fatal(err)
	} else if !s.Bodyless() {
		if err := s.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(x); err != nil {
		t.Fatal(err)
	}
	sent := conn.wrote.String()
	rest := bufio.NewReader(strings.NewReader(sent))
	res, err := http.ReadResponse(rest, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("net/http refuses %.2000q: %v", sent, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != want.body || res.StatusCode != want.status {
		t.Fatalf("%.2000q: net/http reads %d %.2000q, %v; want %d %.2000q", sent, res.StatusCode, body, err, want.status, want.body)
	}
	if left, err := io.ReadAll(rest); err != nil || len(left) > 0 {
		t.Fatalf("%.2000q: %.200q is left behind the answer", sent, left)
	}
}
