package exchange

import (
	"bytes"
	"slices"
)

// hopByHop are the fields that end at each hop.
var hopByHop = [...]ID{
	Connection, KeepAlive, ProxyConnection, ProxyAuthenticate, ProxyAuthorization, Trailer, TransferEncoding, Upgrade,
	HTTP2Settings, TE,
}

// endsHere reports whether a field ends at this hop whether it is nominated or not. Such a field is removed after it was read: TE is
// nominated wherever it is sent (RFC 9110 section 10.1.4), and Connection itself may have further lines.
func endsHere(name []byte) bool { return slices.Contains(hopByHop[:], IDOf(name)) }

// Managed reports whether only codecs write the field: it ends at this hop, or says how a message is framed. No policy may set it.
func (id ID) Managed() bool {
	return id == ContentLength || id == Expect || id == Proxy || slices.Contains(hopByHop[:], id)
}

func (r *Request) removeHopByHop() {
	r.TrailersOK = hasMember(&r.Fields, TE, "trailers")
	for _, id := range hopByHop {
		if id != Trailer || r.Body == nil { // the codec of the Pod's side knows whether trailers are passed on
			r.Fields.Del(id)
		}
	}
	r.Fields.Del(Expect)
	r.Fields.Del(Proxy)
	if r.TrailersOK {
		r.Fields.SetString(TE, "trailers")
	}
}

// hasMember reports whether a list field has exactly the given member.
func hasMember(f *Fields, id ID, want string) bool {
	if !f.Has(id) {
		return false
	}
	for i := range f.Len() {
		at, _, value, ok := f.At(i)
		if !ok || at != id {
			continue
		}
		for member := range bytes.SplitSeq(value, []byte{','}) {
			if EqualFold(bytes.Trim(member, " \t"), want) {
				return true
			}
		}
	}
	return false
}

// RemoveHopByHop removes from a Pod's answer what ends at this hop. What its Connection field nominates goes too, but for
// fields that carry framing or identity. Trailer is left to the codec, which knows whether trailers are passed on.
func (r *Response) RemoveHopByHop() {
	f := &r.Fields
	if f.Has(Connection) {
		for i := range f.Len() {
			id, _, value, ok := f.At(i)
			if !ok || id != Connection {
				continue
			}
			for option := range bytes.SplitSeq(value, []byte{','}) {
				option = bytes.Trim(option, " \t")
				if len(option) > 0 && !protected(option) && !endsHere(option) && IDOf(option) != SetCookie {
					f.DelName(option)
				}
			}
		}
	}
	for _, id := range hopByHop {
		if id != Trailer {
			f.Del(id)
		}
	}
}
