package http1

// class is a set of character classes of RFC 9110 section 5.6.2 and RFC 9112, one bit each.
type class uint8

const (
	tchar      class = 1 << iota // token characters
	fieldVchar                   // what a field value may hold: HTAB, SP, VCHAR, obs-text
	targetChar                   // what a request target may hold: 0x21-0x7E without "#", and 0x80-0xFF
	pathChar                     // targetChar without the characters that are refused in a path
	hexDigit
)

// classes is read-only after package initialisation.
var classes = func() (t [256]class) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			t[c] |= tchar
		}
		if c == '\t' || c >= 0x20 && c != 0x7F {
			t[c] |= fieldVchar
		}
		if c > 0x20 && c != 0x7F && c != '#' {
			t[c] |= targetChar | pathChar
		}
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' {
			t[c] |= hexDigit
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= tchar
	}
	for _, c := range `"<>\` {
		t[c] &^= pathChar
	}
	return t
}()

func all(b []byte, c class) bool {
	for _, x := range b {
		if classes[x]&c == 0 {
			return false
		}
	}
	return true
}

// isToken reports whether b is a token of RFC 9110 section 5.6.2.
func isToken(b []byte) bool { return len(b) > 0 && all(b, tchar) }

// trim removes optional whitespace (SP and HTAB) at both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
