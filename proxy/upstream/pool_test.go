package upstream

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"podlane.dev/podlane/router"
)

func uids(p *Pool) []string {
	var all []string
	for _, e := range p.members.Load().inUse {
		all = append(all, e.UID())
	}
	return all
}

// F16: ready Pods get traffic; those that serve while they terminate only where none is ready.
func TestWhoIsInUse(t *testing.T) {
	addr := func(uid string, ready, serving, terminating bool) router.Address {
		a := at("10.0.0."+uid[1:]+":80", uid)
		a.Ready, a.Serving, a.Terminating = ready, serving, terminating
		return a
	}
	for _, c := range []struct {
		name  string
		addrs []router.Address
		want  []string
		state State
	}{
		{"none", nil, nil, ""},
		{"ready", []router.Address{addr("u1", true, true, false), addr("u2", true, true, false)}, []string{"u1", "u2"}, StateReady},
		{"unready", []router.Address{addr("u1", false, false, false)}, nil, ""},
		{"ready before terminating", []router.Address{addr("u1", false, true, true), addr("u2", true, true, false)}, []string{"u2"}, StateReady},
		{"only terminating", []router.Address{addr("u1", false, true, true), addr("u2", false, false, true)}, []string{"u1"}, StateServing},
		{"serving but neither", []router.Address{addr("u1", false, true, false)}, nil, ""},
		{"published although not ready", []router.Address{addr("u1", true, false, false)}, []string{"u1"}, StateReady},
		{"listed twice", []router.Address{addr("u1", true, true, false), addr("u1", true, true, false)}, []string{"u1"}, StateReady},
		{"listed twice, unready first", []router.Address{addr("u1", false, false, false), addr("u1", true, true, false)}, []string{"u1"}, StateReady},
		{"listed twice, unready last", []router.Address{addr("u1", true, true, false), addr("u1", false, false, false)}, []string{"u1"}, StateReady},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool(t, registry(t, Options{}), c.addrs...)
			if got := uids(p); !slices.Equal(got, c.want) || p.Len() != len(c.want) {
				t.Errorf("in use: %v, want %v", got, c.want)
			}
			for _, uid := range c.want {
				if s := state(t, p, uid); s.State != c.state {
					t.Errorf("%s is %s, want %s", uid, s.State, c.state)
				}
			}
		})
	}
}

func TestEndpointKeepsItsIdentity(t *testing.T) {
	r := registry(t, Options{})
	p := pool(t, r, pods(3)...)
	before := byUID(t, p, "u2")
	if err := before.Reserve(); err != nil {
		t.Fatal(err)
	}
	set(r, pods(10)...)
	set(r, pods(10)[1:3]...)
	if after := byUID(t, p, "u2"); after != before || after.InFlight() != 1 {
		t.Error("a change of others made a new endpoint")
	}
	before.Cancel()
	byHand := at("10.9.9.9:80", "")
	set(r, byHand)
	e := byUID(t, p, "")
	set(r, byHand, pod(1))
	if byUID(t, p, "") != e {
		t.Error("an endpoint without a UID lost its identity")
	}
}

// An endpoint that was never dialed leaves nothing behind.
func TestRemovedEndpointIsForgotten(t *testing.T) {
	r := registry(t, Options{})
	p := pool(t, r)
	for i := range 1000 {
		set(r, pod(i))
	}
	if len(p.known) != 1 {
		t.Errorf("%d endpoints are known", len(p.known))
	}
}

func TestSetAddressesKeepsNothing(t *testing.T) {
	r := registry(t, Options{})
	addrs := pods(2)
	p := pool(t, r, addrs...)
	addrs[0] = pod(9)
	set(r, addrs...)
	if got := uids(p); !slices.Equal(got, []string{"u9", "u2"}) {
		t.Errorf("a change of the caller's slice was lost: %v", got)
	}
}

func TestPortsAndServicesAreApart(t *testing.T) {
	r := registry(t, Options{})
	p := pool(t, r, pod(1))
	admin, other := web, web
	admin.Port, other.Name = "admin", "other"
	q, _ := r.Ensure(admin)
	s, _ := r.Ensure(other)
	r.SetAddresses(web.Service(), map[string][]router.Address{"http": {pod(2)}, "admin": {pod(3)}, "unused": {pod(4)}})
	r.SetAddresses(router.Service{Namespace: "no", Name: "pool"}, map[string][]router.Address{"": {pod(4)}})
	if !slices.Equal(uids(p), []string{"u2"}) || !slices.Equal(uids(q), []string{"u3"}) || s.Len() != 0 {
		t.Errorf("%v, %v, %v", uids(p), uids(q), uids(s))
	}
	r.SetAddresses(web.Service(), nil)
	if p.Len() != 0 || q.Len() != 0 {
		t.Error("a service without addresses has endpoints")
	}
	if again, added := r.Ensure(web); again != p || added {
		t.Error("the pool was made anew")
	}
}

// F14: a Pod's address is handed to another Pod. Nothing of the old one serves the new one: idle connections are closed
// at once, a busy one drains to the old, an attempt that chose the old one is refused.
func TestAddressReuse(t *testing.T) {
	sameDescriptors(t)
	a := listen(t, "127.0.0.1:0", echo)
	r := registry(t, Options{})
	p := pool(t, r, at(a.String(), "old"))
	old := byUID(t, p, "old")
	idle, used := dial(t, old), dial(t, old)
	idle.Put()
	set(r, at(a.String(), "new"))
	if _, err := idle.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the old pod's idle connection is open: %v", err)
	}
	if _, err := old.Acquire(Profile{}); KindOf(err) != Gone {
		t.Errorf("the old endpoint can still be acquired: %v", err)
	}
	fresh := byUID(t, p, "new")
	if fresh == old {
		t.Fatal("same endpoint")
	}
	if c, err := fresh.Acquire(Profile{}); c != nil || err != nil {
		t.Errorf("the new endpoint has a connection that nobody dialed: %v, %v", c, err)
	}
	fresh.Cancel()
	if s := state(t, p, "old"); s.State != StateDraining || s.Open != 1 || s.InFlight != 1 {
		t.Errorf("old: %+v", s)
	}
	say(t, used, "still here")
	used.Put()
	if s, _ := p.status(); len(s.Endpoints) != 1 || r.Open() != 0 {
		t.Errorf("after the drain: %+v, %d open", s, r.Open())
	}
}

// The Pod leaves while a connect to its address is under way. Nobody answers any more, and the request must not wait for that.
func TestEndpointLeavesDuringConnect(t *testing.T) {
	inBubble(t, Options{}, 2, func(t bubble, p *Pool, n *pipes) {
		n.delay = time.Hour
		began := time.Now()
		time.AfterFunc(time.Second, func() { set(p.registry, pod(2)) })
		e := byUID(t, p, "u1")
		if c, err := acquire(e); c != nil || !errors.Is(err, ErrGone) || time.Since(began) != time.Second {
			t.Errorf("got %v, %v after %s", c, err, time.Since(began))
		}
		if e.InFlight() != 0 || p.registry.Open() != 0 || len(e.idle.dials) != 0 {
			t.Errorf("in flight %d, open %d, dials %d", e.InFlight(), p.registry.Open(), len(e.idle.dials))
		}
		n.delay = 0
		dial(t, byUID(t, p, "u2")).Discard()
	})
}

// The same where the connection is made in the same moment: it may reach someone else by now.
func TestEndpointLeavesAtConnect(t *testing.T) {
	inBubble(t, Options{}, 1, func(t bubble, p *Pool, n *pipes) {
		n.delay, n.deaf = time.Second, true
		e := byUID(t, p, "u1")
		go func() {
			time.Sleep(time.Second / 2)
			set(p.registry, pod(2))
		}()
		if c, err := acquire(e); c != nil || !errors.Is(err, ErrGone) {
			t.Errorf("got %v, %v", c, err)
		}
		synctest.Wait()
		if e.InFlight() != 0 || p.registry.Open() != 0 || len(p.known) != 1 {
			t.Errorf("in flight %d, open %d, known %d", e.InFlight(), p.registry.Open(), len(p.known))
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		theirs := n.ends[e.AddrPort()][0]
		if _, err := theirs.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is still open")
		}
	})
}

// A Pod that comes back while it drains is the same Endpoint, and its connections are good.
func TestEndpointComesBack(t *testing.T) {
	inBubble(t, Options{}, 2, func(t bubble, p *Pool, _ *pipes) {
		e := byUID(t, p, "u1")
		c := dial(t, e)
		set(p.registry, pod(2))
		time.Sleep(time.Minute)
		set(p.registry, pods(2)...)
		if byUID(t, p, "u1") != e {
			t.Fatal("another endpoint")
		}
		time.Sleep(DefaultDrainTimeout)
		c.Put()
		if again := dial(t, e); again != c {
			t.Error("the connection was cut or not pooled")
		}
		// When it leaves again, it may drain for the whole time again.
		set(p.registry, pod(2))
		time.Sleep(DefaultDrainTimeout - 1)
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Errorf("the connection was cut too early: %v", err)
		}
		c.Discard()
	})
}

// A Pod that turns unready gets nothing, but keeps its health.
func TestUnreadyEndpointStaysKnown(t *testing.T) {
	inBubble(t, Options{}, 2, func(t bubble, p *Pool, _ *pipes) {
		e := byUID(t, p, "u1")
		c := dial(t, e)
		dial(t, e).Put()
		sick := pod(1)
		sick.Ready, sick.Serving = false, false
		set(p.registry, sick, pod(2))
		if s := state(t, p, "u1"); s.State != StateUnready || s.Idle != 0 || s.Open != 1 {
			t.Errorf("%+v", s)
		}
		c.Put()
		if s := state(t, p, "u1"); s.Open != 0 {
			t.Errorf("a connection was pooled: %+v", s)
		}
		set(p.registry, pods(2)...)
		if byUID(t, p, "u1") != e {
			t.Error("another endpoint")
		}
	})
}

// Busy connections to a removed Endpoint end with their request, or are cut after the drain timeout.
// The sweeper finds what Pods closed, also below the top of the stack, so that they do not wait for their FIN's answer.
// A Pool outlives its last table a little, because requests that the table routed are still choosing; then it is dropped.
func TestPoolsAreInOrder(t *testing.T) {
	r := registry(t, Options{})
	want := []router.ServicePort{
		{Namespace: "a", Name: "b", Port: ""}, {Namespace: "a", Name: "b", Port: "http"}, {Namespace: "a", Name: "c"}, {Namespace: "b", Name: "a"},
	}
	for _, i := range []int{2, 0, 3, 1} {
		r.Ensure(want[i])
	}
	r.SetAddresses(router.Service{Namespace: "a", Name: "c"}, map[string][]router.Address{"": {pod(300), pod(2), pod(10)}})
	var got []router.ServicePort
	for _, s := range r.Pools() {
		got = append(got, s.ServicePort)
		if len(s.Endpoints) == 3 && !slices.IsSortedFunc(s.Endpoints, func(a, b EndpointStatus) int { return a.AddrPort.Compare(b.AddrPort) }) {
			t.Errorf("endpoints out of order: %+v", s.Endpoints)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if c := r.Counts(); c.States[StateReady] != 3 || len(c.States) != 5 || c.Empty != 3 {
		t.Errorf("%+v", c)
	}
}

// Counts says of each Endpoint what Pools does.
func TestCounts(t *testing.T) {
	r := registry(t, Options{MaxFails: 1})
	p, _ := r.Ensure(router.ServicePort{Namespace: "a", Name: "b"})
	unready, serving := pod(3), pod(4)
	unready.Ready, serving.Ready, serving.Serving, serving.Terminating = false, false, true, true
	r.SetAddresses(router.Service{Namespace: "a", Name: "b"}, map[string][]router.Address{"": {pod(1), pod(2), unready, serving}})
	byUID(t, p, "u1").fail(Refused)
	other, _ := r.Ensure(router.ServicePort{Namespace: "a", Name: "c"})
	r.SetAddresses(router.Service{Namespace: "a", Name: "c"}, map[string][]router.Address{"": {serving}})
	want := map[State]int{StateReady: 0, StateServing: 0, StateUnready: 0, StateEjected: 0, StateDraining: 0}
	for _, s := range []PoolStatus{p.Status(), other.Status()} {
		for _, e := range s.Endpoints {
			want[e.State]++
		}
	}
	if c := r.Counts(); !maps.Equal(c.States, want) || c.Empty != 0 || want[StateReady] == 0 || want[StateServing] == 0 || want[StateUnready] == 0 || want[StateEjected] == 0 {
		t.Errorf("%+v, want %v", c, want)
	}
}

func TestTried(t *testing.T) {
	var tried Tried
	var none *Tried
	all := make([]Endpoint, maxTried+3)
	for i := range all {
		if tried.Has(&all[i]) || none.Has(&all[i]) {
			t.Error("has what was never added")
		}
		tried.Add(&all[i])
		if i < maxTried && !tried.Has(&all[i]) {
			t.Error("lost one")
		}
	}
	if tried.Len() != len(all) || none.Len() != 0 {
		t.Errorf("%d of %d", tried.Len(), len(all))
	}
	tried.Reset()
	if tried.Len() != 0 || tried.Has(&all[0]) {
		t.Error("not empty")
	}
}

func TestEndpointTellsWhereItIs(t *testing.T) {
	a := router.Address{
		AddrPort: netip.MustParseAddrPort("[2001:db8::1]:8080"), UID: "u", Pod: "web-1", Node: "n1", Zone: "z1", Ready: true,
	}
	p := pool(t, registry(t, Options{}), a)
	e := byUID(t, p, "u")
	if e.AddrPort() != a.AddrPort || e.Pod() != "web-1" || e.Node() != "n1" || e.Zone() != "z1" || e.Pool() != p || p.ServicePort() != web {
		t.Errorf("%+v", e)
	}
}
