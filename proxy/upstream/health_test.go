package upstream

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// bubble is the T of a test on a fake clock.
type bubble struct{ *testing.T }

// inBubble runs a test on a fake clock, with a Pool of n Endpoints that are reached through pipes.
func inBubble(t *testing.T, o Options, n int, test func(t bubble, p *Pool, net *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := &pipes{fail: map[netip.AddrPort]error{}}
		o.Dial = net.dial
		r := NewRegistry(o)
		defer r.Close()
		p, _ := r.Ensure(web)
		set(r, pods(n)...)
		test(bubble{t}, p, net)
	})
}

func state(t testing.TB, p *Pool, uid string) EndpointStatus {
	t.Helper()
	s, _ := p.status()
	for _, e := range s.Endpoints {
		if e.UID == uid {
			return e
		}
	}
	t.Fatalf("no endpoint %s", uid)
	return EndpointStatus{}
}

// F1 and S10: max_fails=1 fail_timeout=10s. Out for 10 s, then one probe in each further 10 s until one succeeds.
func TestEjection(t *testing.T) {
	var ejected, restored int
	o := Options{Observer: Observer{
		OnEject:   func(e *Endpoint, why Failure) { ejected++ },
		OnRestore: func(e *Endpoint) { restored++ },
	}}
	inBubble(t, o, 3, func(t bubble, p *Pool, net *pipes) {
		v := p.View(ViewSpec{})
		e := byUID(t, p, "u2")
		net.fail[e.AddrPort()] = syscall.ECONNREFUSED
		_, err := acquire(e)
		e.Failed(KindOf(err))
		if s := state(t, p, "u2"); s.State != StateEjected || s.EjectedFor != 10*time.Second || s.Fails != 1 {
			t.Errorf("after a refused connection: %+v", s)
		}
		if got := spread(v, 300); got["u2"] != 0 || got["u1"] < 120 || got["u3"] < 120 {
			t.Errorf("picks while u2 is out: %v", got)
		}
		time.Sleep(10*time.Second - 1)
		if got := spread(v, 300); got["u2"] != 0 {
			t.Errorf("out for less than 10 s: %v", got)
		}
		for range 3 {
			time.Sleep(time.Nanosecond)
			if got := spread(v, 300); got["u2"] != 1 {
				t.Fatalf("%d probes, want 1", got["u2"])
			}
			_, err := acquire(e)
			e.Failed(KindOf(err))
			time.Sleep(10*time.Second - 1)
			if got := spread(v, 300); got["u2"] != 0 {
				t.Fatalf("after a failed probe: %v", got)
			}
		}
		time.Sleep(time.Nanosecond)
		delete(net.fail, e.AddrPort())
		if got := spread(v, 300); got["u2"] != 1 {
			t.Fatalf("%d probes, want 1", got["u2"])
		}
		dial(t, e).Put()
		e.Succeeded()
		if got := spread(v, 300); got["u2"] != 100 {
			t.Errorf("after a good probe: %v", got)
		}
		if ejected != 1 || restored != 1 {
			t.Errorf("observed %d ejections, %d recoveries", ejected, restored)
		}
	})
}

// Each algorithm keeps to the Endpoints in rotation, gives the probe when it is due, and spreads what the ejected one
// would have got over all others.
func TestEjectionInEveryAlgorithm(t *testing.T) {
	for _, a := range []Algorithm{RandomTwo, RoundRobin, LeastConnections, PeakEWMA, Hash} {
		inBubble(t, Options{}, 5, func(t bubble, p *Pool, _ *pipes) {
			v := p.View(ViewSpec{Algorithm: a})
			for _, e := range p.members.Load().inUse {
				v.Observe(e, time.Millisecond)
			}
			all := clients(1000)
			before := byClient(v, all)
			byUID(t, p, "u2").Failed(Refused)
			after := map[string]int{}
			for i, uid := range byClient(v, all) {
				after[uid]++
				if a == Hash && before[i] != "u2" && uid != before[i] {
					t.Fatal("a client of another endpoint moved")
				}
			}
			if after["u2"] != 0 {
				t.Errorf("%v: %d picks of the ejected endpoint", a, after["u2"])
			}
			for uid, n := range after {
				if n > 350 {
					t.Errorf("%v: %s got all of its share: %v", a, uid, after)
				}
			}
			time.Sleep(10 * time.Second)
			probes := 0
			for i, uid := range byClient(v, all) {
				if uid == "u2" {
					probes++
				}
				if a == Hash && uid != before[i] && before[i] != "u2" {
					t.Error("a client of another endpoint was taken for the probe")
				}
			}
			if probes != 1 {
				t.Errorf("%v: %d probes", a, probes)
			}
		})
	}
}

// Never more than half of the ready Endpoints, and never the last.
func TestEjectionNeverMoreThanHalf(t *testing.T) {
	for n := 1; n <= 7; n++ {
		inBubble(t, Options{}, n, func(t bubble, p *Pool, _ *pipes) {
			for _, e := range p.members.Load().inUse {
				e.Failed(Refused)
				e.Failed(Timeout)
			}
			out := 0
			for _, e := range p.members.Load().inUse {
				if e.ejected.Load() != 0 {
					out++
				}
			}
			if out != n/2 {
				t.Errorf("%d of %d are out", out, n)
			}
			if got := spread(p.View(ViewSpec{}), 100); got["none"] != 0 {
				t.Errorf("no endpoint although %d are in rotation", n-out)
			}
		})
	}
}

// Half is of those in use now: when the healthy ones are scaled away, ejected ones come back.
func TestEjectionHalfAfterScaleDown(t *testing.T) {
	inBubble(t, Options{}, 4, func(t bubble, p *Pool, _ *pipes) {
		byUID(t, p, "u1").Failed(Refused)
		time.Sleep(time.Second)
		byUID(t, p, "u2").Failed(Refused)
		set(p.registry, pods(3)...)
		if s := state(t, p, "u1"); s.State != StateReady {
			t.Errorf("the one that was out longest is %s", s.State)
		}
		if s := state(t, p, "u2"); s.State != StateEjected {
			t.Errorf("the one that was out last is %s", s.State)
		}
		set(p.registry, pods(2)[1:]...)
		if s := state(t, p, "u2"); s.State != StateReady {
			t.Errorf("the only one left is %s", s.State)
		}
	})
}

func TestMaxFails(t *testing.T) {
	inBubble(t, Options{MaxFails: 3}, 2, func(t bubble, p *Pool, _ *pipes) {
		e := byUID(t, p, "u1")
		for range 5 { // never three in one fail_timeout
			e.Failed(Refused)
			e.Failed(Refused)
			time.Sleep(11 * time.Second)
		}
		if s := state(t, p, "u1"); s.State != StateReady {
			t.Fatalf("%+v", s)
		}
		for range 3 {
			e.Failed(Reset)
		}
		if s := state(t, p, "u1"); s.State != StateEjected || s.Fails != 3 {
			t.Errorf("%+v", s)
		}
	})
	inBubble(t, Options{MaxFails: -1}, 2, func(t bubble, p *Pool, _ *pipes) {
		byUID(t, p, "u1").Failed(Refused)
		if s := state(t, p, "u1"); s.State != StateReady {
			t.Errorf("ejection is off, and yet %+v", s)
		}
	})
}

// What says nothing about the Endpoint does not count.
func TestFailuresThatDoNotCount(t *testing.T) {
	inBubble(t, Options{}, 2, func(t bubble, p *Pool, _ *pipes) {
		for _, f := range []Failure{NoFailure, Local, Canceled, Gone, Limited} {
			byUID(t, p, "u1").Failed(f)
			if s := state(t, p, "u1"); s.State != StateReady || s.Fails != 0 {
				t.Errorf("%v: %+v", f, s)
			}
		}
	})
}

// A Pod that shuts down refuses new connections and finishes what it accepted: those answers are not a recovery.
func TestOldAnswersDoNotRestore(t *testing.T) {
	inBubble(t, Options{}, 2, func(t bubble, p *Pool, _ *pipes) {
		e := byUID(t, p, "u1")
		e.Failed(Refused)
		e.Succeeded()
		if s := state(t, p, "u1"); s.State != StateEjected {
			t.Errorf("%+v", s)
		}
	})
}

// A connect proves that the Pod listens, not that it answers.
func TestConnectRestoresOnlyFromConnectFailures(t *testing.T) {
	for _, f := range []Failure{Refused, Timeout, Unreachable, Reset} {
		inBubble(t, Options{}, 2, func(t bubble, p *Pool, _ *pipes) {
			e := byUID(t, p, "u1")
			e.Failed(f)
			dial(t, e).Put()
			want := StateReady
			if f == Reset {
				want = StateEjected
			}
			if s := state(t, p, "u1"); s.State != want {
				t.Errorf("after %v and a connect: %s", f, s.State)
			}
		})
	}
}

// When everything else was tried, an ejected Endpoint is better than a refusal.
func TestEjectedIsTheLastResort(t *testing.T) {
	inBubble(t, Options{}, 2, func(t bubble, p *Pool, _ *pipes) {
		v := p.View(ViewSpec{})
		byUID(t, p, "u1").Failed(Refused)
		var tried Tried
		for _, want := range []string{"u2", "u1"} {
			e := v.Next(nil, &tried)
			if e == nil || e.UID() != want {
				t.Fatalf("got %v, want %s", e, want)
			}
			tried.Add(e)
		}
	})
}

// Health is the Endpoint's, whatever happens to the others.
func TestHealthSurvivesMemberChanges(t *testing.T) {
	inBubble(t, Options{}, 3, func(t bubble, p *Pool, _ *pipes) {
		e := byUID(t, p, "u1")
		e.Failed(Refused)
		set(p.registry, pods(5)...)
		if byUID(t, p, "u1") != e || state(t, p, "u1").State != StateEjected {
			t.Error("the ejection was forgotten")
		}
	})
}

// Slow start compares loads by weight: a new Endpoint does not get every request because it has none in flight.
// The budget: 20 % of the Service's requests, at least 10 in a second.
// The ports of a Service have one budget.
// A black hole (F2): the connect ends by the timeout, counts, and the Endpoint goes out.
func TestBlackHole(t *testing.T) {
	inBubble(t, Options{}, 2, func(t bubble, p *Pool, n *pipes) {
		p.registry.o.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		e := byUID(t, p, "u1")
		start := time.Now()
		_, err := acquire(e)
		if KindOf(err) != Timeout || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		e.Failed(KindOf(err))
		if s := state(t, p, "u1"); s.State != StateEjected {
			t.Errorf("%+v", s)
		}
	})
}
