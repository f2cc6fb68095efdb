package upstream

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"podlane.dev/podlane/router"
)

func TestDrainIsBounded(t *testing.T) {
	inBubble(t, Options{}, 2, func(t bubble, p *Pool, _ *pipes) {
		e := byUID(t, p, "u1")
		c := dial(t, e)
		broken := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			broken <- err
		}()
		set(p.registry, pod(2))
		start := time.Now()
		if err := <-broken; err == nil {
			t.Error("read from a silent pod")
		}
		if took := time.Since(start); took < DefaultDrainTimeout || took > DefaultDrainTimeout+sweepInterval {
			t.Errorf("cut after %v", took)
		}
		c.Discard()
		if len(p.known) != 1 || p.registry.Open() != 0 {
			t.Errorf("%d known, %d open", len(p.known), p.registry.Open())
		}
	})
	inBubble(t, Options{DrainTimeout: -1}, 2, func(t bubble, p *Pool, n *pipes) {
		c := dial(t, byUID(t, p, "u1"))
		set(p.registry, pod(2))
		time.Sleep(24 * time.Hour)
		go func() { _, _ = n.ends[c.Endpoint().AddrPort()][0].Write([]byte("x")) }()
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("cut although the drain is without end: %v", err)
		}
		c.Discard()
	})
}

func TestIdleConnectionsExpire(t *testing.T) {
	inBubble(t, Options{}, 1, func(t bubble, p *Pool, _ *pipes) {
		e := byUID(t, p, "u1")
		a, b := dial(t, e), dial(t, e)
		a.Put()
		time.Sleep(20 * time.Second)
		b.Put()
		open := func(after time.Duration, want int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if p.registry.Open() != want {
				t.Errorf("%d connections are open, want %d", p.registry.Open(), want)
			}
		}
		open(35*time.Second-1, 2)
		open(1, 1)
		open(20*time.Second-1, 1)
		if c := dial(t, e); c != b {
			t.Error("not the connection that was left")
		}
		time.Sleep(time.Hour / 2) // busy connections do not expire
		b.Put()
		open(55*time.Second-1, 1)
		open(1, 0)
		open(time.Hour, 0)
		dial(t, e).Put() // the sweeper wakes again
		open(55*time.Second-1, 1)
		open(1, 0)
	})
}

func TestConnectionAge(t *testing.T) {
	inBubble(t, Options{MaxAge: time.Minute}, 1, func(t bubble, p *Pool, _ *pipes) {
		e := byUID(t, p, "u1")
		c := dial(t, e)
		for range 2 {
			time.Sleep(20 * time.Second)
			c.Put()
			if dial(t, e) != c {
				t.Fatal("closed too early")
			}
		}
		time.Sleep(20 * time.Second)
		c.Put()
		if p.registry.Open() != 0 {
			t.Error("pooled after its time")
		}
	})
}

func TestSweeperClosesStaleConnections(t *testing.T) {
	sameDescriptors(t)
	var server atomic.Pointer[net.TCPConn]
	a := listen(t, "127.0.0.1:0", func(c net.Conn) {
		server.CompareAndSwap(nil, c.(*net.TCPConn))
		echo(c)
	})
	var stale atomic.Int32
	r := registry(t, Options{IdleTimeout: time.Hour, DrainTimeout: 20 * time.Millisecond, // = the sweeper's interval
		Observer: Observer{OnStale: func(*Endpoint) { stale.Add(1) }}})
	p := pool(t, r, at(a.String(), "u"))
	e := byUID(t, p, "u")
	var all []*Conn
	for range 3 * sweepChunk {
		c := dial(t, e)
		say(t, c, "x")
		all = append(all, c)
	}
	for _, c := range all {
		c.Put()
	}
	_ = server.Load().Close()
	eventually(t, "one connection is closed", func() bool { return r.Open() == len(all)-1 })
	if s := state(t, p, "u"); s.Idle != len(all)-1 || stale.Load() != 1 {
		t.Errorf("%+v, %d stale", s, stale.Load())
	}
	if got := dial(t, e); got != all[len(all)-1] {
		t.Error("the order of the stack was lost")
	} else {
		got.Put()
	}
}

func TestSweep(t *testing.T) {
	inBubble(t, Options{}, 2, func(t bubble, p *Pool, _ *pipes) {
		r := p.registry
		v := p.View(ViewSpec{})
		other := web
		other.Name = "other"
		q, _ := r.Ensure(other)
		r.SetAddresses(other.Service(), map[string][]router.Address{other.Port: pods(1)})
		e := byUID(t, p, "u1")
		dial(t, e).Put()
		c := dial(t, byUID(t, p, "u2"))
		keepOther := func(s router.ServicePort) bool { return s == other }
		r.Sweep(keepOther)
		if s := r.Pools(); len(s) != 1 || s[0].ServicePort != other {
			t.Errorf("pools: %+v", s)
		}
		set(r, pods(2)[1:]...)
		if e := v.Next(nil, nil); e == nil || e.UID() != "u2" {
			t.Errorf("a request of the last table finds %v", e)
		}
		time.Sleep(linger - 1)
		r.Sweep(keepOther)
		if again, added := r.Ensure(web); again != p || added {
			t.Error("a pool that is used again was made anew")
		}
		time.Sleep(time.Hour)
		if v.Next(nil, nil) == nil {
			t.Fatal("a pool that is used again was dropped")
		}
		r.Sweep(keepOther)
		time.Sleep(linger)
		synctest.Wait()
		if v.Next(nil, nil) != nil || p.Len() != 0 {
			t.Error("the pool was not dropped")
		}
		c.Put()
		if r.Open() != 0 {
			t.Errorf("%d connections are open", r.Open())
		}
		set(r, pods(2)...)
		if p.Len() != 0 {
			t.Error("a dropped pool got addresses")
		}
		fresh, added := r.Ensure(web)
		if fresh == p || !added {
			t.Error("a dropped pool came back")
		}
		if q.Len() != 1 {
			t.Error("the pool that was kept is empty")
		}
	})
}

// What is said of reuse later holds for connections that are idle already, and the Options' own values hold again without it.
func TestReuseChanges(t *testing.T) {
	inBubble(t, Options{IdleTimeout: time.Hour}, 1, func(t bubble, p *Pool, _ *pipes) {
		r, e := p.registry, byUID(t, p, "u1")
		a, b := dial(t, e), dial(t, e)
		a.Put()
		b.Put()
		r.SetReuse(Reuse{IdleTimeout: time.Minute})
		time.Sleep(time.Minute + sweepInterval)
		synctest.Wait()
		if n := r.Open(); n != 0 {
			t.Errorf("%d connections are open after a minute, want none", n)
		}
		r.SetReuse(Reuse{MaxIdlePerEndpoint: -1})
		dial(t, e).Put()
		if n := r.Open(); n != 0 {
			t.Errorf("%d connections are kept, want none", n)
		}
		r.SetReuse(Reuse{MaxAge: time.Second})
		c := dial(t, e)
		time.Sleep(2 * time.Second)
		c.Put()
		if n := r.Open(); n != 0 {
			t.Errorf("%d old connections are kept, want none", n)
		}
		r.SetReuse(Reuse{})
		dial(t, e).Put()
		if got := r.Reuse(); r.Open() != 1 || got.IdleTimeout != time.Hour || got.MaxAge != DefaultMaxAge {
			t.Errorf("%d connections are kept with %+v, want one", r.Open(), got)
		}
	})
}
