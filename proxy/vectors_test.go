package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
	"podlane.dev/podlane/test/vectors"
)

// known are the vectors that fail today, by ID or by the ID without the number of the case, each with the reason. One that no longer fails is an error, so that
// the list holds only what is needed.
var known = map[string]string{}

// newVectorBench starts the Pods and routes that vectors.txt speaks of.
func newVectorBench(t testing.TB, o proxy.Options) *bench {
	t.Helper()
	r := &record{}
	pod := func(name string) string { return r.pod(t, name, nil) }
	redirect, err := filters.SSLRedirect().ParseValues(policy.Values{"force-ssl-redirect": "true"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, open := pod("a"), pod("open")
	o.Policies = []filters.Policy{filters.SSLRedirect()}
	return newBench(t, o, r,
		place{host: "a", path: "/", pod: a}, place{host: "a", path: "/admin", pod: pod("admin")},
		place{host: "a", path: "/caf%C3%A9", pod: pod("cafe")},
		place{host: "a.example.com", path: "/", pod: pod("example")},
		place{host: "locked", path: "/", pod: a, denied: "a policy is broken"}, place{host: "empty", path: "/"},
		place{host: "guard", path: "/", pod: open}, place{host: "guard", path: "/open", pod: open},
		place{host: "guard", path: "/private", pod: pod("private"), policies: []policy.Value{{Family: "ssl-redirect", Parsed: redirect}}},
		place{host: "guard", path: "/private/public", pod: pod("public")},
		place{host: "guard", path: "/broken", pod: open, denied: "a policy is broken"},
		place{host: "", path: "/", pod: pod("default")})
}

// way is one way of sending a vector. It returns nil where the vector cannot be sent so.
type way struct {
	name string
	send func(v vectors.Vector) (pieces []string, out vectors.Vector)
}

var whole = way{"whole", func(v vectors.Vector) ([]string, vectors.Vector) { return []string{v.Input}, v }}

// plainWays are those over a plain connection. The codec's own tests cut every example at every byte, without an engine: here those
// of which there are many of a kind stay whole.
var plainWays = []way{
	whole,
	{"in pieces", func(v vectors.Vector) ([]string, vectors.Vector) {
		if v.Octet {
			return nil, v
		}
		return pieces(v.Input), v
	}},
	{"behind another request", behind},
	{"with keep-alive", keepAlive},
}

// tlsWays are those over an encrypted connection, on which each piece is a record of its own.
var tlsWays = []way{
	whole,
	{"in two records, behind another request", func(v vectors.Vector) ([]string, vectors.Vector) {
		pieces, v := behind(v)
		if pieces == nil {
			return nil, v
		}
		return cut(pieces[0], len(pieces[0])/2), v
	}},
}

// pieces cuts short inputs at every byte, and long ones in the first line, at line ends, in the middle and before the last byte; so it does
// with all under the race detector, which makes each byte cost ten times as much.
func pieces(s string) []string {
	if len(s) > 600 || raceEnabled {
		return cut(s, 1, 3, strings.IndexByte(s, '\n'), len(s)/2, strings.LastIndexByte(s, '\n'), len(s)-1)
	}
	at := make([]int, 0, len(s))
	for i := 1; i < len(s); i++ {
		at = append(at, i)
	}
	return cut(s, at...)
}

// cut cuts s at the given offsets, which need not all be inside it. It returns nil where none is.
func cut(s string, at ...int) []string {
	var out []string
	from := 0
	for _, i := range slices.Sorted(slices.Values(at)) {
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

// first is a request to go in front of others.
const first = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n"

func behind(v vectors.Vector) ([]string, vectors.Vector) {
	if v.Alone || v.HalfClose { // a client that has closed its side before its first answer is taken for gone
		return nil, v
	}
	v.Seen = append([]vectors.Seen{{Line: "GET /first HTTP/1.1"}}, seen(v)...)
	v.Answers = append([]vectors.Answer{{Status: 200}}, v.Answers...)
	v.Input = first + v.Input
	return []string{v.Input}, v
}

// seen are the requests that Pods get: empty ones stand for those of a vector that does not say what they are.
func seen(v vectors.Vector) []vectors.Seen {
	if v.Seen != nil {
		return v.Seen
	}
	var all []vectors.Seen
	for _, a := range v.Answers {
		if a.End.FromPod() {
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
	v.Input = before + "\r\nHost: a\r\nConnection: keep-alive\r\n" + after
	return []string{v.Input}, v
}

// TestVectors sends every example of the contract over real sockets, plain and encrypted, in several ways, and looks at what the Pods
// got and what the client got. After each, a clean request over the same pools has to get its own answer.
func TestVectors(t *testing.T) {
	var runs atomic.Int64
	var groups sync.WaitGroup
	for scheme, ways := range map[string][]way{"http": plainWays, "https": tlsWays} {
		all, err := vectors.Over(scheme)
		if err != nil {
			t.Fatal(err)
		}
		// Most of the time goes by in waiting for the other side: several engines side by side take less of it, on two cores too,
		// which is why this does not leave it to t.Parallel.
		const engines = 3
		for n := range engines {
			groups.Go(func() {
				t.Run(fmt.Sprintf("%s-%d", scheme, n), func(t *testing.T) {
					var mine []vectors.Vector
					for i := n; i < len(all); i += engines {
						mine = append(mine, all[i])
					}
					runs.Add(runVectors(t, scheme, mine, ways))
				})
			})
		}
	}
	groups.Wait()
	t.Logf("%d runs", runs.Load())
}

// runVectors sends all in all ways to engines of its own, and returns how many runs there were.
func runVectors(t *testing.T, scheme string, all []vectors.Vector, ways []way) (runs int64) {
	t.Helper()
	strict, lenient := newVectorBench(t, proxy.Options{}), newVectorBench(t, proxy.Options{})
	lenient.mayAbort = true
	if scheme == "https" {
		strict.encrypted()
		lenient.encrypted()
	}
	for i, v := range all {
		if v.Octet && raceEnabled && (i%4 != 0 || scheme == "https") {
			continue // what differs in one byte runs the same code
		}
		b := strict
		if aborted(v) {
			// A Pod may count the beginning of an aborted request long after the client has its answer.
			b = lenient
		}
		t.Run(v.ID, func(t *testing.T) { runs += b.run(t, v, ways) })
	}
	if !lenient.settled() {
		t.Error("a Pod still waits for the rest of a request that was aborted")
	}
	return runs
}

// run sends one vector in all ways, and returns how many there are.
func (b *bench) run(t *testing.T, v vectors.Vector, ways []way) (runs int64) {
	t.Helper()
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
		if err := b.clean(int(runs)); err != nil {
			problems = append(problems, fmt.Sprintf("%s: the clean request behind it: %v", w.name, err))
		}
	}
	reason := known[v.ID]
	if i := strings.LastIndexByte(v.ID, '-'); reason == "" && i > 0 {
		reason = known[v.ID[:i]]
	}
	switch {
	case reason != "" && problems == nil:
		t.Errorf("does not fail any more (%s): take it off the list", reason)
	case reason != "":
		t.Skipf("known: %s\n%s", reason, strings.Join(problems, "\n"))
	case problems != nil:
		t.Error(strings.Join(problems, "\n"))
	}
	return runs
}

// aborted reports whether a Pod may get the beginning of a request.
func aborted(v vectors.Vector) bool {
	return slices.ContainsFunc(v.Answers, func(a vectors.Answer) bool { return a.End == vectors.Aborted })
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
	c := b.dialFor(pieces)
	defer func() { _ = c.Close() }()
	b.send(c, pieces)
	if v.HalfClose {
		_ = c.CloseWrite()
	}
	br := bufio.NewReader(c)
	texts, err := b.answers(br, v)
	if e, ok := c.(*tlsClient); ok && err == nil && (len(v.Answers) == 0 || v.Answers[len(v.Answers)-1].End.Closes()) && e.truncated() {
		err = errors.New("the connection ends without close_notify")
	}
	if err != nil {
		return errors.Join(err, b.gotOnly(v))
	}
	if len(v.Answers) > 0 && !v.Answers[len(v.Answers)-1].End.Closes() && !v.HalfClose {
		// Nothing is left on the connection: the next request gets the next answer.
		const next = "GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
		b.send(c, []string{next})
		after := vectors.Vector{Input: next, Answers: []vectors.Answer{{Status: 200, End: vectors.Closed}}}
		more, err := b.answers(br, after)
		if err != nil {
			return fmt.Errorf("the next request on the connection: %w", err)
		}
		texts = append(texts, more...)
		v.Seen = append(slices.Clone(seen(v)), vectors.Seen{Line: "GET /after HTTP/1.1"})
		v.Input += next
	}
	return b.pods(v, texts, port(c.RemoteAddr()))
}

// dialFor opens a connection for pieces.
func (b *bench) dialFor(pieces []string) client {
	if len(pieces) > 1 && b.scheme == "http" {
		return b.dialWatched()
	}
	return b.dial()
}

// port is that of a TCP address.
func port(a net.Addr) int { return a.(*net.TCPAddr).Port }

// gotOnly says what the Pods got, where the answers are wrong already.
func (b *bench) gotOnly(v vectors.Vector) error {
	requests, extra, problems := b.take()
	return fmt.Errorf("the Pods got %d requests %v and %d more bytes; %v; %d were expected", len(requests), requests, extra, problems, len(seen(v)))
}

// pods judges what the Pods got. texts are the answers that they gave, in order; at is the port to which the client connected.
func (b *bench) pods(v vectors.Vector, texts []string, at int) error {
	want := seen(v)
	if b.mayAbort && !b.settled() {
		return errors.New("a Pod waits for the rest of a request that was aborted")
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
		if err := errors.Join(match(requests[i], w), b.invented(requests[i], v.Input, at)); err != nil {
			return fmt.Errorf("request %d: %w; the Pod got %v", i, err, requests[i])
		}
		own := ownAnswer(requests[i].pod, requests[i].Target())
		if requests[i].Method() != "HEAD" && texts[i] != own {
			return fmt.Errorf("request %d got the answer %.100q, want %.100q", i, texts[i], own)
		}
	}
	return nil
}

// clean makes one request on a plain connection of its own, over the pools that the request before used.
func (b *bench) clean(n int) error {
	b.take()
	c := b.dialTo("http")
	defer func() { _ = c.Close() }()
	target := "/clean-" + strconv.Itoa(n)
	v := vectors.Vector{
		Input:   "GET " + target + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		Answers: []vectors.Answer{{Status: 200, End: vectors.Closed}},
		Seen:    []vectors.Seen{{Line: "GET " + target + " HTTP/1.1", Has: []string{"Host: a"}}},
	}
	b.send(c, []string{v.Input})
	texts, err := b.answers(bufio.NewReader(c), v)
	if err != nil {
		return err
	}
	requests, extra, problems := b.take()
	if len(problems) > 0 || len(requests) != 1 || extra != 0 && !b.mayAbort {
		return fmt.Errorf("the Pods got %v and %d more bytes; %v", requests, extra, problems)
	}
	if own := ownAnswer("a", target); texts[0] != own {
		return fmt.Errorf("it got the answer %.100q, want %q", texts[0], own)
	}
	return match(requests[0], v.Seen[0])
}
