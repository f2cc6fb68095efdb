package certs

import (
	"bytes"
	"strings"
)

// maxName is the length of the longest DNS name in text form without its final dot (RFC 1035 section 3.1).
const maxName = 253

// appendCanonical appends name in lower case (ASCII only, as DNS compares) and without a final dot. ok is false for names
// that cannot be published: empty, too long, or with more than one final dot.
func appendCanonical(dst []byte, name string) (canonical []byte, ok bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxName || name[len(name)-1] == '.' {
		return dst, false
	}
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst, true
}

// afterFirstLabel returns what a wildcard for name has after its "*.". ok is false where name has one label or an empty first one.
func afterFirstLabel(name []byte) (parent []byte, ok bool) {
	i := bytes.IndexByte(name, '.')
	if i <= 0 || i == len(name)-1 {
		return nil, false
	}
	return name[i+1:], true
}

// canonicalHost returns a host of a certificate in lower case and without a final dot. ok is false for what can never
// match a name: empty, too long, or with "*" elsewhere than in a leading "*.".
func canonicalHost(host string) (canonical string, ok bool) {
	var space [maxName]byte
	lower, ok := appendCanonical(space[:0], host)
	if !ok {
		return "", false
	}
	name := bytes.TrimPrefix(lower, []byte("*."))
	if len(name) == 0 || bytes.IndexByte(name, '*') >= 0 {
		return "", false
	}
	if string(lower) == host {
		return host, true // nearly always, and without a copy
	}
	return string(lower), true
}
