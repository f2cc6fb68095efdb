package proxy

import (
	"encoding/hex"
	"math/rand/v2"

	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/upstream"
)

// stickTo returns the endpoint that the client's cookie is of, else one that is chosen for it, which its next cookie will be of. Where that
// endpoint fails, the same one is tried again, unless the Route says that the client moves.
func (s *session) stickTo(l *lane, tried *upstream.Tried) *upstream.Endpoint {
	s.cookie = ""
	if key, ok := l.sticky.Key(s.x); ok {
		if ep := l.home(key); ep != nil && (!l.sticky.Change || !tried.Has(ep) && !ep.Out()) {
			return ep
		}
	}
	if l.sticky.Persistent {
		ep := l.view.Next(s.x, tried)
		if ep != nil {
			s.cookie = ep.Name()
		}
		return ep
	}
	for range maxKeys {
		key := randomKey()
		if ep := l.home([]byte(key)); ep != nil && !tried.Has(ep) && !ep.Out() {
			s.cookie = key
			return ep
		}
	}
	return l.view.Next(s.x, tried)
}

// maxKeys bounds the keys that are drawn for one client. The first is good unless endpoints have failed; where half of them have, one in 2^64 clients
// goes without a cookie until its next request.
const maxKeys = 64

// home returns the endpoint that a cookie's key is of, or nil.
func (l *lane) home(key []byte) *upstream.Endpoint {
	if l.sticky.Persistent {
		return l.view.Named(key)
	}
	return l.view.Home(upstream.HashBytes(key))
}

// randomKey returns a key that no other client has. It is no secret: whoever guesses one gets an endpoint that anybody may get.
func randomKey() string {
	var b [16]byte
	for i, n := range []uint64{rand.Uint64(), rand.Uint64()} {
		for k := range 8 {
			b[8*i+k] = byte(n >> (8 * k))
		}
	}
	return hex.EncodeToString(b[:])
}

// setCookie tells the client of the endpoint that was chosen for it.
func (s *session) setCookie() {
	if s.cookie != "" {
		s.lane.sticky.Set(s.x, s.cookie)
	}
}

// stickyOf returns what keeps clients with the endpoints of c's i-th Backend, nil for nothing. A canary has what the Route has, so that one cookie
// tells where its client belongs, unless it is to keep nobody.
func (c *chain) stickyOf(i int) *filters.Sticky {
	a := c.filters.Forwarding.Affinity
	if i > 0 && c.route.Alternative != nil {
		own := filters.CanaryForwarding(c.route).Affinity
		switch {
		case own != nil && own.Legacy, a != nil && a.Legacy:
			return nil
		case a == nil || !a.On:
			a = own
		}
	}
	return a.Of(c.route, &c.route.Backends[i])
}
