package expr

import (
	"bytes"
	"encoding/base64"

	"podlane.dev/podlane/proxy/exchange"
)

func requestField(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	return fields(dst, &x.Request.Fields, n)
}

func responseField(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	return fields(dst, &x.Response.Fields, n)
}

func upstreamField(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	if x.Response.Local {
		return dst, false
	}
	return fields(dst, &x.Response.Fields, n)
}

// fields appends the values of all fields of that name, joined as RFC 9110 section 5.3 says, cookies as RFC 6265 section 5.4 does.
func fields(dst []byte, f *exchange.Fields, n *name) ([]byte, bool) {
	if n.id != exchange.Unknown && !f.Has(n.id) {
		return dst, false
	}
	separator := ", "
	if n.id == exchange.Cookie {
		separator = "; "
	}
	found := false
	for i := range f.Len() {
		id, field, value, ok := f.At(i)
		// A field that the engine knows is that field by its own name only, and not by one with underscores, which anyone may send.
		if !ok || id != n.id || id == exchange.Unknown && !spells(field, n.text) {
			continue
		}
		if found {
			dst = append(dst, separator...)
		}
		dst, found = append(dst, value...), true
	}
	return dst, found
}

// spells reports whether a field's name is want, which is lower-case and has underscores where the field may have dashes.
func spells(field []byte, want string) bool {
	if len(field) != len(want) {
		return false
	}
	for i, c := range field {
		if c == '-' {
			c = '_'
		}
		if exchange.Lower(c) != want[i] {
			return false
		}
	}
	return true
}

// cookie appends the value of the first cookie of that name.
func cookie(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	f := &x.Request.Fields
	if !f.Has(exchange.Cookie) {
		return dst, false
	}
	for i := range f.Len() {
		if id, _, value, ok := f.At(i); ok && id == exchange.Cookie {
			if found, ok := findCookie(value, n.text); ok {
				return append(dst, found...), true
			}
		}
	}
	return dst, false
}

// findCookie finds a cookie as nginx does: names end at the "=", values at the next ";", and what is no pair ends at a "," too.
func findCookie(b []byte, want string) ([]byte, bool) {
	for len(b) > 0 {
		if len(b) >= len(want) && exchange.EqualFold(b[:len(want)], want) {
			rest := bytes.TrimLeft(b[len(want):], " ")
			if len(rest) > 0 && rest[0] == '=' {
				value, _, _ := bytes.Cut(rest[1:], []byte{';'})
				return bytes.TrimLeft(value, " "), true
			}
		}
		i := bytes.IndexAny(b, ";,")
		if i < 0 {
			return nil, false
		}
		b = bytes.TrimLeft(b[i+1:], " ")
	}
	return nil, false
}

// remoteUser appends the user whom authentication has found, else the user name of an Authorization field of scheme Basic. The credentials are decoded three bytes at a time, and only up to the
// colon is anything kept: the password is never written anywhere.
func remoteUser(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if user := x.Request.User; len(user) > 0 {
		return append(dst, user...), true
	}
	const basic = "basic "
	value := x.Request.Fields.Get(exchange.Authorization)
	if len(value) < len(basic) || !exchange.EqualFold(value[:len(basic)], basic) {
		return dst, false
	}
	value = bytes.TrimRight(bytes.TrimLeft(value[len(basic):], " "), "=")
	from, colon := len(dst), false
	for len(value) > 0 {
		n := min(4, len(value))
		var three [3]byte
		size, err := base64.RawStdEncoding.Decode(three[:], value[:n])
		if err != nil {
			return dst[:from], false
		}
		value = value[n:]
		user, _, ends := bytes.Cut(three[:size], []byte{':'})
		if !colon {
			dst = append(dst, user...)
		}
		colon = colon || ends
	}
	if !colon || len(dst) == from {
		return dst[:from], false
	}
	return dst, true
}
