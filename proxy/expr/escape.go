package expr

import "slices"

// Escape says how the values of variables are written. Literal text is never escaped: its author is the operator or the Ingress's owner, whereas
// values come from clients.
type Escape uint8

// The ways of escaping. A missing value is nothing, but "-" with EscapeLog, as in nginx.
const (
	// EscapeText is for header fields and for log-format-escape-none: control characters, which nginx leaves as they are, become %XX, so that
	// no value holds a CR, LF or NUL. $uri and $document_uri are decoded and can hold them; a client chooses what they hold.
	EscapeText Escape = iota
	// EscapeURL is for URLs: as EscapeText, and what may not stand in a URL becomes %XX too (space, quote, #, <, >, \, ^, `, {, |, }, and bytes
	// from 0x7F), so that no value ends a request line. "%", "?" and "&" stay: values such as $request_uri are encoded already.
	EscapeURL
	// EscapeLog is nginx's default for logs: quote, backslash and bytes below 0x20 and above 0x7E become \xXX.
	EscapeLog
	// EscapeJSON is nginx's escape=json: what RFC 8259 demands inside of a string, and no more.
	EscapeJSON
	// EscapeNone is for keys that only we compare: bytes as they are, $binary_remote_addr too. It is not for anything that others read.
	EscapeNone

	escapeComponent // all but unreserved characters become %XX
)

// widths are the lengths of each byte's forms; the length tells the form: 1 is the byte itself, 2 is \n, 3 is %XX, 4 is \xXX, and 6 is \u00XX. It is
// never written after it is built.
var widths = func() (t [escapeComponent + 1][256]uint8) {
	for how := range t {
		for c := range t[how] {
			t[how][c] = width(Escape(how), byte(c))
		}
	}
	return t
}()

// width is the length of c's form.
func width(how Escape, c byte) uint8 {
	control := c < 0x20
	quotes := c == '"' || c == '\\'
	switch {
	case percent(how, c):
		return 3
	case how == EscapeLog && (control || quotes || c > 0x7e):
		return 4
	case how == EscapeJSON && (quotes || shortForm(c) != 0):
		return 2
	case how == EscapeJSON && control:
		return 6
	}
	return 1
}

// percent reports whether how makes c %XX.
func percent(how Escape, c byte) bool {
	switch how {
	case EscapeText:
		return c < 0x20 || c == 0x7f
	case EscapeURL:
		return !inURL(c)
	case escapeComponent:
		return !nameChar(c) && c != '-' && c != '.' && c != '~'
	}
	return false
}

// inURL reports whether c may stand in a URL: it is none of what RFC 3986 has no place for, nor the beginning of a fragment.
func inURL(c byte) bool {
	return c > 0x20 && c < 0x7f && !slices.Contains([]byte("\"#<>\\^`{|}"), c)
}

// shortForm is the letter of a control character's short escape, 0 where it has none.
func shortForm(c byte) byte {
	switch c {
	case '\n':
		return 'n'
	case '\r':
		return 'r'
	case '\t':
		return 't'
	case '\b':
		return 'b'
	case '\f':
		return 'f'
	}
	return 0
}

// escape escapes dst[from:] in place, from its end on, so that no second buffer is needed.
func escape(dst []byte, from int, how Escape) []byte {
	width := &widths[how]
	extra := 0
	for _, c := range dst[from:] {
		extra += int(width[c]) - 1
	}
	if extra == 0 {
		return dst
	}
	read := len(dst)
	dst = slices.Grow(dst, extra)[:read+extra]
	// Once both places are the same there is nothing more to escape before them.
	for write := len(dst); write > read; {
		read--
		c := dst[read]
		w := int(width[c])
		write -= w
		put(dst[write:write+w], c)
	}
	return dst
}

// put writes c in the form that is as long as to.
func put(to []byte, c byte) {
	const digits = "0123456789ABCDEF"
	switch len(to) {
	case 1:
		to[0] = c
		return
	case 2:
		to[0], to[1] = '\\', c
		if short := shortForm(c); short != 0 {
			to[1] = short
		}
		return
	case 3:
		to[0] = '%'
	case 4:
		to[0], to[1] = '\\', 'x'
	default:
		copy(to, `\u00`)
	}
	to[len(to)-2], to[len(to)-1] = digits[c>>4], digits[c&0xf]
}
