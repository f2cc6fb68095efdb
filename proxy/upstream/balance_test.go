package upstream

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// S9: 3,000 requests over three Pods, each 33 ± 5 %.
func TestSpreadIsEven(t *testing.T) {
	for _, a := range []Algorithm{RandomTwo, RoundRobin, LeastConnections, PeakEWMA} {
		t.Run(a.String(), func(t *testing.T) {
			p := pool(t, registry(t, Options{}), pods(3)...)
			got := spread(p.View(ViewSpec{Algorithm: a}), 3000)
			for uid, n := range got {
				if n < 840 || n > 1140 {
					t.Errorf("%s got %d of 3,000: %v", uid, n, got)
				}
			}
			if len(got) != 3 {
				t.Errorf("picked %v", got)
			}
		})
	}
}

// Two curls reach two Pods: with nothing in flight, n requests in a row reach n Endpoints.
func TestTiesRotate(t *testing.T) {
	for _, a := range []Algorithm{RandomTwo, RoundRobin, LeastConnections, PeakEWMA} {
		for _, n := range []int{1, 2, 3, 7} {
			p := pool(t, registry(t, Options{}), pods(n)...)
			v := p.View(ViewSpec{Algorithm: a})
			for round := range 5 {
				if got := spread(v, n); len(got) != n {
					t.Errorf("%v, round %d: %d picks of %d endpoints gave %v", a, round, n, n, got)
				}
			}
		}
	}
}

// Routes of one Service take turns together, or two routes over two Pods could each stick to one.
func TestEqualSpecsShareAView(t *testing.T) {
	p := pool(t, registry(t, Options{}), pods(2)...)
	a, b := p.View(ViewSpec{}), p.View(ViewSpec{Key: Target{}, Subset: 3}) // Key and Subset mean nothing here
	if a != b {
		t.Fatal("equal specs have different views")
	}
	if p.View(ViewSpec{Algorithm: Hash}) != p.View(Affinity(time.Hour)) {
		t.Error("the default key is not the client's address")
	}
	a.Release()
	if p.View(ViewSpec{}) != b {
		t.Error("a view with users left was forgotten")
	}
	a.Release()
	b.Release()
	if v := p.View(ViewSpec{}); v == b {
		t.Error("a view without users was kept")
	}
	if len(spread(b, 2)) != 2 {
		t.Error("a released view no longer works for the requests that hold it")
	}
}

func TestLoadedEndpointGetsLess(t *testing.T) {
	for _, a := range []Algorithm{RandomTwo, LeastConnections, PeakEWMA} {
		t.Run(a.String(), func(t *testing.T) {
			p := pool(t, registry(t, Options{}), pods(4)...)
			v := p.View(ViewSpec{Algorithm: a})
			for _, e := range p.members.Load().inUse {
				v.Observe(e, time.Millisecond)
			}
			for range 3 {
				if err := byUID(t, p, "u2").Reserve(); err != nil {
					t.Fatal(err)
				}
			}
			if got := spread(v, 1000); got["u2"] != 0 {
				t.Errorf("the busy endpoint got %d of 1,000 picks", got["u2"])
			}
			for range 3 {
				byUID(t, p, "u2").Cancel()
			}
		})
	}
}

func TestTriedIsAvoided(t *testing.T) {
	specs := []ViewSpec{{}, {Algorithm: RoundRobin}, {Algorithm: LeastConnections}, {Algorithm: PeakEWMA}, {Algorithm: Hash}, {Algorithm: Hash, Subset: 3}}
	x := exchange.New()
	defer x.Release()
	x.Client.Addr = netip.MustParseAddr("192.0.2.7")
	for _, spec := range specs {
		for n := 1; n <= 5; n++ {
			p := pool(t, registry(t, Options{}), pods(n)...)
			v := p.View(spec)
			for range 20 {
				var tried Tried
				for range n {
					e := v.Next(x, &tried)
					if e == nil || tried.Has(e) {
						t.Fatalf("%v, %d endpoints, %d tried: got %v", spec, n, tried.Len(), e)
					}
					tried.Add(e)
				}
				if e := v.Next(x, &tried); e != nil {
					t.Fatalf("%v: all %d were tried and yet %v", spec, n, e.AddrPort())
				}
			}
		}
	}
}

func TestNoEndpoints(t *testing.T) {
	p := pool(t, registry(t, Options{}))
	for _, a := range []Algorithm{RandomTwo, RoundRobin, LeastConnections, PeakEWMA, Hash} {
		if got := spread(p.View(ViewSpec{Algorithm: a}), 3); got["none"] != 3 {
			t.Errorf("%v picked %v of an empty pool", a, got)
		}
	}
}

func TestFullEndpointIsAvoided(t *testing.T) {
	for _, a := range []Algorithm{RandomTwo, RoundRobin, LeastConnections, PeakEWMA, Hash} {
		p := pool(t, registry(t, Options{EndpointLimit: 2}), pods(3)...)
		v := p.View(ViewSpec{Algorithm: a, Key: Target{}})
		e := byUID(t, p, "u1")
		for range 2 {
			if err := e.Reserve(); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Reserve(); !errors.Is(err, ErrEndpointLimit) {
			t.Errorf("third of two: %v", err)
		}
		if got := spread(v, 300); got["u1"] != 0 {
			t.Errorf("%v chose a full endpoint: %v", a, got)
		}
		if e.InFlight() != 2 {
			t.Errorf("%d in flight after a refusal", e.InFlight())
		}
	}
}

func clients(n int) []netip.Addr {
	all := make([]netip.Addr, n)
	for i := range all {
		all[i] = netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
	}
	return all
}

// byClient returns the UID that each client is mapped to.
func byClient(v *View, all []netip.Addr) []string {
	x := exchange.New()
	defer x.Release()
	uids := make([]string, len(all))
	for i, c := range all {
		x.Client.Addr = c
		uids[i] = v.Next(x, nil).UID()
	}
	return uids
}

// S13: a client keeps its Pod; two replicas agree although they saw the Pods in another order; when a Pod leaves only its
// clients move, and when one joins only its share does.
func TestClientAffinity(t *testing.T) {
	r1, r2 := registry(t, Options{}), registry(t, Options{})
	ten := pods(10)
	p1, p2 := pool(t, r1, ten...), pool(t, r2)
	for i := len(ten); i >= 0; i-- {
		set(r2, ten[i:]...)
	}
	v1, v2 := p1.View(Affinity(3*time.Hour)), p2.View(Affinity(3*time.Hour))
	all := clients(10000)
	before := byClient(v1, all)
	if again := byClient(v1, all); fmt.Sprint(before) != fmt.Sprint(again) {
		t.Fatal("clients moved without a reason")
	}
	if other := byClient(v2, all); fmt.Sprint(before) != fmt.Sprint(other) {
		t.Fatal("two replicas disagree")
	}
	count := map[string]int{}
	for _, uid := range before {
		count[uid]++
	}
	for uid, n := range count {
		if math.Abs(float64(n)-1000) > 150 {
			t.Errorf("%s has %d of 10,000 clients", uid, n)
		}
	}
	set(r1, ten[1:]...)
	for i, uid := range byClient(v1, all) {
		if before[i] != "u1" && uid != before[i] {
			t.Fatalf("client %v moved from %s to %s although only u1 left", all[i], before[i], uid)
		}
	}
	set(r1, pods(11)...)
	moved := 0
	for i, uid := range byClient(v1, all) {
		if uid == before[i] {
			continue
		}
		if moved++; uid != "u11" {
			t.Fatalf("client %v moved from %s to %s although only u11 came", all[i], before[i], uid)
		}
	}
	if moved < 750 || moved > 1070 {
		t.Errorf("%d of 10,000 clients moved to the eleventh endpoint", moved)
	}
}

// The numbers are part of the agreement between replicas of different builds.
func TestHashesAreFixed(t *testing.T) {
	for _, c := range []struct{ got, want uint64 }{
		{HashBytes(nil), 0xf52a15e9a9b5e89b},
		{HashBytes([]byte("/cart?id=7")), 0x89dfe2ed3714783b},
		{hashAddr(netip.MustParseAddr("192.0.2.1")), 0x395c5bc678c14723},
		{hashAddrPort(netip.MustParseAddrPort("10.0.0.1:80")), 0x3ba3ccf4fcafe494},
		{hashAddr(netip.MustParseAddr("::ffff:192.0.2.1")), hashAddr(netip.MustParseAddr("192.0.2.1"))},
	} {
		if c.got != c.want {
			t.Errorf("%#x, want %#x", c.got, c.want)
		}
	}
}

func TestHashKeys(t *testing.T) {
	x := exchange.New()
	defer x.Release()
	if _, ok := (ClientAddr{}).Hash(x); ok {
		t.Error("a client without an address has a hash")
	}
	if _, ok := Field("X-User").Hash(x); ok {
		t.Error("a request without the field has a hash")
	}
	x.Request.Fields.AddString("x-user", "ann")
	x.Request.Target, x.Request.Hostname = []byte("/a?b"), []byte("a.example")
	for _, c := range []struct {
		key  Key
		want string
	}{{Field("X-User"), "ann"}, {Target{}, "/a?b"}, {Hostname{}, "a.example"}} {
		if h, ok := c.key.Hash(x); !ok || h != HashBytes([]byte(c.want)) {
			t.Errorf("%T: %#x %v", c.key, h, ok)
		}
	}
	p := pool(t, registry(t, Options{}), pods(3)...)
	if got := spread(p.View(ViewSpec{Algorithm: Hash, Key: Field("X-None")}), 300); len(got) != 3 {
		t.Errorf("requests without a key are not spread: %v", got)
	}
}

// upstream-hash-by-subset: a key has its few Endpoints, and uses them alike.
func TestHashSubset(t *testing.T) {
	p := pool(t, registry(t, Options{}), pods(20)...)
	v := p.View(ViewSpec{Algorithm: Hash, Key: Target{}, Subset: 3})
	x := exchange.New()
	defer x.Release()
	all := map[string]int{}
	for k := range 200 {
		x.Request.Target = fmt.Appendf(nil, "/item/%d", k)
		got := map[string]int{}
		for range 30 {
			got[v.Next(x, nil).UID()]++
		}
		if len(got) != 3 {
			t.Fatalf("key %d is spread over %v", k, got)
		}
		for uid, n := range got {
			if all[uid]++; n != 10 {
				t.Fatalf("key %d is spread unevenly: %v", k, got)
			}
		}
	}
	if len(all) != 20 {
		t.Errorf("200 keys use %d of 20 endpoints", len(all))
	}
}

// PeakEWMA: the slow one of three gets a small share, not none.
func TestPeakEWMAFollowsLatency(t *testing.T) {
	p := pool(t, registry(t, Options{}), pods(3)...)
	v := p.View(ViewSpec{Algorithm: PeakEWMA})
	for _, e := range p.members.Load().inUse {
		v.Observe(e, time.Millisecond)
	}
	v.Observe(byUID(t, p, "u3"), 80*time.Millisecond)
	if got := spread(v, 3000); got["u3"] != 0 || got["u1"] < 1000 || got["u2"] < 1000 {
		t.Errorf("picks with nothing in flight: %v", got)
	}
	for _, uid := range []string{"u1", "u2"} {
		for range 200 {
			if err := byUID(t, p, uid).Reserve(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := spread(v, 300); got["u3"] == 0 {
		t.Errorf("the slow endpoint is idle while the others drown: %v", got)
	}
}

// A second request to an Endpoint of which nothing is known waits for the first answer.
func TestPeakEWMAProbesNewEndpointOnce(t *testing.T) {
	r := registry(t, Options{})
	p := pool(t, r, pods(3)...)
	v := p.View(ViewSpec{Algorithm: PeakEWMA})
	for _, e := range p.members.Load().inUse {
		v.Observe(e, time.Millisecond)
	}
	set(r, pods(4)...)
	fresh := byUID(t, p, "u4")
	if got := spread(v, 100); got["u4"] == 0 {
		t.Fatalf("a new endpoint is never tried: %v", got)
	}
	if err := fresh.Reserve(); err != nil {
		t.Fatal(err)
	}
	if got := spread(v, 1000); got["u4"] != 0 {
		t.Errorf("%d picks for an endpoint that has not answered yet", got["u4"])
	}
}
