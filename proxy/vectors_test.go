package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/test/vectors"
)

// known are the vectors that fail today, by ID or by the ID's row, each with the reason. One that no longer fails is an error, so that
// the list holds only what is needed.
var known = map[string]string{}

// newVectorBench starts the Pods that vectors.txt speaks of.
func newVectorBench(t *testing.T) *bench {
	t.Helper()
	r := &record{}
	a := r.pod(t, "a", nil)
	return newBench(t, proxy.Options{}, r,
		place{"a", "/", a}, place{"a", "/admin", r.pod(t, "admin", nil)},
		place{"a.example.com", "/", r.pod(t, "example", nil)}, place{"", "/", r.pod(t, "default", nil)})
}

// way is one way of sending a vector. It returns nil where the vector cannot be sent so.
type way struct {
	name string
	send func(v vectors.Vector) (pieces []string, out vectors.Vector)
}

var ways = []way{
	{"whole", func(v vectors.Vector) ([]string, vectors.Vector) { return []string{v.Input}, v }},
	{"byte by byte", func(v vectors.Vector) ([]string, vectors.Vector) {
		if len(v.Input) > 600 {
			return nil, v
		}
		return strings.Split(v.Input, ""), v // the bytes of one rune stay together; cuts part them
	}},
	{"cut in the first line", func(v vectors.Vector) ([]string, vectors.Vector) { return cut(v.Input, 1, 3), v }},
	{"cut at a line end", func(v vectors.Vector) ([]string, vectors.Vector) {
		return cut(v.Input, strings.IndexByte(v.Input, '\n'), strings.LastIndexByte(v.Input, '\n')), v
	}},
	{"cut in the middle and before the last byte", func(v vectors.Vector) ([]string, vectors.Vector) {
		return cut(v.Input, len(v.Input)/2, len(v.Input)-1), v
	}},
	{"behind another request", behind},
	{"with keep-alive", keepAlive},
}

func cut(s string, at ...int) []string {
	var out []string
	from := 0
	for _, i := range at {
		if i > from && i < len(s) {
			out = append(out, s[from:i])
			from = i
		}
	}
	if from == 0 {
		return nil
	}
	return append(out, s[from:])
}

func behind(v vectors.Vector) ([]string, vectors.Vector) {
	if v.Alone {
		return nil, v
	}
	seen := []vectors.Seen{{Line: "GET /first HTTP/1.1"}}
	if v.Seen == nil {
		v.Seen = unspecified(v)
	}
	v.Seen = append(seen, v.Seen...)
	v.Answers = append([]vectors.Answer{{Status: 200}}, v.Answers...)
	return []string{"GET /first HTTP/1.1\r\nHost: a\r\n\r\n" + v.Input}, v
}

// unspecified stands for the requests of a vector that does not say what Pods see.
func unspecified(v vectors.Vector) []vectors.Seen {
	var all []vectors.Seen
	for _, a := range v.Answers {
		if a.End == vectors.Open || a.End == vectors.Closed {
			all = append(all, vectors.Seen{})
		}
	}
	return all
}

func keepAlive(v vectors.Vector) ([]string, vectors.Vector) {
	before, after, ok := strings.Cut(v.Input, "\r\nHost: a\r\n")
	if v.Alone || !ok {
		return nil, v
	}
	return []string{before + "\r\nHost: a\r\nConnection: keep-alive\r\n" + after}, v
}

// TestVectors sends every example of the contract over real sockets, in several ways, and looks at what the Pods got and what the client
// got. After each, a clean request over the same pools has to get its own answer.
func TestVectors(t *testing.T) {
	all, err := vectors.All()
	if err != nil {
		t.Fatal(err)
	}
	strict, lenient := newVectorBench(t), newVectorBench(t)
	runs := 0
	for _, v := range all {
		b := strict
		if aborted(v) {
			// A Pod may count the beginning of an aborted request long after the client has its answer.
			b = lenient
			b.mayAbort = true
		}
		t.Run(v.ID, func(t *testing.T) {
			var problems []string
			for _, w := range ways {
				pieces, v := w.send(v)
				if pieces == nil {
					continue
				}
				runs++
				if err := b.try(v, pieces); err != nil {
					problems = append(problems, fmt.Sprintf("%s: %v", w.name, err))
				}
				if err := b.clean(runs); err != nil {
					problems = append(problems, fmt.Sprintf("%s: the clean request behind it: %v", w.name, err))
				}
			}
			row, _, _ := strings.Cut(v.ID, "-")
			reason := known[v.ID] + known[row]
			switch {
			case reason != "" && problems == nil:
				t.Errorf("does not fail any more (%s): take it off the list", reason)
			case reason != "":
				t.Skipf("known: %s\n%s", reason, strings.Join(problems, "\n"))
			case problems != nil:
				t.Error(strings.Join(problems, "\n"))
			}
		})
	}
	t.Logf("%d examples, %d runs", len(all), runs)
}

// cause is an error's text, where there may be none.
func cause(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

// try sends one vector and judges everything that follows from it.
func (b *bench) try(v vectors.Vector, pieces []string) error {
	b.take()
	c := b.dial()
	defer b.hangUp(c)
	b.send(c, pieces)
	if v.HalfClose {
		_ = c.CloseWrite()
	}
	br := bufio.NewReader(c)
	targets, err := b.answers(br, v)
	if err != nil {
		return errors.Join(err, b.pods(v))
	}
	if last := v.Answers[len(v.Answers)-1].End; (last == vectors.Open || last == vectors.Local) && !v.HalfClose {
		// Nothing is left on the connection: the next request gets the next answer.
		b.send(c, []string{"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"})
		after := vectors.Vector{Input: "GET", Answers: []vectors.Answer{{Status: 200, End: vectors.Closed}}}
		more, err := b.answers(br, after)
		if err != nil {
			return fmt.Errorf("the next request on the connection: %w", err)
		}
		targets = append(targets, more...)
		if v.Seen == nil {
			v.Seen = unspecified(v)
		}
		v.Seen = append(slices.Clone(v.Seen), vectors.Seen{Line: "GET /after HTTP/1.1"})
	}
	return b.podsWith(v, targets)
}

// answers reads the answers that v promises. It returns the text of each that a Pod gave.
func (b *bench) answers(br *bufio.Reader, v vectors.Vector) (texts []string, err error) {
	pods := 0
	for i, want := range v.Answers {
		method, _ := words(v.Input)
		fromPod := want.End == vectors.Open || want.End == vectors.Closed
		if fromPod && pods < len(v.Seen) {
			method, _ = words(v.Seen[pods].Line)
		}
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return texts, fmt.Errorf("answer %d: %w, want %d", i, err, want.Status)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != want.Status || res.Proto != "HTTP/1.1" {
			return texts, fmt.Errorf("answer %d: %d %.100q, error %s, want %d", i, res.StatusCode, body, cause(err), want.Status)
		}
		for _, f := range want.Fields {
			name, value, _ := strings.Cut(f, ": ")
			if name == "Content-Length" && strconv.FormatInt(res.ContentLength, 10) == value {
				continue
			}
			if res.Header.Get(name) != value && (name != "Connection" || res.Close) {
				return texts, fmt.Errorf("answer %d: %s is %q, want %q", i, name, res.Header.Get(name), value)
			}
		}
		if res.Header.Get("Date") == "" || res.Header.Get("Server") == "" {
			return texts, fmt.Errorf("answer %d has no Date or no Server: %v", i, res.Header)
		}
		if fromPod {
			pods++
			texts = append(texts, string(body))
		} else if len(body) > 200 || len(body) > 0 && method != "HEAD" && strings.Contains(v.Input, string(body)) {
			return texts, fmt.Errorf("answer %d echoes: %.100q", i, body)
		}
		if want.End == vectors.Closed || want.End == vectors.Refused || want.End == vectors.Aborted {
			if !res.Close {
				return texts, fmt.Errorf("answer %d does not say Connection: close", i)
			}
			rest, err := io.ReadAll(br)
			if errors.Is(err, unix.ECONNRESET) && (want.End == vectors.Closed || len(v.Input) > 64<<10) {
				err = nil // bytes behind the last request, or too many of a refused one, were never read
			}
			if len(rest) > 0 || err != nil {
				return texts, fmt.Errorf("behind answer %d: %.100q, error %s", i, rest, cause(err))
			}
		} else if res.Close && !v.HalfClose {
			return texts, fmt.Errorf("answer %d says Connection: close", i)
		}
	}
	return texts, nil
}

// pods judges what the Pods got, where the answers are wrong already.
func (b *bench) pods(v vectors.Vector) error {
	requests, extra, problems := b.take()
	return fmt.Errorf("the Pods got %d requests %v and %d more bytes; %v; %d were expected", len(requests), requests, extra, problems, len(unspecified(v)))
}

// aborted reports whether a Pod may get the beginning of a request.
func aborted(v vectors.Vector) bool { return v.Answers[len(v.Answers)-1].End == vectors.Aborted }

// podsWith judges what the Pods got. texts are the answers that they gave, in order.
func (b *bench) podsWith(v vectors.Vector, texts []string) error {
	want := v.Seen
	if want == nil {
		want = unspecified(v)
	}
	requests, extra, problems := b.take()
	switch {
	case len(problems) > 0:
		return errors.New(strings.Join(problems, "; "))
	case len(requests) != len(want):
		return fmt.Errorf("the Pods got %d requests, want %d: %v", len(requests), len(want), requests)
	case extra != 0 && !b.mayAbort:
		return fmt.Errorf("the Pods got %d bytes beside %v", extra, requests)
	}
	for i, w := range want {
		if err := match(requests[i], w); err != nil {
			return fmt.Errorf("request %d: %w; the Pod got %v", i, err, requests[i])
		}
		method, target := words(requests[i].line)
		if own := ownAnswer(requests[i].pod, target); method != "HEAD" && texts[i] != own {
			return fmt.Errorf("request %d got the answer %.100q, want %.100q", i, texts[i], own)
		}
	}
	return nil
}

// match compares a request with what a vector says of it.
func match(q got, w vectors.Seen) error {
	pod := w.Pod
	if pod == "" {
		pod = "a"
	}
	switch {
	case w.Line == "":
		return nil
	case q.pod != pod:
		return fmt.Errorf("it went to %s, want %s", q.pod, pod)
	case q.line != w.Line:
		return fmt.Errorf("line %.200q, want %.200q", q.line, w.Line)
	case q.body != w.Body:
		return fmt.Errorf("body %.100q, want %.100q", q.body, w.Body)
	}
	for _, f := range w.Has {
		n := 0
		for _, have := range q.fields {
			if have == f {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("field %.100q comes %d times", f, n)
		}
	}
	for _, name := range w.Lacks {
		for _, have := range q.fields {
			if n, _, _ := strings.Cut(have, ":"); strings.EqualFold(n, name) {
				return fmt.Errorf("field %.100q is there", have)
			}
		}
	}
	return nil
}

// clean makes one request on a connection of its own, over the pools that the request before used.
func (b *bench) clean(n int) error {
	b.take()
	c := b.dial()
	defer b.hangUp(c)
	target := "/clean-" + strconv.Itoa(n)
	b.send(c, []string{"GET " + target + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"})
	v := vectors.Vector{Input: "GET", Answers: []vectors.Answer{{Status: 200, End: vectors.Closed}}}
	texts, err := b.answers(bufio.NewReader(c), v)
	if err != nil {
		return err
	}
	v.Seen = []vectors.Seen{{Line: "GET " + target + " HTTP/1.1", Has: []string{"Host: a"}}}
	return b.podsWith(v, texts)
}
