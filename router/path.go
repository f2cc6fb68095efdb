package router

// This file makes the canonical form of a path: the only form on which a decision is taken, for the paths of rules
// (at Build) and for the paths of requests (in the proxy) alike. Two spellings of a path that a Pod would take for the
// same must not reach different routes, so there is one function and everything goes through it:
//
//  1. A broken percent escape, %00, a raw control byte, "?" or "#" is an error.
//  2. Escapes of unreserved characters are decoded, once; the hex digits of the others become upper case. A byte that
//     RFC 3986 does not allow in a path (a space, a quote, {, |, bytes from 0x80) becomes an escape.
//  3. Runs of slashes become one.
//  4. Dot segments are removed, encoded ones too; one that climbs above the root is an error.
//
// Slashes and backslashes that are encoded stay encoded: %2F never separates elements.

import (
	"bytes"
	"errors"
	"unsafe"
)

// The errors of CanonicalPath and CanonicalPathString. A request with such a path is answered 400; a rule with such a
// path is dropped.
var (
	ErrPathRelative  = errors.New("path does not begin with /")
	ErrPathEscape    = errors.New("path has a % that two hex digits do not follow")
	ErrPathControl   = errors.New("path has a control character or %00")
	ErrPathDelimiter = errors.New("path has a ? or a #")
	ErrPathAboveRoot = errors.New("path climbs above the root by .. segments")
)

// CanonicalPath returns the canonical form of raw, which is a request target up to its first "?". It is raw itself where
// raw is canonical already, which costs no copy; else it is written to dst[:0], which grows where it is too small. dst must
// not overlap raw. dots says that raw held dot segments, plain or encoded: such a path must not be forwarded as it came.
//
// The result is never longer than three times raw, and is its own canonical form.
func CanonicalPath(dst, raw []byte) (canonical []byte, dots bool, err error) {
	if isCanonicalPath(raw) {
		return raw, false, nil
	}
	return appendCanonicalPath(dst[:0], raw)
}

// CanonicalPathString is CanonicalPath for a string. It allocates only where raw is not canonical.
func CanonicalPathString(raw string) (canonical string, dots bool, err error) {
	// The bytes are only read: isCanonicalPath and appendCanonicalPath never write to their source.
	b := unsafe.Slice(unsafe.StringData(raw), len(raw))
	if isCanonicalPath(b) {
		return raw, false, nil
	}
	out, dots, err := appendCanonicalPath(nil, b)
	return string(out), dots, err
}

// What a raw byte is in a path.
const (
	pathPlain     = iota // allowed as it is: RFC 3986 pchar without "%"
	pathSlash            // separates elements
	pathPercent          // begins an escape
	pathEncode           // allowed only as an escape
	pathControl          // refused
	pathDelimiter        // refused: it ends a path
)

// pathClass classifies each byte; it is never written after it is built.
var pathClass = func() (class [256]uint8) {
	for i := range class {
		switch b := byte(i); {
		case b < 0x20 || b == 0x7f:
			class[i] = pathControl
		case unreserved(b) || bytes.IndexByte([]byte("!$&'()*+,;=:@"), b) >= 0:
			class[i] = pathPlain
		case b == '/':
			class[i] = pathSlash
		case b == '%':
			class[i] = pathPercent
		case b == '?' || b == '#':
			class[i] = pathDelimiter
		default:
			class[i] = pathEncode
		}
	}
	return class
}()

// unreserved says whether b is one of RFC 3986's unreserved characters: encoded or not, they mean the same.
func unreserved(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '.' || b == '_' || b == '~'
}

// isCanonicalPath says whether raw is its own canonical form.
func isCanonicalPath(raw []byte) bool { //nolint:gocyclo // one pass over the bytes of every request's path
	if len(raw) == 0 || raw[0] != '/' {
		return false
	}
	for i := 0; i < len(raw); i++ {
		switch pathClass[raw[i]] {
		case pathPlain:
		case pathSlash:
			if i+1 < len(raw) && (raw[i+1] == '/' || raw[i+1] == '.' && dotSegment(raw[i+1:])) {
				return false
			}
		case pathPercent:
			b, ok := unescape(raw[i:])
			if !ok || b == 0 || unreserved(b) || lowerHex(raw[i+1]) || lowerHex(raw[i+2]) {
				return false
			}
			i += 2
		default:
			return false
		}
	}
	return true
}

// dotSegment says whether the first element of rest, which begins with a dot, is "." or "..".
func dotSegment(rest []byte) bool {
	if len(rest) > 1 && rest[1] == '.' {
		rest = rest[1:]
	}
	return len(rest) == 1 || rest[1] == '/'
}

// appendCanonicalPath appends the canonical form of raw to out, which is empty. It goes once over raw, and every byte of
// out is removed at most once, so it is linear whatever raw holds.
func appendCanonicalPath(out, raw []byte) (_ []byte, dots bool, err error) {
	if len(raw) == 0 || raw[0] != '/' {
		return nil, false, ErrPathRelative
	}
	for i := 0; i < len(raw); {
		for i < len(raw) && raw[i] == '/' {
			i++
		}
		start := len(out)
		out = append(out, '/')
		for i < len(raw) && raw[i] != '/' {
			var n int
			if out, n, err = appendPathByte(out, raw[i:]); err != nil {
				return nil, dots, err
			}
			i += n
		}
		switch string(out[start+1:]) {
		case ".":
			dots, out = true, out[:start]
		case "..":
			if dots = true; start == 0 {
				return nil, dots, ErrPathAboveRoot
			}
			out = out[:bytes.LastIndexByte(out[:start], '/')]
		default:
			continue
		}
		// "/a/." and "/a/b/.." name a folder: they end in a slash.
		if i == len(raw) {
			out = append(out, '/')
		}
	}
	return out, dots, nil
}

// appendPathByte appends the canonical form of the byte or escape at the head of raw, and returns how many bytes it took.
func appendPathByte(out, raw []byte) (_ []byte, n int, err error) {
	switch pathClass[raw[0]] {
	case pathPlain:
		return append(out, raw[0]), 1, nil
	case pathEncode:
		return appendEscape(out, raw[0]), 1, nil
	case pathDelimiter:
		return out, 0, ErrPathDelimiter
	case pathPercent:
		switch b, ok := unescape(raw); {
		case !ok:
			return out, 0, ErrPathEscape
		case b == 0:
			return out, 0, ErrPathControl
		case unreserved(b):
			return append(out, b), 3, nil
		default:
			return appendEscape(out, b), 3, nil
		}
	}
	return out, 0, ErrPathControl
}

// appendEscape appends b as an escape with upper-case hex digits.
func appendEscape(out []byte, b byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(out, '%', digits[b>>4], digits[b&15])
}

// unescape returns the byte that the escape at the head of raw stands for.
func unescape(raw []byte) (byte, bool) {
	if len(raw) < 3 {
		return 0, false
	}
	high, ok1 := unhex(raw[1])
	low, ok2 := unhex(raw[2])
	return high<<4 | low, ok1 && ok2
}

// unhex returns the value of a hex digit.
func unhex(b byte) (byte, bool) {
	switch {
	case '0' <= b && b <= '9':
		return b - '0', true
	case 'a' <= b && b <= 'f':
		return b - 'a' + 10, true
	case 'A' <= b && b <= 'F':
		return b - 'A' + 10, true
	}
	return 0, false
}

func lowerHex(b byte) bool { return 'a' <= b && b <= 'f' }

// ResolvePath merges slashes and removes dot segments as a Pod may (RFC 3986 section 5.2.4): what climbs above the root stays there, where our
// own canonical form refuses it. It overwrites path, whose escapes are canonical.
func ResolvePath(path []byte) []byte {
	out := path[:0]
	for i := 0; i < len(path); {
		for i < len(path) && path[i] == '/' {
			i++
		}
		n := bytes.IndexByte(path[i:], '/')
		if n < 0 {
			n = len(path) - i
		}
		segment := path[i : i+n]
		last := i+n == len(path)
		i += n
		switch string(segment) {
		case ".":
		case "..":
			out = out[:max(bytes.LastIndexByte(out, '/'), 0)]
		default:
			out = append(append(out, '/'), segment...)
			continue
		}
		if last {
			out = append(out, '/')
		}
	}
	if len(out) == 0 {
		out = append(out, '/')
	}
	return out
}
