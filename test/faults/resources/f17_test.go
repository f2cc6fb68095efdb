package resources_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// outcome counts what clients got.
type outcome struct {
	mu     sync.Mutex
	counts map[string]int
}

func (o *outcome) note(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts = map[string]int{}
	}
	o.counts[what]++
}

func (o *outcome) of(what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[what]
}

func (o *outcome) total() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum := 0
	for _, n := range o.counts {
		sum += n
	}
	return sum
}

// String lists the counts in order.
func (o *outcome) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := ""
	for _, what := range slices.Sorted(maps.Keys(o.counts)) {
		text += fmt.Sprintf("%d× %s  ", o.counts[what], what)
	}
	return text
}

// onlyAnswers fails the test where a client got anything else than what the Pod said or an honest 503.
func (o *outcome) onlyAnswers(t *testing.T) {
	t.Helper()
	if bad := o.total() - o.of("200") - o.of("503"); bad > 0 {
		t.Errorf("%d clients got neither 200 nor 503: %s", bad, o)
	}
}

// get makes one request on a connection of its own and notes what came of it. The connection stays open until closed by the other side
// or by the caller, where there was an answer.
func (o *outcome) get(addr, host string) *client {
	c, err := tryDial(addr)
	if err != nil {
		o.note("dial: " + err.Error())
		return nil
	}
	c.send("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	res, err := http.ReadResponse(c.in, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
	}
	switch {
	case err != nil:
		o.note(kindOf(err))
		c.Close()
		return nil
	case res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "":
		o.note("503 without Retry-After")
	default:
		o.note(fmt.Sprint(res.StatusCode))
	}
	return c
}

// F17: 2,000 clients at once, of a process that may open 256 files. Those that have their answer give way to those that wait, nobody
// is reset, nothing spins, and when the load is over everything is as before.
func TestF17FewDescriptors(t *testing.T) {
	noLeaks(t)
	const limit, clients = 256, 2000
	quick := plainPod(t, "quick")
	release := make(chan struct{})
	hanging := newPod(t, func(c *podConn) {
		if c.request() != nil {
			wanted(t, release)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			c.untilClosed()
		}
	})
	p := serving.Start(t, serving.Options{
		Program: podlaneProgram(t),
		Dir: serving.Folder(t, map[string][]string{
			"quick.test": {quick.addr}, "two.test": {quick.addr}, "three.test": {quick.addr}, "hanging.test": {hanging.addr},
		}),
		Shell: fmt.Sprint("ulimit -n ", limit), Args: []string{"--upstream-keepalive-timeout=500ms"},
	})
	rest := p.Descriptors()
	most := watchMost(t, p.Descriptors)

	// Clients that ask once and then keep their connection, as browsers do, of several Services: one alone may take half of it all.
	var o outcome
	var turn atomic.Int64
	open := crowd(clients, func() *client {
		return o.get(p.HTTP, []string{"quick.test", "two.test", "three.test"}[turn.Add(1)%3])
	})
	p.Alive()
	t.Logf("F17: %d clients that keep their connections, %d files at rest, at most %d of %d open: %s", clients, rest, most(), limit, &o)
	o.onlyAnswers(t)
	if o.of("200") < clients/2 {
		t.Errorf("only %d of %d clients were served", o.of("200"), clients)
	}
	closeAll(open)

	// Clients whose Pod hangs: they hold what they have, and the others are turned away. There is nothing to do meanwhile.
	var h outcome
	hung := make(chan []*client, 1)
	go func() { hung <- crowd(clients/4, func() *client { return h.get(p.HTTP, "hanging.test") }) }()
	await(t, "the hanging Pod to have what it is given", func() bool { return h.of("503") > 0 && quiet(h.total) })
	idle := p.UsageDuring(time.Second)
	held := hanging.conns.Load()
	t.Logf("F17: the hanging Pod holds %d connections; in a second of that the process used %s and slept %d times; %s", held, idle.CPU, idle.Sleeps, &h)
	if idle.CPU > 500*time.Millisecond {
		t.Errorf("the process used %s of a second in which nothing happened", idle.CPU)
	}
	var others outcome
	began := time.Now()
	closeAll(crowd(50, func() *client { return others.get(p.HTTP, "quick.test") }))
	t.Logf("F17: 50 clients of another Service meanwhile: %s in %s", &others, time.Since(began).Round(time.Millisecond))
	others.onlyAnswers(t)
	if others.of("200") == 0 {
		t.Error("no client of another Service was served while one hung")
	}
	close(release)
	closeAll(<-hung)
	p.Alive()
	h.onlyAnswers(t)

	began = time.Now()
	var after outcome
	closeAll(crowd(50, func() *client { return after.get(p.HTTP, "quick.test") }))
	t.Logf("F17: after it 50 clients got %s within %s (the design: 1 s)", &after, time.Since(began).Round(time.Millisecond))
	if after.of("200") != 50 {
		t.Errorf("after the load: %s", &after)
	}
	await(t, "the process to close what it opened", func() bool { return p.Descriptors() <= rest+8 })
	if n := most(); n > limit {
		t.Errorf("%d files were open", n)
	}
}

// crowd runs n clients at once, and returns those whose connections are open.
func crowd(n int, one func() *client) []*client {
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []*client
	for range n {
		all.Go(func() {
			if c := one(); c != nil {
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return open
}

func closeAll(list []*client) {
	for _, c := range list {
		c.Close()
	}
}

// quiet reports whether a count stays what it is for a while.
func quiet(count func() int) bool {
	before := count()
	time.Sleep(200 * time.Millisecond)
	return count() == before
}

// watchMost follows a number until the end of the test; the result returns the largest so far.
func watchMost(t *testing.T, number func() int) func() int {
	t.Helper()
	var mu sync.Mutex
	most := 0
	ctx := t.Context()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			n := number()
			mu.Lock()
			most = max(most, n)
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
		}
	}()
	t.Cleanup(func() { <-done })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return most
	}
}
