package router

import (
	"iter"
	"slices"
	"strings"
	"time"

	"podlane.dev/podlane/router/policy"
)

// Table says which Route a request belongs to, and which certificates the hosts have. It is immutable and safe for any
// number of readers. The zero Table has no routes.
//
// Which host's rules a request meets is decided first, and by the host alone: the exact host, else the wildcard that
// stands for exactly its first label, else the first of the names that are regular expressions, else the rules without a host. The most specific host owns the request: what
// matches no path of it never falls through to the *rules* of a wildcard or of no host, because those may belong to
// somebody else. It goes to the host's default (the defaultBackend of an Ingress that names the host), else to the
// catch-all, else nowhere.
type Table struct {
	// exact holds hosts by name, wildcard by the name without "*.".
	exact, wildcard hostIndex
	patterns        []*Host // those whose names are regular expressions, in the order of their names
	hostless        *Host   // the rules without a host
	catchAll        *Route
	certificates    []*Certificate
	defaultCert     *Certificate
	ticketKeys      *TicketKeys
	globals         []policy.Value
	compat          bool
	routes          int
}

// Change is what With changes.
type Change struct {
	// Hosts are added, or take the place of those with the same name.
	Hosts []*Host
	// Remove names hosts that go. A name that is also in Hosts stays.
	Remove []string
	// CatchAll is the Route of requests that nothing else matches, nil for none.
	CatchAll *Route
	// Certificates are all certificates of the new Table, in the order that Certificates returns; the slice belongs to
	// the Table from then on. DefaultCertificate is the operator's, nil for none.
	Certificates       []*Certificate
	DefaultCertificate *Certificate
	// TicketKeys are those of TLS session tickets, nil where replicas share none.
	TicketKeys *TicketKeys
	// Globals are what the operator's ConfigMap says about the whole proxy.
	Globals []policy.Value
	// Compat says that requests without a route are answered as ingress-nginx does.
	Compat bool
}

// NewTable returns a Table of routes in no particular order. A Route goes to the host ID.Host; one with IsDefault and no
// ID.Host is the catch-all. Where two match the same requests, the first wins and the other is left out. There is no
// default certificate.
func NewTable(routes []*Route, certificates []*Certificate) *Table {
	c := Change{Certificates: certificates}
	byHost := make(map[string][]*Route)
	for _, r := range routes {
		if r.IsDefault && r.ID.Host == "" {
			if c.CatchAll == nil {
				c.CatchAll = r
			}
			continue
		}
		byHost[r.ID.Host] = append(byHost[r.ID.Host], r)
	}
	for name, routes := range byHost {
		c.Hosts = append(c.Hosts, NewHost(name, routes))
	}
	return new(Table).With(c)
}

// With returns a Table that differs from t as c says. It costs what changed: all else is shared with t.
func (t *Table) With(c Change) *Table {
	next := &Table{
		hostless: t.hostless, routes: t.routes, patterns: t.patterns,
		catchAll: c.CatchAll, certificates: slices.Clip(c.Certificates), defaultCert: c.DefaultCertificate,
		ticketKeys: c.TicketKeys, globals: c.Globals, compat: c.Compat,
	}
	var exact, wildcard []hostChange
	set := func(name string, h *Host) {
		switch suffix, ok := strings.CutPrefix(name, "*."); {
		case ok:
			wildcard = append(wildcard, hostChange{suffix, h})
		case isHostPattern(name):
			next.setPattern(name, h)
		case name == "":
			next.routes += h.len() - next.hostless.len()
			next.hostless = h
		default:
			exact = append(exact, hostChange{name, h})
		}
	}
	for _, name := range c.Remove {
		set(name, nil)
	}
	for _, h := range c.Hosts {
		set(h.name, h)
	}
	var grown int
	next.exact, grown = t.exact.with(exact)
	next.routes += grown
	next.wildcard, grown = t.wildcard.with(wildcard)
	next.routes += grown
	return next
}

// setPattern sets or, with nil, removes a host whose name is a regular expression. The slice may be another Table's.
func (t *Table) setPattern(name string, h *Host) {
	i, found := slices.BinarySearchFunc(t.patterns, name, func(h *Host, name string) int { return strings.Compare(h.name, name) })
	next := slices.Clone(t.patterns)
	if found {
		t.routes -= next[i].len()
		next = slices.Delete(next, i, i+1)
	}
	if h != nil {
		t.routes += h.len()
		next = slices.Insert(next, i, h)
	}
	t.patterns = next
}

// Lookup returns the Route of a request. host is lower-case, without a port or a trailing dot; path is canonical. It
// allocates nothing, and its cost depends on the lengths of host and path, not on the Table.
func (t *Table) Lookup(host, path string) (*Route, bool) { return t.Match(host, path, nil) }

// Match is Lookup; with a Trace it also records the way that it took.
func (t *Table) Match(host, path string, trace *Trace) (*Route, bool) {
	if h := t.host(host, trace); h != nil {
		if r := h.match(path, trace); r != nil {
			return r, true
		}
	}
	if t.catchAll != nil {
		trace.visit(CatchAll, "", t.catchAll)
	}
	return t.catchAll, t.catchAll != nil
}

// host returns the index of the host that owns requests to name, or nil.
func (t *Table) host(name string, trace *Trace) *Host {
	h := t.exact.lookup(name)
	if trace.visitHost(ExactHost, name, h); h != nil {
		return h
	}
	// The wildcard stands for one label, which is not empty.
	if dot := strings.IndexByte(name, '.'); dot > 0 {
		h = t.wildcard.lookup(name[dot+1:])
		if trace != nil {
			trace.visitHost(WildcardHost, "*"+name[dot:], h)
		}
		if h != nil {
			return h
		}
	}
	for _, h := range t.patterns {
		if h.namePattern.MatchString(name) {
			trace.visitHost(PatternHost, h.name, h)
			return h
		}
	}
	if t.hostless != nil {
		trace.visitHost(AnyHost, "", t.hostless)
	}
	return t.hostless
}

// HasHost says whether a rule names the host, itself or by a wildcard.
func (t *Table) HasHost(host string) bool {
	h := t.host(host, nil)
	return h != nil && h != t.hostless
}

// TLSPolicy returns what the host of a server name, or of a request, asks of its clients; nil is nothing. Handshakes and requests both look
// here, and in the same way as Lookup looks for Routes, so that what a client was asked for is what its requests need. host is lower-case, without
// a port or a trailing dot, and may be empty.
func (t *Table) TLSPolicy(host string) *TLSPolicy {
	p, _ := t.TLS(host)
	return p
}

// TLS returns what TLSPolicy does, and the cipher suites that the host offers, nil for those of all hosts.
func (t *Table) TLS(host string) (*TLSPolicy, *TLSCiphers) {
	if h := t.host(host, nil); h != nil {
		return h.tls, h.ciphers
	}
	if t.catchAll != nil {
		return t.catchAll.TLS, t.catchAll.Ciphers
	}
	return nil, nil
}

// TicketKeys returns the keys of TLS session tickets that all replicas share, or nil.
func (t *Table) TicketKeys() *TicketKeys { return t.ticketKeys }

// Compat says that requests without a route are answered as ingress-nginx does.
func (t *Table) Compat() bool { return t.compat }

// Globals returns the values of the global policy families. The caller must not change the slice.
func (t *Table) Globals() []policy.Value { return t.globals }

// Host returns the routes of a host by its name in the rules ("*.suffix" for a wildcard, "" for rules without a host).
func (t *Table) Host(name string) (*Host, bool) {
	h := t.hostless
	if isHostPattern(name) {
		i, found := slices.BinarySearchFunc(t.patterns, name, func(h *Host, name string) int { return strings.Compare(h.name, name) })
		if h = nil; found {
			h = t.patterns[i]
		}
	} else if suffix, ok := strings.CutPrefix(name, "*."); ok {
		h = t.wildcard.lookup(suffix)
	} else if name != "" {
		h = t.exact.lookup(name)
	}
	return h, h != nil
}

// Hosts yields every host, sorted: exact ones, then wildcards, then regular expressions, then the rules without a host.
func (t *Table) Hosts() iter.Seq[*Host] {
	return func(yield func(*Host) bool) {
		for _, index := range []hostIndex{t.exact, t.wildcard} {
			hosts := slices.SortedFunc(index.all(), func(a, b *Host) int { return strings.Compare(a.name, b.name) })
			for _, h := range hosts {
				if !yield(h) {
					return
				}
			}
		}
		for _, h := range t.patterns {
			if !yield(h) {
				return
			}
		}
		if t.hostless != nil {
			yield(t.hostless)
		}
	}
}

// Routes yields every Route once, in no particular order.
func (t *Table) Routes() iter.Seq[*Route] { return t.RoutesNotIn(new(Table)) }

// RoutesNotIn yields the Routes of t that other does not have, in no particular order, where a Route is the same only if
// the pointer is. Between a Table and one made of it by With it costs what changed, so Publish can find new Routes with
// t.RoutesNotIn(old), and those that are gone with old.RoutesNotIn(t).
func (t *Table) RoutesNotIn(other *Table) iter.Seq[*Route] {
	return func(yield func(*Route) bool) {
		if !t.exact.routesNotIn(other.exact, yield) || !t.wildcard.routesNotIn(other.wildcard, yield) {
			return
		}
		for _, h := range t.patterns {
			old, _ := other.Host(h.name)
			if !hostRoutesNotIn(h, old, yield) {
				return
			}
		}
		// The catch-all may also be the default of the rules without a host, in one Table or in both.
		unlessCatchAll := func(r *Route) bool { return r == other.catchAll || yield(r) }
		if !hostRoutesNotIn(t.hostless, other.hostless, unlessCatchAll) {
			return
		}
		if r := t.catchAll; r != nil && r != other.catchAll && !t.hostless.has(r) && !other.hostless.has(r) {
			yield(r)
		}
	}
}

// Ports yields every ServicePort that a Route may be served from, once each, in no particular order.
func (t *Table) Ports() iter.Seq[ServicePort] {
	return func(yield func(ServicePort) bool) {
		seen := make(map[ServicePort]struct{})
		for r := range t.Routes() {
			for b := range r.every() {
				if _, dup := seen[b.Service]; dup || b.Unavailable != Available {
					continue
				}
				seen[b.Service] = struct{}{}
				if !yield(b.Service) {
					return
				}
			}
		}
	}
}

// every yields the Backends, and the one for errors.
func (r *Route) every() iter.Seq[*Backend] {
	return func(yield func(*Backend) bool) {
		for i := range r.Backends {
			if !yield(&r.Backends[i]) {
				return
			}
		}
		if r.ErrorBackend != nil {
			yield(r.ErrorBackend)
		}
	}
}

// CatchAll returns the Route of requests that nothing else matches, or nil.
func (t *Table) CatchAll() *Route { return t.catchAll }

// Certificates returns the certificates of the hosts, sorted by namespace, Secret and owner. The same slice (not only an
// equal one) as that of an earlier Table means that no certificate changed. The caller must not change it.
func (t *Table) Certificates() []*Certificate { return t.certificates }

// DefaultCertificate returns the operator's certificate for names without one, or nil: then it is self-signed.
func (t *Table) DefaultCertificate() *Certificate { return t.defaultCert }

// CertificatesStand returns how long after now each certificate stays valid, or invalid, as it is at now: whoever tells of that looks again then. It is
// at most an hour, because clocks of the wall are set.
func (t *Table) CertificatesStand(now time.Time) time.Duration {
	stand := time.Hour
	look := func(c *Certificate) {
		if c == nil || c.KeyPair == nil || c.KeyPair.Leaf == nil {
			return
		}
		// The last moment of a certificate is one in which it is valid (RFC 5280 section 4.1.2.5).
		for _, at := range [...]time.Time{c.KeyPair.Leaf.NotBefore, c.KeyPair.Leaf.NotAfter.Add(1)} {
			if left := at.Sub(now); left > 0 {
				stand = min(stand, left)
			}
		}
	}
	look(t.defaultCert)
	for _, c := range t.certificates {
		look(c)
	}
	return stand
}

// Len returns the number of Routes, the catch-all not counted.
func (t *Table) Len() int { return t.routes }

// key returns the name under which the index has h: without the "*." of a wildcard.
func (h *Host) key() string { return strings.TrimPrefix(h.name, "*.") }

// len returns the number of h's routes; h may be nil.
func (h *Host) len() int {
	if h == nil {
		return 0
	}
	return len(h.routes)
}

// has says whether r is one of h's routes; h may be nil.
func (h *Host) has(r *Route) bool { return h != nil && slices.Contains(h.routes, r) }

// hostRoutesNotIn yields the routes of h that other does not have, and says whether to go on. Both may be nil.
func hostRoutesNotIn(h, other *Host, yield func(*Route) bool) bool {
	if h == nil || h == other {
		return true
	}
	var old map[*Route]struct{}
	if other != nil {
		old = make(map[*Route]struct{}, len(other.routes))
		for _, r := range other.routes {
			old[r] = struct{}{}
		}
	}
	for _, r := range h.routes {
		if _, ok := old[r]; !ok && !yield(r) {
			return false
		}
	}
	return true
}
