package http2

// class is a set of character classes of RFC 9110 section 5.6.2, RFC 9113 section 8.2.1 and RFC 3986, one bit each.
type class uint8

const (
	tchar      class = 1 << iota // token characters
	lowerTchar                   // those that a field name may hold: no upper-case letters
	fieldVchar                   // what a field value may hold: HTAB, SP, VCHAR, obs-text
	targetChar                   // what a request target may hold: 0x21-0x7E without "#", and 0x80-0xFF
	pathChar                     // targetChar without the characters that are refused in a path
)

// classes is read-only after package initialisation.
var classes = func() (t [256]class) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			t[c] |= tchar | lowerTchar
		case c >= 'A' && c <= 'Z':
			t[c] |= tchar
		}
		if c == '\t' || c >= 0x20 && c != 0x7F {
			t[c] |= fieldVchar
		}
		if c > 0x20 && c != 0x7F && c != '#' {
			t[c] |= targetChar | pathChar
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= tchar | lowerTchar
	}
	for _, c := range `"<>\` {
		t[c] &^= pathChar
	}
	return t
}()

func all(s string, c class) bool {
	for i := range len(s) {
		if classes[s[i]]&c == 0 {
			return false
		}
	}
	return true
}

func isToken(s string) bool { return s != "" && all(s, tchar) }

// isValue reports whether s may be a field's value: no control characters, and no white space at its ends.
func isValue(s string) bool {
	if s == "" {
		return true
	}
	return s[0] != ' ' && s[0] != '\t' && s[len(s)-1] != ' ' && s[len(s)-1] != '\t' && all(s, fieldVchar)
}

// parseLength reads 1 to 19 digits up to 2^63-1 without leading zeros (RFC 9110 section 8.6, without lists).
func parseLength[T string | []byte](s T) (int64, bool) {
	if len(s) == 0 || len(s) > 19 || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + uint64(s[i]-'0')
	}
	return int64(n), n <= 1<<63-1
}
