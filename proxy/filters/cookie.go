package filters

import (
	"bytes"

	"podlane.dev/podlane/proxy/exchange"
)

// Cookie returns the value of the request's first cookie of that name (RFC 6265 section 5.4), without quotes around it. ok is false where there is none.
func Cookie(x *exchange.Exchange, name string) (value []byte, ok bool) {
	f := &x.Request.Fields
	if !f.Has(exchange.Cookie) {
		return nil, false
	}
	for i := range f.Len() {
		id, _, field, live := f.At(i)
		if !live || id != exchange.Cookie {
			continue
		}
		for len(field) > 0 {
			pair := field
			if end := bytes.IndexByte(field, ';'); end >= 0 {
				pair, field = field[:end], field[end+1:]
			} else {
				field = nil
			}
			key, text, found := bytes.Cut(bytes.TrimLeft(pair, " \t"), []byte("="))
			if !found || string(bytes.TrimRight(key, " \t")) != name {
				continue
			}
			text = bytes.TrimSpace(text)
			if n := len(text); n >= 2 && text[0] == '"' && text[n-1] == '"' {
				text = text[1 : n-1]
			}
			return text, true
		}
	}
	return nil, false
}
