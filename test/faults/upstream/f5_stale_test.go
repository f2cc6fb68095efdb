package upstream_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
)

// long reports whether the numbers of the design are wanted: they take minutes.
func long() bool { return os.Getenv("FAULTS_LONG") != "" }

// scale returns one of two numbers of requests.
func scale(short, full int) int {
	if long() {
		return full
	}
	return short
}

// An impatient Pod closes connections on which no request has come for a while, as servers do, whatever is under way to it.
type impatient struct {
	idle time.Duration

	mu      sync.Mutex
	served  map[string]int    // requests that it has acted on
	orphans map[string]string // method of those that came behind its FIN and it has not acted on; of half of its connections
	closed  int               // connections that it closed
}

// serve is one connection. Every other one ends with a FIN and goes on looking at what comes, the others close as a whole: what comes
// then is answered with RST by the kernel.
func (p *impatient) serve(i int, c *net.TCPConn, in *bufio.Reader) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for {
		if _, err := in.Peek(1); err != nil {
			break
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		id, _, body, err := request(in)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.served[id]++
		p.mu.Unlock()
		if respond(c, "impatient", id, body) != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(p.idle))
	}
	p.mu.Lock()
	p.closed++
	p.mu.Unlock()
	if i%2 == 0 {
		return // newHostile closes it
	}
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if id, method, _, err := request(in); err == nil {
		p.mu.Lock()
		p.orphans[id] = method
		p.mu.Unlock()
	}
}

// check looks at what the Pod got in all, and returns how many connections it closed.
func (p *impatient) check(t *testing.T) (closed int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, n := range p.served {
		if n > 1 {
			t.Errorf("request %s was acted on %d times", id, n)
		}
	}
	for id, method := range p.orphans {
		// Who sent it cannot know that it was not acted on.
		if method == http.MethodPost && p.served[id] > 0 {
			t.Errorf("POST %s was sent whole to a connection that ended, and then once more", id)
		}
	}
	return p.closed
}

// A stale is one client of F5, with a Service of its own and so a pool of its own: the pause between its requests is that of its connection.
type stale struct {
	caller  *caller
	pod     *impatient
	service service
	reuses  atomic.Int64

	gets, posts, ambiguous int
}

// Pods close idle connections after 50 ms to 1 s while clients send, mostly at the very moment: no GET fails, and a POST only where nobody
// can know whether the Pod has acted on it.
func TestF5Stale(t *testing.T) {
	r := newRig(t, proxy.Options{})
	const perPod = 80
	var clients []*stale
	byName := map[string]*stale{}
	var services []service
	addresses := map[string]*hostile{}
	var pods []*impatient
	for i, ms := range []int{50, 100, 200, 400, 700, 1000} {
		p := &impatient{idle: time.Duration(ms) * time.Millisecond, served: map[string]int{}, orphans: map[string]string{}}
		h := newHostile(t, 20+i, p.serve)
		pods = append(pods, p)
		for k := range perPod {
			name := fmt.Sprintf("s-%d-%d", i, k)
			s := &stale{pod: p, service: named("default", name, name+".test")}
			clients, byName[name], addresses[name] = append(clients, s), s, h
			services = append(services, s.service)
		}
	}
	r.events.reused = func(e *upstream.Endpoint) { byName[e.Pool().ServicePort().Name].reuses.Add(1) }
	r.publish(services...)
	for _, s := range clients {
		r.assign(s.service, ready(addresses[s.service.name].at))
		s.caller = r.dial()
	}
	var left atomic.Int64
	left.Store(int64(scale(25_000, 130_000)))
	var tasks sync.WaitGroup
	began := time.Now()
	for i, s := range clients {
		tasks.Go(func() {
			defer s.caller.conn.Close()
			s.run(rand.New(rand.NewPCG(uint64(i), 5)), &left)
		})
	}
	tasks.Wait()

	var gets, posts, ambiguous, closed int
	for _, s := range clients {
		gets, posts, ambiguous = gets+s.gets, posts+s.posts, ambiguous+s.ambiguous
	}
	for _, p := range pods {
		closed += p.check(t)
	}
	retries, stales := r.metric("podlane_request_retries_total"), r.events.stales.Load()
	if closed < gets/20 || stales == 0 {
		t.Errorf("the Pods closed %d connections, %d were found closed before use: nothing was injected", closed, stales)
	}
	r.wantRejected("upstream-reset", ambiguous)
	t.Logf("F5: %d GET, 0 failed; %d POST, %d ambiguous (502), 0 repeated; %d connections closed by Pods, %d found closed before use, %d retries, in %s",
		gets, posts, ambiguous, closed, stales, retries, time.Since(began).Round(time.Millisecond))
}

// run sends until no request is left.
func (s *stale) run(rnd *rand.Rand, left *atomic.Int64) {
	t := s.caller.t
	for n := 0; left.Add(-1) >= 0; n++ {
		time.Sleep(s.pause(rnd))
		method := http.MethodGet
		if rnd.IntN(5) == 0 {
			method = http.MethodPost
		}
		id := fmt.Sprintf("%s-%d", s.service.name, n)
		reuses := s.reuses.Load()
		a := s.caller.ask(method, s.service.host, id)
		received := ""
		if method == http.MethodPost {
			s.posts++
			received = id
		} else {
			s.gets++
		}
		switch {
		case a.status == http.StatusOK && a.whole():
			if string(a.body) != id || a.header.Get("X-Id") != id || a.header.Get("X-Received-Sha256") != digest([]byte(received)) {
				t.Errorf("%s %s got another's answer: %s %v", method, id, a, a.header)
			}
		case method == http.MethodPost && a.status == http.StatusBadGateway && a.whole():
			s.ambiguous++
			s.judge(id, s.reuses.Load()-reuses)
		default:
			t.Errorf("%s %s: %s", method, id, a)
			return
		}
	}
}

// judge holds a POST that failed to what is truly ambiguous: it left on a connection of the pool that was open a moment before, and the Pod
// has not acted on it.
func (s *stale) judge(id string, reuses int64) {
	s.caller.t.Helper()
	s.pod.mu.Lock()
	defer s.pod.mu.Unlock()
	if n := s.pod.served[id]; n != 0 || reuses != 1 {
		s.caller.t.Errorf("POST %s failed on %d pooled connections, and was acted on %d times: that is not ambiguous", id, reuses, n)
	}
}

// pause is around the Pod's patience most of the time, and anything else at others.
func (s *stale) pause(rnd *rand.Rand) time.Duration {
	const around = time.Millisecond
	if rnd.IntN(3) > 0 {
		return s.pod.idle - around + rand.N(2*around)
	}
	return time.Duration(rnd.Int64N(int64(s.pod.idle)))
}
