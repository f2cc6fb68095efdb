package expr

import (
	"bytes"
	"strconv"

	"podlane.dev/podlane/proxy/exchange"
)

// text appends a value that is missing where it is nil.
func text(dst, value []byte) ([]byte, bool) { return append(dst, value...), value != nil }

func request(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	q := &x.Request
	if q.Method == nil {
		return dst, false
	}
	dst = append(append(dst, q.Method...), ' ')
	dst = append(append(dst, q.Target...), ' ')
	return append(dst, q.Version.String()...), true
}

func requestMethod(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return text(dst, x.Request.Method)
}

func requestURI(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return text(dst, x.Request.Target)
}

func escapedRequestURI(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	from := len(dst)
	dst, found := text(dst, x.Request.Target)
	return escape(dst, from, escapeComponent), found
}

// uri appends the path as nginx's $uri has it. nginx decodes first and then removes dot segments and repeated slashes; the canonical path keeps
// slashes that are encoded, so where there are any, decoding makes new segments.
func uri(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	path := x.Request.Path
	if x.Request.Forward != nil {
		path = x.Request.Forward
	}
	from, slashes := len(dst), false
	for {
		i := bytes.IndexByte(path, '%')
		if i < 0 || i+2 >= len(path) {
			break
		}
		high, ok1 := hexValue(path[i+1])
		low, ok2 := hexValue(path[i+2])
		if !ok1 || !ok2 {
			// Only a rewrite makes such a path: it stands for itself.
			dst = append(dst, path[:i+1]...)
			path = path[i+1:]
			continue
		}
		c := high<<4 | low
		slashes = slashes || c == '/'
		dst = append(append(dst, path[:i]...), c)
		path = path[i+3:]
	}
	dst = append(dst, path...)
	if slashes {
		dst = resolve(dst, from)
	}
	return dst, len(dst) > from
}

func hexValue(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// resolve removes dot segments and repeated slashes from the path dst[from:], in place. What climbs above the root stays there.
func resolve(dst []byte, from int) []byte {
	if dst[from] != '/' {
		return dst // not a path, and what is written could be longer than what was read
	}
	out, rest := dst[:from], dst[from:]
	for len(rest) > 0 {
		for len(rest) > 0 && rest[0] == '/' {
			rest = rest[1:]
		}
		end := bytes.IndexByte(rest, '/')
		if end < 0 {
			end = len(rest)
		}
		segment := rest[:end]
		rest = rest[end:]
		switch string(segment) {
		case ".":
		case "..":
			out = out[:max(from, from+bytes.LastIndexByte(out[from:], '/'))]
		default:
			// The place to write is never behind the place that is read.
			out = append(append(out, '/'), segment...)
			continue
		}
		if len(rest) == 0 {
			out = append(out, '/')
		}
	}
	return out
}

func args(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return append(dst, x.Request.RawQuery...), len(x.Request.RawQuery) > 0
}

func isArgs(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if len(x.Request.RawQuery) > 0 {
		dst = append(dst, '?')
	}
	return dst, true
}

// argument appends the first parameter of that name; one without "=" is none, as in nginx.
func argument(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	for rest := x.Request.RawQuery; len(rest) > 0; {
		parameter := rest
		if i := bytes.IndexByte(rest, '&'); i >= 0 {
			parameter, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if l := len(n.text); len(parameter) > l && parameter[l] == '=' && exchange.EqualFold(parameter[:l], n.text) {
			return append(dst, parameter[l+1:]...), true
		}
	}
	return dst, false
}

func host(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	if len(x.Request.Hostname) > 0 {
		return append(dst, x.Request.Hostname...), true
	}
	return serverName(dst, x, n)
}

func httpHost(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return text(dst, x.Request.Authority)
}

// bestHTTPHost appends X-Forwarded-Host, which the engine sets for every request: what a trusted proxy said, else the Host field.
func bestHTTPHost(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	if forwarded := x.Request.Fields.Get(exchange.XForwardedHost); len(forwarded) > 0 {
		return append(dst, forwarded...), true
	}
	return httpHost(dst, x, n)
}

func scheme(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Client.TLS {
		return append(dst, "https"...), true
	}
	return append(dst, "http"...), true
}

func passScheme(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	if x.Client.Proto != "" {
		return append(dst, x.Client.Proto...), true
	}
	return scheme(dst, x, n)
}

func https(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Client.TLS {
		dst = append(dst, "on"...)
	}
	return dst, true
}

func http2(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	switch {
	case x.Request.Version != exchange.HTTP2:
	case x.Client.TLS:
		dst = append(dst, "h2"...)
	default:
		dst = append(dst, "h2c"...)
	}
	return dst, true
}

func serverProtocol(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return append(dst, x.Request.Version.String()...), true
}

func contentType(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return text(dst, x.Request.Fields.Get(exchange.ContentType))
}

func contentLength(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if sent := x.Request.Fields.Get(exchange.ContentLength); sent != nil {
		return append(dst, sent...), true
	}
	if body := x.Request.Body; body != nil && body.Length() >= 0 {
		return strconv.AppendInt(dst, body.Length(), 10), true
	}
	return dst, false
}

func requestID(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return text(dst, x.RequestID)
}

// requestLength appends the size of request line, header and body, without the fields that the engine adds to every request.
func requestLength(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	q := &x.Request
	size := int64(len(q.Method)+len(q.Target)+len(q.Version.String())) + int64(len("  \r\n\r\n")) + x.BytesIn
	for i := range q.Fields.Len() {
		id, field, value, ok := q.Fields.At(i)
		if !ok || ours(id) {
			continue
		}
		size += int64(len(field) + len(value) + len(": \r\n"))
	}
	return strconv.AppendInt(dst, size, 10), true
}

func ours(id exchange.ID) bool {
	switch id {
	case exchange.XRequestID, exchange.XRealIP, exchange.XForwardedFor, exchange.XForwardedHost, exchange.XForwardedPort,
		exchange.XForwardedProto, exchange.XForwardedScheme, exchange.XScheme:
		return true
	}
	return false
}
