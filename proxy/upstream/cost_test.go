package upstream

import (
	"fmt"
	"net/netip"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
)

// newExchange returns an Exchange as a request has it when it is balanced.
func newExchange() *exchange.Exchange {
	x := exchange.New()
	x.Client.Addr = netip.MustParseAddr("192.0.2.7")
	x.Request.Target = []byte("/cart?id=7")
	return x
}

var everySpec = []ViewSpec{
	{}, {Algorithm: RoundRobin}, {Algorithm: LeastConnections}, {Algorithm: PeakEWMA},
	{Algorithm: Hash}, {Algorithm: Hash, Key: Target{}, Subset: 3}, {Algorithm: Hash, Key: Field("Cookie")},
}

// A request that reuses a connection allocates nothing here, whatever the algorithm, in its further attempts too.
func TestNoAllocations(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	for _, o := range []Options{{}, {SlowStart: 1 << 50, EndpointLimit: 100, ServiceLimit: 100}} {
		r := registry(t, o)
		p := pool(t, r, at(a.String(), "u0"), at(a.String(), "u1"))
		set(r, at(a.String(), "u0"), at(a.String(), "u1"), at(a.String(), "u2"))
		for _, e := range p.members.Load().inUse {
			dial(t, e).Put()
		}
		x := newExchange()
		for _, spec := range everySpec {
			v := p.View(spec)
			n := testing.AllocsPerRun(200, func() {
				var tried Tried
				for range 2 {
					e := v.Next(x, &tried)
					c, err := e.Acquire(Profile{})
					if c == nil || err != nil {
						t.Fatalf("%v, %v", c, err)
					}
					v.Observe(e, 1000)
					e.Succeeded()
					c.Put()
					tried.Add(e)
				}
			})
			if n != 0 {
				t.Errorf("%+v: %v allocations", spec, n)
			}
		}
	}
}

func BenchmarkNext(b *testing.B) {
	for _, spec := range everySpec[:6] {
		for _, n := range []int{3, 100, 1000} {
			b.Run(fmt.Sprintf("%v-%d/%d", spec.Algorithm, spec.Subset, n), func(b *testing.B) {
				p := pool(b, registry(b, Options{}), pods(n)...)
				v := p.View(spec)
				for _, e := range p.members.Load().inUse {
					v.Observe(e, 1000)
				}
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					x := newExchange()
					for pb.Next() {
						v.Next(x, nil)
					}
				})
			})
		}
	}
}

// What this package costs a request on the plain path: choose, take a connection with its liveness check, give it back.
func BenchmarkRequest(b *testing.B) {
	a := listen(b, "127.0.0.1:0", echo)
	p := pool(b, registry(b, Options{}), at(a.String(), "u1"), at(a.String(), "u2"))
	v := p.View(ViewSpec{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := newExchange()
		for pb.Next() {
			e := v.Next(x, nil)
			c, err := acquire(e)
			if err != nil {
				b.Error(err)
				return
			}
			e.Succeeded()
			c.Put()
		}
	})
}

// BenchmarkRequest without the system call: what the locks and counters cost.
func BenchmarkRequestWithoutCheck(b *testing.B) {
	net := &pipes{}
	p := pool(b, registry(b, Options{Dial: net.dial}), pods(2)...)
	v := p.View(ViewSpec{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := newExchange()
		for pb.Next() {
			e := v.Next(x, nil)
			c, err := acquire(e)
			if err != nil {
				b.Error(err)
				return
			}
			e.Succeeded()
			c.Put()
		}
	})
}

// One endpoint of n changes.
func BenchmarkSetAddresses(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := registry(b, Options{})
			all := pods(n + 1)
			pool(b, r, all[:n]...)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				set(r, all[i%2:n+i%2]...)
			}
		})
	}
}
