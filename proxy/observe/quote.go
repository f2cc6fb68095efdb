package observe

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// appendQuoted appends s as a JSON string that is safe wherever a log ends up: besides what RFC 8259 section 7 demands it
// escapes what terminals obey (C0, DEL and C1 controls), what some parsers take for line ends (U+2028, U+2029), and what
// makes a viewer show bytes in another order than they have (bidirectional controls). A byte that is not UTF-8 becomes
// \ufffd, as in encoding/json.
func appendQuoted[T string | []byte](b []byte, s T) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

// appendEscaped appends s as appendQuoted does, without the quotes.
func appendEscaped[T string | []byte](b []byte, s T) []byte {
	start := 0 // of what is appended as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if 0x20 <= c && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			b = appendEscape(b, rune(c))
			i++
			start = i
			continue
		}
		// A conversion of at most four bytes, which the compiler keeps on the stack.
		r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if r != utf8.RuneError && !unsafeRune(r) || r == utf8.RuneError && size == 3 {
			i += size
			continue
		}
		b = append(b, s[start:i]...)
		b = appendEscape(b, r)
		i += size
		start = i
	}
	return append(b, s[start:]...)
}

// unsafeRune reports whether a rune beyond ASCII is escaped.
func unsafeRune(r rune) bool {
	switch {
	case r <= 0x9f: // C1 controls
		return true
	case 0x2028 <= r && r <= 0x202e: // line and paragraph separators, embeddings and overrides
		return true
	case 0x2066 <= r && r <= 0x2069: // isolates
		return true
	case r == 0x200e, r == 0x200f, r == 0x061c: // marks
		return true
	}
	return r == 0xfeff // a byte order mark
}

// appendEscape appends r, which is in the basic plane, in the shortest escape that JSON has.
func appendEscape(b []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', hexDigits[r>>12&0xf], hexDigits[r>>8&0xf], hexDigits[r>>4&0xf], hexDigits[r&0xf])
}
