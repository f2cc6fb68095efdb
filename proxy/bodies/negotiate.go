package bodies

import (
	"bytes"

	"podlane.dev/podlane/proxy/exchange"
)

// The codings whose weight matters. others is "*": each that is not named.
const (
	identity = iota
	gzipped
	brotlied
	others
	codings
)

// weights are what a client gives each coding, in thousandths; unnamed where it does not say.
type weights [codings]int

const unnamed = -1

// of returns the weight of a coding. A body that is not coded is always taken, unless it is named; then the weight says how gladly.
func (w *weights) of(coding int) int {
	switch {
	case w[coding] != unnamed:
		return w[coding]
	case coding == identity || w[others] == unnamed:
		return 0
	}
	return w[others]
}

// weigh reads the Accept-Encoding of a request (RFC 9110 section 12.5.3). What is malformed counts for nothing.
func weigh(f *exchange.Fields) weights {
	w := weights{unnamed, unnamed, unnamed, unnamed}
	if !f.Has(exchange.AcceptEncoding) {
		return w
	}
	for i := range f.Len() {
		id, _, value, ok := f.At(i)
		if !ok || id != exchange.AcceptEncoding {
			continue
		}
		for member := range bytes.SplitSeq(value, []byte{','}) {
			name, parameters, _ := bytes.Cut(member, []byte{';'})
			if c := codingOf(trim(name)); c >= 0 && w[c] == unnamed {
				w[c] = weight(parameters)
			}
		}
	}
	return w
}

func codingOf(name []byte) int {
	switch {
	case exchange.EqualFold(name, "gzip"), exchange.EqualFold(name, "x-gzip"): // RFC 9110 section 8.4.1.3
		return gzipped
	case exchange.EqualFold(name, "br"):
		return brotlied
	case exchange.EqualFold(name, "identity"):
		return identity
	case string(name) == "*":
		return others
	}
	return -1
}

// weight reads the parameters of a member: "q" and at most three digits behind the point (RFC 9110 section 12.4.2), or none.
func weight(parameters []byte) int {
	parameters = trim(parameters)
	if len(parameters) == 0 {
		return 1000
	}
	name, value, _ := bytes.Cut(parameters, []byte{'='})
	value = trim(value)
	if !exchange.EqualFold(trim(name), "q") || len(value) == 0 || len(value) > len("0.000") || value[0] > '1' || value[0] < '0' {
		return 0
	}
	n := int(value[0]-'0') * 1000
	if len(value) == 1 {
		return n
	}
	if value[1] != '.' {
		return 0
	}
	unit := 100
	for _, c := range value[2:] {
		if c < '0' || c > '9' {
			return 0
		}
		n += int(c-'0') * unit
		unit /= 10
	}
	if n > 1000 {
		return 0
	}
	return n
}

func trim(b []byte) []byte { return bytes.Trim(b, " \t") }

// hasMember reports whether the list in the fields of a name has a member, in any case.
func hasMember(f *exchange.Fields, name, want string) bool {
	id := exchange.IDOf(name)
	if id != exchange.Unknown && !f.Has(id) {
		return false
	}
	for i := range f.Len() {
		_, n, value, ok := f.At(i)
		if !ok || !exchange.EqualFold(n, name) {
			continue
		}
		for member := range bytes.SplitSeq(value, []byte{','}) {
			if exchange.EqualFold(trim(member), want) {
				return true
			}
		}
	}
	return false
}

// addVary tells caches that the answer depends on the client's Accept-Encoding, whether this one is compressed or not.
func addVary(f *exchange.Fields) {
	if !hasMember(f, "Vary", "Accept-Encoding") && !hasMember(f, "Vary", "*") {
		f.AddString("Vary", "Accept-Encoding")
	}
}

// coded makes the head of x's answer that of a body in the named coding: other bytes, of a length that nobody knows, of which no
// range can be had, and equal to the original in what they mean alone (RFC 9110 section 8.8.1).
func coded(x *exchange.Exchange, name string) {
	f := &x.Response.Fields
	f.SetString(exchange.ContentEncoding, name)
	f.Del(exchange.ContentLength)
	f.DelName([]byte("Accept-Ranges"))
	tag, ok := f.Lookup("ETag")
	if !ok || bytes.HasPrefix(tag, []byte("W/")) {
		return
	}
	strong := len(tag) >= 2 && tag[0] == '"'
	from := len(x.Scratch)
	x.Scratch = append(append(x.Scratch, "W/"...), tag...)
	f.DelName([]byte("ETag"))
	if strong {
		f.Add("ETag", x.Scratch[from:])
	}
	x.Scratch = x.Scratch[:from]
}
