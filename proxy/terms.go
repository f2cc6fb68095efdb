package proxy

import (
	"net/netip"
	"slices"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/proxy/http2"
)

// terms are what holds for all clients while one table is live: the engine's options, and over them what the operator's ConfigMap says. They are
// immutable, and resolved at Publish: connections and requests load one pointer.
type terms struct {
	timeouts Timeouts
	limits   http1.Limits
	http2    http2.Options
	// maxRequests is the number of requests after which a connection is closed.
	maxRequests int
	// maxStreams is the number of requests after which a connection of HTTP/2 is closed; 0 is no limit.
	maxStreams int64
	believed
}

// believed says whose word about clients is taken.
type believed struct {
	// forwarded are the peers whose forwarding fields are believed, addressed those whose word about the client's address is, announced those
	// whose connections begin with a header of the PROXY protocol.
	forwarded, addressed, announced []netip.Prefix
	// addresses and host are the fields in which they say it.
	addresses, host fieldName
	// short has X-Forwarded-For say the client's address alone.
	short bool
}

// fieldName is a field's name, compared by its ID where it has one.
type fieldName struct {
	id   exchange.ID
	name string
}

func fieldNamed(name string, usual exchange.ID) fieldName {
	if name == "" {
		return fieldName{usual, usual.Name()}
	}
	return fieldName{exchange.IDOf(name), name}
}

// is reports whether a field of f's is of that name.
func (n *fieldName) is(id exchange.ID, name []byte) bool {
	return id == n.id && (id != exchange.Unknown || exchange.EqualFold(name, n.name))
}

// get returns the first value of the field, nil where there is none.
func (n *fieldName) get(f *exchange.Fields) []byte {
	if n.id != exchange.Unknown {
		return f.Get(n.id)
	}
	value, _ := f.Lookup(n.name)
	return value
}

// remove takes the field out, and those that applications which get fields as variables take for it.
func (n *fieldName) remove(f *exchange.Fields) {
	if n.id != exchange.Unknown {
		return // it is among the claims
	}
	for i := range f.Len() {
		if id, name, _, ok := f.At(i); ok && id == exchange.Unknown && looksLike(name, n.name) {
			f.DelAt(i)
		}
	}
}

// looksLike reports whether two names are the same to who takes "_" for "-".
func looksLike(name []byte, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(want) {
		a, b := exchange.Lower(name[i]), exchange.Lower(want[i])
		if a != b && (a != '_' && a != '-' || b != '_' && b != '-') {
			return false
		}
	}
	return true
}

// termsOf lays s over the engine's options.
func (e *Engine) termsOf(s *filters.Settings) *terms {
	t := &terms{limits: e.limits, maxRequests: e.opts.MaxRequests, believed: e.believes(&s.Believed)}
	times := e.opts.Timeouts
	overlay(&times.ProxyHeader, s.Believed.HeaderTimeout)
	t.obey(&s.Clients, &times)
	switch s.Underscores {
	case filters.DropUnderscores:
		t.limits.Underscores = http1.DropUnderscores
	case filters.KeepUnderscores:
		t.limits.Underscores = http1.KeepUnderscores
	}
	t.timeouts = times.withDefaults()
	t.http2 = e.opts.HTTP2
	overlay(&t.http2.MaxStreams, s.Clients.Streams)
	t.http2.HeaderList, t.http2.Fields, t.http2.Underscores = t.limits.HeaderBlock, t.limits.Fields, http2.Underscores(t.limits.Underscores)
	t.http2.Timeouts = http2.Timeouts{FirstByte: times.FirstByte, Header: times.Header, Idle: times.Idle, Stall: times.Stall}
	t.http2.Grow = func() bool { return e.memory.now() == calm }
	return t
}

// obey lays c over t and times.
func (t *terms) obey(c *filters.Clients, times *Timeouts) {
	overlay(&times.FirstByte, c.Header)
	overlay(&times.Header, c.Header)
	overlay(&times.Body, c.Body)
	overlay(&t.limits.RequestLine, c.RequestLine)
	overlay(&t.limits.HeaderBlock, c.HeaderBlock)
	overlay(&t.maxRequests, c.Requests)
	t.maxStreams = int64(c.Requests)
	overlay(&times.Idle, c.KeepAlive)
	if c.KeepAlive < 0 {
		t.maxRequests = 1
		times.Idle = tick // for HTTP/2, whose streams end one by one
	}
}

// overlay replaces v by what was said, where something was.
func overlay[T comparable](v *T, said T) {
	var nothing T
	if said != nothing {
		*v = said
	}
}

// believes lays b over the engine's options.
func (e *Engine) believes(b *filters.Believed) believed {
	t := believed{
		forwarded: e.opts.TrustedProxies, announced: e.opts.ProxyProtocol, short: b.Short,
		addresses: fieldNamed(b.For, exchange.XForwardedFor), host: fieldNamed(b.Host, exchange.XForwardedHost),
	}
	switch b.Forwarded {
	case filters.Yes:
		t.forwarded = b.From
	case filters.No:
		t.forwarded = nil
	}
	t.addressed = t.forwarded
	if b.RealIP == filters.Yes {
		t.addressed = slices.Concat(t.forwarded, b.From)
	}
	switch b.Announced {
	case filters.Yes:
		t.announced = b.From
	case filters.No:
		t.announced = nil
	}
	return t
}
