package proxy

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"

	"podlane.dev/podlane/proxy/exchange"
)

// claims are the fields in which a proxy in front of us may say who the client is and what it asked for. From a peer that is not
// trusted they are removed before ours are set: a client must not be able to speak for a proxy.
var claims = [...]exchange.ID{
	exchange.Forwarded, exchange.XForwardedFor, exchange.XForwardedHost, exchange.XForwardedPort, exchange.XForwardedProto,
	exchange.XForwardedScheme, exchange.XForwardedServer, exchange.XForwardedPrefix, exchange.XOriginalForwardedFor,
	exchange.XOriginalURL, exchange.XOriginalURI, exchange.XOriginalHost, exchange.XOriginalMethod, exchange.XRewriteURL,
	exchange.XScheme, exchange.XRealIP,
}

// claimPrefixes catch the fields of these families that have no ID.
var claimPrefixes = [...]string{"x-forwarded-", "x-original-", "x-envoy-", "ssl-client-"}

// identify decides who the client is, and tells the Pod: X-Real-IP, X-Forwarded-For, -Host, -Port, -Proto and -Scheme, X-Scheme and
// X-Request-ID are always set.
func (s *session) identify() {
	x := s.x
	f := &x.Request.Fields
	t, peer := &s.c.terms.believed, x.Client.Peer.Addr()
	var chain, original []byte
	host := x.Request.Authority
	switch {
	case trusted(t.forwarded, peer):
		chain, original = s.believe(t)
		s.believeRest()
		removeDisguised(f)
		if h := t.host.get(f); len(h) > 0 {
			host = append([]byte(nil), h...)
		}
	case trusted(t.addressed, peer):
		s.believe(t)
		t.removeClaims(f)
	default:
		t.removeClaims(f)
	}
	s.requestID()
	b := x.Scratch
	ipAt := len(b)
	b = x.Client.Addr.AppendTo(b)
	ip := b[ipAt:]
	forwarded := ip
	if len(chain) > 0 && !t.short {
		at := len(b)
		b = append(b, chain...)
		b = append(b, ", "...)
		b = x.Client.Peer.Addr().AppendTo(b)
		forwarded = b[at:]
	}
	at := len(b)
	b = strconv.AppendUint(b, uint64(x.Client.Port), 10)
	port := b[at:]
	f.Set(exchange.XRequestID, x.RequestID)
	f.Set(exchange.XRealIP, ip)
	f.Set(exchange.XForwardedFor, forwarded)
	if t.short {
		f.Del(exchange.XOriginalForwardedFor)
		if len(original) > 0 {
			f.Set(exchange.XOriginalForwardedFor, original)
		}
	}
	f.Set(exchange.XForwardedHost, host)
	f.Set(exchange.XForwardedPort, port)
	f.SetString(exchange.XForwardedProto, x.Client.Proto)
	f.SetString(exchange.XForwardedScheme, x.Client.Proto)
	f.SetString(exchange.XScheme, x.Client.Proto)
	x.Scratch = b
}

// removeDisguised removes the claims with underscores that a trusted proxy passed on: what it sets itself has dashes.
func removeDisguised(f *exchange.Fields) {
	for i := range f.Len() {
		if id, name, _, ok := f.At(i); ok && id == exchange.Unknown && bytes.IndexByte(name, '_') >= 0 && isClaim(name) {
			f.DelAt(i)
		}
	}
}

// removeClaims removes what only a proxy may say.
func (t *believed) removeClaims(f *exchange.Fields) {
	t.addresses.remove(f)
	t.host.remove(f)
	for _, id := range claims {
		f.Del(id)
	}
	for i := range f.Len() {
		id, name, _, ok := f.At(i)
		if !ok || id != exchange.Unknown || len(name) < 8 {
			continue
		}
		// Two letters spare most fields the rest.
		if c := exchange.Lower(name[0]); (c == 'x' || c == 's') && isClaim(name) {
			f.DelAt(i)
		}
	}
}

// isClaim reports whether a field without an ID belongs to the claims: by its prefix, or because it is one of them with
// underscores, which CGI-like applications take for the same.
func isClaim(name []byte) bool {
	var buf [64]byte
	dashed := append(buf[:0], name[:min(len(name), len(buf))]...)
	for i, c := range dashed {
		if c == '_' {
			dashed[i] = '-'
		}
	}
	if slices.Contains(claims[:], exchange.IDOf(dashed)) {
		return true
	}
	for _, p := range claimPrefixes {
		if len(dashed) >= len(p) && exchange.EqualFold(dashed[:len(p)], p) {
			return true
		}
	}
	return false
}

// trusted reports whether a is in one of the ranges.
func trusted(ranges []netip.Prefix, a netip.Addr) bool {
	for _, p := range ranges {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// believe takes the client's address from what a trusted peer says, and returns the X-Forwarded-For chain that it sent, and what the field says
// in which it tells addresses. The client is the right-most address that is not a trusted proxy: everything to the left of it is hearsay.
func (s *session) believe(t *believed) (chain, original []byte) {
	x := s.x
	f := &x.Request.Fields
	usual := fieldName{id: exchange.XForwardedFor}
	chain = valuesOf(f, &usual)
	original = chain
	if t.addresses.id != exchange.XForwardedFor {
		original = valuesOf(f, &t.addresses)
	}
	if a, ok := rightmost(original, t.addressed); ok {
		x.Client.Addr = a
	} else if a, ok := parseAddr(f.Get(exchange.XRealIP)); ok && len(original) == 0 && t.addresses.id == exchange.XForwardedFor {
		x.Client.Addr = a
	}
	return chain, original
}

// valuesOf returns the values of a field, with commas between them.
func valuesOf(f *exchange.Fields, n *fieldName) (values []byte) {
	for i := range f.Len() {
		if id, name, value, ok := f.At(i); ok && n.is(id, name) {
			if len(values) > 0 {
				values = append(values, ", "...)
			}
			values = append(values, value...)
		}
	}
	return values
}

// believeRest takes scheme and port from what a trusted peer says.
func (s *session) believeRest() {
	x := s.x
	f := &x.Request.Fields
	switch proto := f.Get(exchange.XForwardedProto); {
	case exchange.EqualFold(proto, "https"):
		x.Client.Proto, x.Client.Port = "https", 443
	case exchange.EqualFold(proto, "http"):
		x.Client.Proto, x.Client.Port = "http", 80
	}
	if p, err := strconv.ParseUint(string(f.Get(exchange.XForwardedPort)), 10, 16); err == nil {
		x.Client.Port = uint16(p)
	}
}

// rightmost returns the last address of a chain that is not in ranges, or the first where all are.
func rightmost(chain []byte, ranges []netip.Prefix) (found netip.Addr, ok bool) {
	for len(chain) > 0 {
		member := chain
		if i := bytes.LastIndexByte(chain, ','); i >= 0 {
			chain, member = chain[:i], chain[i+1:]
		} else {
			chain = nil
		}
		a, valid := parseAddr(bytes.TrimSpace(member))
		if !valid {
			return found, ok
		}
		found, ok = a, true
		if !trusted(ranges, a) {
			return found, ok
		}
	}
	return found, ok
}

// parseAddr reads an address with or without a port, as proxies write them.
func parseAddr(b []byte) (netip.Addr, bool) {
	if len(b) == 0 || len(b) > 64 {
		return netip.Addr{}, false
	}
	if a, err := netip.ParseAddr(string(bytes.Trim(b, "[]"))); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(string(b)); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// maxRequestID bounds the X-Request-ID that a client may choose.
const maxRequestID = 128

// requestID keeps the client's X-Request-ID where it is short and plain, and makes one of 128 random bits otherwise.
func (s *session) requestID() {
	x := s.x
	if id := x.Request.Fields.Get(exchange.XRequestID); len(id) > 0 && len(id) <= maxRequestID && plain(id) {
		at := len(x.Scratch)
		x.Scratch = append(x.Scratch, id...)
		x.RequestID = x.Scratch[at:]
		return
	}
	at := len(x.Scratch)
	x.Scratch = appendHex(appendHex(x.Scratch, rand.Uint64()), rand.Uint64())
	x.RequestID, x.RequestIDMade = x.Scratch[at:], true
}

func plain(b []byte) bool {
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '=', c == '/', c == '+', c == ':':
		default:
			return false
		}
	}
	return true
}

func appendHex(dst []byte, n uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return dst
}
