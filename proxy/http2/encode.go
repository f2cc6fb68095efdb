package http2

import (
	"strconv"

	"podlane.dev/podlane/proxy/exchange"
)

// Header blocks are encoded with the static table of RFC 7541 and literals alone: nothing of one block depends on another, so streams
// encode at the same time and in any order, and a connection that is idle holds no table. Strings are not Huffman-coded: a quarter
// of the bytes would cost more time than all else that is done with them.

// The representations of RFC 7541 section 6.
const (
	indexed      = 0x80
	literal      = 0x00 // without indexing
	neverIndexed = 0x10
	sizeUpdate   = 0x20
)

// staticNames are the names of the static table that are no pseudo-header fields, in its order.
var staticNames = [...]string{
	"accept-charset", "accept-encoding", "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow",
	"authorization", "cache-control", "content-disposition", "content-encoding", "content-language", "content-length",
	"content-location", "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
	"if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location", "max-forwards",
	"proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie",
	"strict-transport-security", "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
}

// The indices of the static table that are used by number.
const (
	indexAuthority  = 1
	indexMethodGet  = 2
	indexMethodPost = 3
	indexPath       = 4
	indexHTTP       = 6
	indexHTTPS      = 7
	indexStatus200  = 8
	indexFirstName  = 15
	indexLength     = 28
	indexDate       = 33
	indexServer     = 54
)

// staticIndex is read-only after package initialisation.
var staticIndex = func() map[string]uint8 {
	m := make(map[string]uint8, len(staticNames))
	for i, name := range staticNames {
		m[name] = uint8(indexFirstName + i)
	}
	return m
}()

// knownName is how a known field is written: by index, or by its lower-case name.
type knownName struct {
	index uint8
	first uint8 // byte of the representation
	name  string
}

// knownNames is read-only after package initialisation.
var knownNames = func() (t [exchange.NumID]knownName) {
	for id := exchange.ID(1); id < exchange.NumID; id++ {
		name := string(appendLower(nil, []byte(id.Name())))
		t[id] = knownName{staticIndex[name], literal, name}
		switch id {
		case exchange.Authorization, exchange.ProxyAuthorization, exchange.Cookie, exchange.SetCookie:
			// Neither this hop nor a later one may keep them in a table, where guesses could be compared with them.
			t[id].first = neverIndexed
		}
	}
	return t
}()

func appendLower(dst, name []byte) []byte {
	for _, c := range name {
		dst = append(dst, exchange.Lower(c))
	}
	return dst
}

// appendInt appends an integer with a prefix of n bits behind first (RFC 7541 section 5.1).
func appendInt(dst []byte, first byte, n uint, v uint64) []byte {
	limit := uint64(1)<<n - 1
	if v < limit {
		return append(dst, first|byte(v))
	}
	dst = append(dst, first|byte(limit))
	for v -= limit; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = appendInt(dst, 0, 7, uint64(len(s)))
	return append(dst, s...)
}

// appendIndexed appends a field whose name has an index in the static table.
func appendIndexed[T string | []byte](dst []byte, index uint64, value T) []byte {
	return appendString(appendInt(dst, literal, 4, index), value)
}

// appendNumber is appendIndexed for a decimal number.
func appendNumber(dst []byte, index uint64, n int64) []byte {
	var buf [20]byte
	return appendIndexed(dst, index, strconv.AppendInt(buf[:0], n, 10))
}

// statusIndex returns the index of a whole :status field, or 0.
func statusIndex(status int) uint64 {
	switch status {
	case 200:
		return indexStatus200
	case 204:
		return indexStatus200 + 1
	case 206:
		return indexStatus200 + 2
	case 304:
		return indexStatus200 + 3
	case 400:
		return indexStatus200 + 4
	case 404:
		return indexStatus200 + 5
	case 500:
		return indexStatus200 + 6
	}
	return 0
}

func appendStatus(dst []byte, status int) []byte {
	if i := statusIndex(status); i != 0 {
		return appendInt(dst, indexed, 7, i)
	}
	return appendNumber(dst, indexStatus200, int64(status))
}

// appendField appends one field of a message.
func appendField(dst []byte, id exchange.ID, name, value []byte) []byte {
	if id != exchange.Unknown {
		k := &knownNames[id]
		dst = appendInt(dst, k.first, 4, uint64(k.index))
		if k.index == 0 {
			dst = appendString(dst, k.name)
		}
		return appendString(dst, value)
	}
	// The name is made lower-case where it will stand, and taken away again where it has an index.
	at := len(dst)
	dst = appendInt(append(dst, literal), 0, 7, uint64(len(name)))
	from := len(dst)
	dst = appendLower(dst, name)
	if i, ok := staticIndex[string(dst[from:])]; ok {
		dst = appendInt(dst[:at], literal, 4, uint64(i))
	}
	return appendString(dst, value)
}

// appendFields appends all fields but those that HTTP/2 does not know.
func appendFields(dst []byte, f *exchange.Fields) []byte {
	for i := range f.Len() {
		id, name, value, ok := f.At(i)
		if ok && !connectionSpecific(id) {
			dst = appendField(dst, id, name, value)
		}
	}
	return dst
}

// appendTrailers appends the fields that may come in a trailer section.
func appendTrailers(dst []byte, f *exchange.Fields) []byte {
	for i := range f.Len() {
		id, name, value, ok := f.At(i)
		if ok && !forbiddenTrailer(id, name) {
			dst = appendField(dst, id, name, value)
		}
	}
	return dst
}

// connectionSpecific reports whether a field describes an HTTP/1.1 connection (RFC 9113 section 8.2.2).
func connectionSpecific(id exchange.ID) bool {
	switch id {
	case exchange.Connection, exchange.KeepAlive, exchange.ProxyConnection, exchange.TransferEncoding, exchange.Upgrade,
		exchange.HTTP2Settings:
		return true
	}
	return false
}

// forbiddenTrailer reports whether a field must not come in a trailer section, because it frames, routes, authenticates or
// describes the message (RFC 9110 section 6.5.1).
func forbiddenTrailer[T string | []byte](id exchange.ID, name T) bool {
	switch id {
	case exchange.Unknown:
	case exchange.Host, exchange.TE, exchange.Authorization, exchange.Cookie, exchange.SetCookie, exchange.CacheControl,
		exchange.Expect, exchange.Forwarded, exchange.Range, exchange.ProxyAuthenticate, exchange.ProxyAuthorization, exchange.Trailer:
		return true
	default:
		if connectionSpecific(id) {
			return true
		}
	}
	return hasPrefixFold(name, "content-") || hasPrefixFold(name, "x-forwarded-")
}

func hasPrefixFold[T string | []byte](b T, prefix string) bool {
	return len(b) >= len(prefix) && exchange.EqualFold(b[:len(prefix)], prefix)
}
