package certs

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"podlane.dev/podlane/router"
)

// A binding is what became of one router.Certificate of a Publish. It is immutable once published.
type binding struct {
	cert *router.Certificate // nil where no operator's default certificate is set
	// served are the hosts that the binding has part in, by what they are served with: one group unless its Secret broke
	// when only some of the hosts had a key pair of it. Hosts that another owner decides about are not here.
	served []group
	// pair is cert's own key pair once checked, nil where it is missing or broken.
	pair *tls.Certificate
}

// A group is hosts, as List shows them, with the candidate that they share.
type group struct {
	candidate
	hosts []string
}

// builder makes one snapshot out of the one before and what Publish was given.
type builder struct {
	old       *snapshot
	new       *snapshot
	now       time.Time
	keepStale time.Duration
	// Most certificates have one host or a few: slabs of the expected size make a Publish of ten thousand cost a few
	// allocations and not a hundred thousand. All of a slab lives as long as its snapshot.
	bindings   slab[binding]
	choices    slab[choice]
	candidates slab[candidate]
	groups     slab[group]
	// implied finds the old bindings of Secrets whose hosts were the certificate's own names; made on first use.
	implied map[secretKey]*binding
}

// A slab hands out values from arrays of step.
type slab[T any] struct {
	free []T
	step int
}

// next returns a slice of one zero value; appending to it copies it.
func (s *slab[T]) next() []T {
	if len(s.free) == 0 {
		s.free = make([]T, max(s.step, 8))
	}
	one := s.free[:1:1]
	s.free = s.free[1:]
	return one
}

type secretKey struct{ namespace, secret string }

func secretOf(c *router.Certificate) secretKey { return secretKey{c.Namespace, c.Secret} }

// build returns the snapshot of certs and defaultCert. The caller holds s.mu.
func (s *Store) build(certs []*router.Certificate, defaultCert *router.Certificate) *snapshot {
	old := s.live.Load()
	if old == nil {
		old = &snapshot{unnamed: &choice{}}
	}
	n := len(certs) + 1
	b := &builder{
		old: old,
		new: &snapshot{
			exact:    make(map[string]*choice, max(n, len(old.exact))),
			wildcard: make(map[string]*choice, len(old.wildcard)),
			unnamed:  &choice{},
			bindings: make([]*binding, 0, n),
		},
		now:        time.Now(),
		keepStale:  s.keepStale,
		bindings:   slab[binding]{step: n},
		choices:    slab[choice]{step: n},
		candidates: slab[candidate]{step: n},
		groups:     slab[group]{step: n},
	}
	b.addDefault(defaultCert)
	for _, c := range certs {
		if c != nil {
			b.add(c)
		}
	}
	return b.new
}

// bind adds a binding of c, which may be nil.
func (b *builder) bind(c *router.Certificate) *binding {
	bind := &b.bindings.next()[0]
	bind.cert = c
	b.new.bindings = append(b.new.bindings, bind)
	return bind
}

// addDefault makes c the certificate of unknown names.
func (b *builder) addDefault(c *router.Certificate) {
	bind := b.bind(c)
	if c == nil {
		return
	}
	bind.pair = b.checked(c, b.old.unnamed)
	b.serve(bind, "", b.new.unnamed, b.old.unnamed)
}

// add gives c its hosts.
func (b *builder) add(c *router.Certificate) {
	bind := b.bind(c)
	for _, host := range b.hostsOf(bind) {
		host, ok := canonicalHost(host)
		if !ok {
			continue
		}
		name, wildcard := strings.CutPrefix(host, "*.")
		byName, oldByName := b.new.exact, b.old.exact
		if wildcard {
			byName, oldByName = b.new.wildcard, b.old.wildcard
		}
		decides := owner{c.Namespace, c.Owner}
		now := byName[name]
		if now == nil {
			now = &b.choices.next()[0]
			now.owner = decides
			byName[name] = now
		}
		if now.owner != decides {
			continue // shadowed: the first owner decides
		}
		if n := len(now.candidates); n > 0 && now.candidates[n-1].of == bind {
			continue // listed twice
		}
		before := oldByName[name]
		if bind.pair == nil {
			bind.pair = b.checked(c, before)
		}
		b.serve(bind, host, now, before)
	}
}

// hostsOf returns the names that bind's certificate is for: those that its owner lists, else its own, else, where its
// Secret is broken, those that the last good one had.
func (b *builder) hostsOf(bind *binding) []string {
	c := bind.cert
	if len(c.Hosts) > 0 {
		return c.Hosts
	}
	if pair, err := usable(c.KeyPair); err == nil {
		bind.pair = pair
		return pair.Leaf.DNSNames
	}
	if b.implied == nil {
		b.implied = make(map[secretKey]*binding)
		for _, old := range b.old.bindings[min(1, len(b.old.bindings)):] {
			if len(old.cert.Hosts) == 0 && len(old.served) > 0 {
				b.implied[secretOf(old.cert)] = old
			}
		}
	}
	old := b.implied[secretOf(c)]
	if old == nil {
		return nil
	}
	var hosts []string
	for i := range old.served {
		hosts = append(hosts, old.served[i].hosts...)
	}
	return hosts
}

// checked returns c's key pair if handshakes can use it, else nil. before is the host's choice of the last Publish: a
// pair that was served then needs no second check, which matters when one of ten thousand certificates has changed.
func (b *builder) checked(c *router.Certificate, before *choice) *tls.Certificate {
	if c.KeyPair == nil {
		return nil
	}
	if before != nil {
		for i := range before.candidates {
			if old := &before.candidates[i]; old.of.cert.KeyPair == c.KeyPair && old.of.pair != nil {
				return old.of.pair
			}
		}
	}
	pair, err := usable(c.KeyPair)
	if err != nil {
		return nil // List shows it as stale or default; Build has raised the Problem
	}
	return pair
}

// serve adds bind's candidate to a host's choice: its own key pair, or else the one that its Secret had in before. host is
// what List shows, "" for the default certificate.
func (b *builder) serve(bind *binding, host string, now, before *choice) {
	next := b.candidateOf(bind, before)
	offers := []candidate{next, b.keptBeside(next, before)}
	if offers[1].pair == nil {
		offers = offers[:1]
	}
	// A Secret that an owner lists twice for one host must not cost every handshake a choice.
	again := now.lastOf(secretOf(bind.cert), b.now) != nil
	for _, c := range offers {
		if !again {
			now.candidates = appendOne(&b.candidates, now.candidates, c)
		}
		b.enter(bind, c, host)
	}
}

// enter puts a host into the group of what it is served with.
func (b *builder) enter(bind *binding, c candidate, host string) {
	i := slices.IndexFunc(bind.served, func(g group) bool { return g.pair == c.pair && g.since.Equal(c.since) })
	if i < 0 {
		i = len(bind.served)
		bind.served = appendOne(&b.groups, bind.served, group{candidate: c})
	}
	g := &bind.served[i]
	switch given := bind.cert.Hosts; {
	case host == "":
	case len(g.hosts) < len(given) && given[len(g.hosts)] == host && (len(g.hosts) == 0 || &g.hosts[0] == &given[0]):
		// As long as all hosts are served alike and were written as List shows them, a part of the owner's list will do.
		g.hosts = given[: len(g.hosts)+1 : len(g.hosts)+1]
	default:
		g.hosts = append(g.hosts, host)
	}
}

// appendOne appends v to list; the first element comes from s.
func appendOne[T any](s *slab[T], list []T, v T) []T {
	if list == nil {
		list = s.next()
		list[0] = v
		return list
	}
	return append(list, v)
}

// candidateOf returns what bind serves a host with whose choice was before.
func (b *builder) candidateOf(bind *binding, before *choice) candidate {
	if bind.pair != nil {
		return candidateWith(bind, bind.pair)
	}
	b.new.broken = true
	c := candidate{of: bind, since: b.now}
	if last := before.lastOf(secretOf(bind.cert), b.now); last != nil {
		c = b.keep(c, last)
	}
	return c
}

// keptBeside returns the last good key pair of a Secret that now holds one whose time is over, or has not begun: it stands beside that one until it is
// past its own time, and handshakes choose by the time that they come at. The result has no pair where there is nothing to keep.
func (b *builder) keptBeside(next candidate, before *choice) candidate {
	c := candidate{of: next.of, since: b.now}
	if next.pair == nil || !next.until.IsZero() || next.valid(b.now) {
		return c
	}
	if last := before.lastOf(secretOf(next.of.cert), b.now); last != nil && last.pair != next.pair && last.valid(b.now) {
		b.new.broken = true
		c = b.keep(c, last)
	}
	return c
}

// keep makes c serve what last served, as long as that may be. A key pair that is past its time is forgotten, so that the key does not stay in memory.
func (b *builder) keep(c candidate, last *candidate) candidate {
	if !last.since.IsZero() {
		c.since = last.since
	}
	until := c.since.Add(b.keepStale)
	if last.pair == nil || !b.now.Before(until) {
		return c
	}
	kept := candidateWith(c.of, last.pair)
	kept.since, kept.until = c.since, until
	return kept
}

func candidateWith(bind *binding, pair *tls.Certificate) candidate {
	return candidate{of: bind, pair: pair, notBefore: pair.Leaf.NotBefore, notAfter: pair.Leaf.NotAfter, cheap: ellipticKey(pair)}
}

// lastOf returns the candidate that stood for a Secret, of several the one that is valid at now, or nil. c may be nil.
func (c *choice) lastOf(secret secretKey, now time.Time) (last *candidate) {
	if c == nil {
		return nil
	}
	for i := range c.candidates {
		if cand := &c.candidates[i]; secretOf(cand.of.cert) == secret && (last == nil || !last.valid(now) && cand.valid(now)) {
			last = cand
		}
	}
	return last
}
