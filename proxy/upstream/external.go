package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"podlane.dev/podlane/proxy/upstream/dns"
	"podlane.dev/podlane/router"
)

// NameResolver finds the addresses of a name; *dns.Resolver is one. Lookup is called by one goroutine for each name, never while a
// request waits. A *dns.NotFoundError says that there are none for sure.
type NameResolver interface {
	Lookup(ctx context.Context, name string) (dns.Answer, error)
}

// External says how ExternalName Services are resolved.
type External struct {
	// Resolver finds addresses; nil means the servers of /etc/resolv.conf.
	Resolver NameResolver
	// Deny are addresses that are refused beside those that always are (see Refused): the API server's, and whatever else
	// the operator keeps from whoever may write a Service.
	Deny []netip.Prefix
	// Allow are addresses that are not refused after all: loopback, for `podlane serve`. It wins over everything.
	Allow []netip.Prefix
	// Own returns the addresses of this machine, which are refused too, for the admin listener is there; nil means those of
	// its network interfaces.
	Own func() ([]netip.Addr, error)
}

// The bounds of the time between two resolutions of a name.
const (
	minRefresh = time.Second
	maxRefresh = time.Hour
	// maxBackoff is the longest time between two attempts while resolution fails; the first comes after minRefresh.
	maxBackoff = 30 * time.Second
	// lookupTimeout bounds one resolution, all candidates, servers and attempts together.
	lookupTimeout = 30 * time.Second
	// forgetAfter is how many answers in a row must say that the name is not there before its last good addresses are
	// given up: it is an answer and no failure (RFC 8767, section 4), but one that servers give by mistake when they start.
	forgetAfter = 3
)

// external is the name that a Pool follows. name, port, stop and first are immutable; the rest is under Pool.mu.
type external struct {
	name  string
	port  uint16
	stop  context.CancelFunc
	first chan struct{} // closed after the first resolution
	err   error
}

// SetExternalName makes the Pool of p follow the DNS name of an ExternalName Service, on the given port, instead of the
// addresses of SetAddresses; an empty name makes it use those again. A Pool that follows the same name and port already
// is left as it is, and a ServicePort without a Pool is ignored.
//
// The returned channel is closed when the name has been resolved once, or could not be: Publish may wait for it a moment,
// so that the new route does not begin with 503. Addresses are used as long as their TTL says, and beyond while the name
// cannot be resolved; refused addresses are never used. PoolStatus tells the last error.
func (r *Registry) SetExternalName(p router.ServicePort, name string, port uint16) (first <-chan struct{}) {
	done := make(chan struct{})
	close(done)
	pool := r.lookup(p)
	if pool == nil {
		return done
	}
	pool.mu.Lock()
	old := pool.external
	same := old == nil && name == "" || old != nil && old.name == name && old.port == port
	if pool.swept || same {
		pool.mu.Unlock()
		if old != nil {
			return old.first
		}
		return done
	}
	if old != nil {
		old.stop()
		pool.external = nil
	}
	if name == "" {
		surplus := pool.change(pool.given)
		pool.mu.Unlock()
		closeAll(surplus)
		return done
	}
	defer pool.mu.Unlock()
	ctx, cancel := context.WithCancel(r.ctx)
	x := &external{name: name, port: port, stop: cancel, first: make(chan struct{})}
	pool.external = x
	r.tasks.Go(func() { pool.follow(ctx, x) })
	return x.first
}

// lookup returns the Pool of p, or nil.
func (r *Registry) lookup(p router.ServicePort) *Pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.services[p.Service()]; s != nil {
		return s.ports[p.Port]
	}
	return nil
}

// follow resolves x's name until ctx ends.
func (p *Pool) follow(ctx context.Context, x *external) {
	var f follower
	timer := time.NewTimer(0)
	defer timer.Stop()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			if first {
				close(x.first)
			}
			return
		case <-timer.C:
		}
		addrs, ttl, err := p.registry.resolve(ctx, x.name)
		p.settle(ctx, x, f.judge(addrs, err), err)
		if first {
			close(x.first)
		}
		timer.Reset(f.wait(ttl))
	}
}

// follower is what is remembered between two resolutions.
type follower struct {
	good     bool // the Pool has addresses of this name
	failures int
	missing  int
}

// verdict is what a resolution means for the Pool's Endpoints.
type verdict struct {
	use  []netip.Addr
	keep bool // leave the Endpoints as they are
}

func (f *follower) judge(addrs []netip.Addr, err error) verdict {
	var missing *dns.NotFoundError
	switch {
	case len(addrs) > 0: // with an error where some were refused
		*f = follower{good: true}
		return verdict{use: addrs}
	case errors.As(err, &missing):
		f.missing++
	default:
		f.missing = 0
	}
	f.failures++
	var refused *RefusedError
	if errors.As(err, &refused) || f.missing >= forgetAfter {
		f.good = false
	}
	return verdict{keep: f.good}
}

// wait is the time until the next resolution.
func (f *follower) wait(ttl time.Duration) time.Duration {
	if f.failures > 0 {
		return min(minRefresh<<min(f.failures-1, 10), maxBackoff)
	}
	return min(max(ttl, minRefresh), maxRefresh)
}

// settle gives the Pool the addresses that were found, unless it follows something else by now.
func (p *Pool) settle(ctx context.Context, x *external, v verdict, err error) {
	p.mu.Lock()
	var surplus []*Conn
	if p.external == x && ctx.Err() == nil {
		x.err = err
		if !v.keep {
			surplus = p.change(addressesOf(v.use, x.port))
		}
	}
	p.mu.Unlock()
	closeAll(surplus)
}

// addressesOf returns the addresses as those of Pods without a UID, in order, so that the shuffling of DNS servers means
// nothing.
func addressesOf(addrs []netip.Addr, port uint16) []router.Address {
	all := make([]router.Address, 0, len(addrs))
	for _, a := range addrs {
		all = append(all, router.Address{AddrPort: netip.AddrPortFrom(a, port), Ready: true, Serving: true})
	}
	slices.SortFunc(all, func(a, b router.Address) int { return a.AddrPort.Compare(b.AddrPort) })
	return all
}

// resolve returns the addresses of name that are not refused, of one family. A name that is an address stands for itself.
// Both addresses and an error are returned where some were refused.
func (r *Registry) resolve(ctx context.Context, name string) ([]netip.Addr, time.Duration, error) {
	answer := dns.Answer{TTL: maxRefresh}
	if a, err := netip.ParseAddr(name); err == nil {
		answer.Addrs = []netip.Addr{a.Unmap()}
	} else {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		if answer, err = r.o.External.Resolver.Lookup(ctx, name); err != nil {
			return nil, 0, err
		}
	}
	addrs, err := r.o.External.admit(name, answer.Addrs)
	return oneFamily(addrs), answer.TTL, err
}

// oneFamily keeps IPv4 where there is any, as most clusters are, so that no request has to find out that the other family
// leads nowhere.
func oneFamily(addrs []netip.Addr) []netip.Addr {
	is6 := func(a netip.Addr) bool { return !a.Is4() }
	if slices.ContainsFunc(addrs, netip.Addr.Is4) {
		return slices.DeleteFunc(addrs, is6)
	}
	return addrs
}

func closeAll(conns []*Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// RefusedError says that a name leads to an address that an ExternalName Service may not reach.
type RefusedError struct {
	Name string
	Addr netip.Addr
	Why  string
}

// Error names name, address and reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s resolves to %s, which is refused: %s", e.Name, e.Addr, e.Why)
}

// admit returns the addresses that are not refused, and an error for the first that is.
func (x *External) admit(name string, addrs []netip.Addr) (good []netip.Addr, err error) {
	own, ownErr := x.Own()
	if ownErr != nil {
		return nil, fmt.Errorf("resolve %s: own addresses: %w", name, ownErr)
	}
	for _, a := range addrs {
		why := x.Refused(a)
		if why == "" && slices.Contains(own, a.Unmap()) && !contains(x.Allow, a.Unmap()) {
			why = "it is an address of this machine"
		}
		switch {
		case why == "":
			good = append(good, a)
		case err == nil:
			err = &RefusedError{Name: name, Addr: a, Why: why}
		}
	}
	return good, err
}
