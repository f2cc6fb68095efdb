package exchange

import (
	"bytes"
	"net/netip"

	"podlane.dev/podlane/router"
)

// The rules of the contract that hold for every HTTP version, after a codec has read a well-formed head.
var (
	errConnect      = &Reject{501, "CONNECT is not supported"}
	errTrace        = &Reject{405, "TRACE is not supported"}
	errTarget       = &Reject{400, "malformed request target"}
	errTargetHost   = &Reject{400, "request target and Host differ"}
	errPath         = &Reject{400, "malformed path"}
	errHostMissing  = &Reject{400, "no Host"}
	errHostTwice    = &Reject{400, "repeated Host"}
	errHost         = &Reject{400, "malformed Host"}
	errDuplicate    = &Reject{400, "repeated header field that may come only once"}
	errConnection   = &Reject{400, "malformed Connection"}
	errNominated    = &Reject{400, "Connection names a field that it must not remove"}
	errExpectation  = &Reject{417, "expectation not supported"}
	errUpgradeBody  = &Reject{400, "upgrade request with a body"}
	errNotASCII     = &Reject{400, "forbidden character in a framing or routing field"}
	errUpgradeToken = &Reject{400, "malformed Upgrade"}
)

// maxConnectionTokens bounds what a Connection field may nominate.
const maxConnectionTokens = 16

// single are the fields that a request may have only once (Host, Content-Length and Transfer-Encoding are judged where they are read).
var single = [...]ID{ContentType, Authorization, Expect, Upgrade, SecWebSocketKey, SecWebSocketVersion, Origin}

// ascii are framing and routing fields, whose values must be ASCII.
var ascii = [...]ID{Connection, Upgrade, Expect, TE, Trailer, KeepAlive}

// Validate judges a request whose head a codec has read, in the one place that all HTTP versions share and before anything is
// routed: target form, Host, connection options, Expect, Upgrade. It fills in RawPath, RawQuery, Path, Authority, Hostname, Close,
// ExpectContinue, Upgrade and TrailersOK, and removes the fields that end at this hop. A nil result means that the request is good.
func (x *Exchange) Validate() *Reject {
	r := &x.Request
	if err := r.form(&x.Client); err != nil {
		return err
	}
	for _, id := range single {
		if r.Fields.Count(id) > 1 {
			return errDuplicate
		}
	}
	for _, id := range ascii {
		if !r.Fields.ascii(id) {
			return errNotASCII
		}
	}
	if err := r.expect(); err != nil {
		return err
	}
	if err := r.connection(); err != nil {
		return err
	}
	r.removeHopByHop()
	return x.path()
}

// path cuts the target at its first "?" and makes the canonical path.
func (x *Exchange) path() *Reject {
	r := &x.Request
	r.RawPath, r.RawQuery, r.HasQuery = bytes.Cut(r.Target, []byte{'?'})
	if len(r.Target) == 1 && r.Target[0] == '*' {
		r.Path = r.Target
		return nil
	}
	p, dots, err := router.CanonicalPath(x.pathBuf, r.RawPath)
	if err != nil {
		return errPath
	}
	if len(p) > 0 && len(r.RawPath) > 0 && &p[0] != &r.RawPath[0] {
		x.pathBuf = p
	}
	r.Path, r.Dots = p, dots
	return nil
}

// form judges method, target form and Host (RFC 9112 section 3.2), and leaves Target in origin-form.
func (r *Request) form(c *Client) *Reject {
	switch string(r.Method) {
	case "CONNECT":
		return errConnect
	case "TRACE":
		return errTrace
	}
	if err := r.host(); err != nil {
		return err
	}
	switch {
	case r.Target[0] == '/':
		return nil
	case len(r.Target) == 1 && r.Target[0] == '*' && string(r.Method) == "OPTIONS":
		return nil
	}
	return r.absolute(c)
}

// host judges the Host field and makes the route key of it.
func (r *Request) host() *Reject {
	switch r.Fields.Count(Host) {
	case 0:
		if r.Version == HTTP10 {
			r.Authority, r.Hostname = nil, nil
			return nil
		}
		return errHostMissing
	case 1:
	default:
		return errHostTwice
	}
	r.Authority = r.Fields.Get(Host)
	if len(r.Authority) == 0 && r.Version == HTTP10 {
		r.Hostname = nil
		return nil
	}
	host, ok := splitAuthority(r.Authority)
	if !ok {
		return errHost
	}
	r.Hostname = r.lower(host)
	return nil
}

// lower returns the route key of a host: lower-case and without one trailing dot. It copies only where it must.
func (r *Request) lower(host []byte) []byte {
	if host[0] != '[' && host[len(host)-1] == '.' {
		host = host[:len(host)-1]
	}
	for _, c := range host {
		if Lower(c) != c {
			r.hostBuf = r.hostBuf[:0]
			for _, c := range host {
				r.hostBuf = append(r.hostBuf, Lower(c))
			}
			return r.hostBuf
		}
	}
	return host
}

// IsAuthority reports whether b is a host, with or without a port, as a Host field may hold it.
func IsAuthority(b []byte) bool {
	_, ok := splitAuthority(b)
	return ok
}

// splitAuthority checks host [ ":" port ] without userinfo (RFC 3986 section 3.2) and returns the host.
func splitAuthority(b []byte) (host []byte, ok bool) {
	if len(b) == 0 {
		return nil, false
	}
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 || !isIPv6(b[1:end]) {
			return nil, false
		}
		return b[:end+1], isPort(b[end+1:])
	}
	n := 0
	for n < len(b) && regName[b[n]] {
		n++
	}
	if n == 0 || n > 255 || n == 1 && b[0] == '.' {
		return nil, false
	}
	return b[:n], isPort(b[n:])
}

var regName = func() (t [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~-" {
		t[c] = true
	}
	return t
}()

func isIPv6(b []byte) bool {
	if len(b) < 2 || len(b) > len("0000:0000:0000:0000:0000:0000:255.255.255.255") || bytes.IndexByte(b, '%') >= 0 {
		return false
	}
	a, err := netip.ParseAddr(string(b))
	return err == nil && a.Is6()
}

// isPort accepts nothing, ":" alone, and ":" with at most five digits up to 65535.
func isPort(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] != ':' || len(b) > 6 {
		return false
	}
	n := 0
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// absolute turns an absolute-form target into origin-form: http or https as the connection is, and the authority of Host.
func (r *Request) absolute(c *Client) *Reject {
	scheme, port := "http://", ":80"
	if c.TLS {
		scheme, port = "https://", ":443"
	}
	if len(r.Target) < len(scheme) || !EqualFold(r.Target[:len(scheme)], scheme) {
		return errTarget
	}
	rest := r.Target[len(scheme):]
	n := bytes.IndexAny(rest, "/?")
	if n < 0 {
		n = len(rest)
	}
	if _, ok := splitAuthority(rest[:n]); !ok {
		return errTarget
	}
	if !sameAuthority(rest[:n], r.Authority, port) {
		return errTargetHost
	}
	r.Target = rest[n:]
	if len(r.Target) == 0 || r.Target[0] != '/' {
		r.targetBuf = append(append(r.targetBuf[:0], '/'), r.Target...)
		r.Target = r.targetBuf
	}
	return nil
}

// sameAuthority compares without case and without the scheme's own port.
func sameAuthority(a, b []byte, port string) bool {
	strip := func(v []byte) []byte {
		v = bytes.TrimSuffix(v, []byte(port))
		return bytes.TrimSuffix(v, []byte{':'})
	}
	return equalFoldBytes(strip(a), strip(b))
}

func (r *Request) expect() *Reject {
	if !r.Fields.Has(Expect) || r.Version == HTTP10 || r.Body == nil {
		return nil
	}
	if !EqualFold(r.Fields.Get(Expect), "100-continue") {
		return errExpectation
	}
	r.ExpectContinue = true
	return nil
}

// connection reads the Connection options (RFC 9110 section 7.6.1).
func (r *Request) connection() *Reject {
	var o options
	if r.Fields.Has(Connection) {
		for i := range r.Fields.Len() {
			if id, _, value, ok := r.Fields.At(i); ok && id == Connection {
				if err := o.read(&r.Fields, value); err != nil {
					return err
				}
			}
		}
	}
	r.Close = o.close || r.Version == HTTP10 && !o.keepAlive
	if !o.upgrade {
		return nil
	}
	return r.upgrade()
}

// options are what the Connection fields of a request say.
type options struct {
	close, keepAlive, upgrade bool
	tokens                    int
}

// read adds one Connection field. What it nominates is removed from f, but for fields that carry identity, framing or
// routing, for which the request is refused.
func (o *options) read(f *Fields, value []byte) *Reject {
	for option := range bytes.SplitSeq(value, []byte{','}) {
		option = bytes.Trim(option, " \t")
		if len(option) == 0 {
			continue
		}
		if o.tokens++; o.tokens > maxConnectionTokens || !isToken(option) {
			return errConnection
		}
		switch {
		case EqualFold(option, "close"):
			o.close = true
		case EqualFold(option, "keep-alive"):
			o.keepAlive = true
		case EqualFold(option, "upgrade"):
			o.upgrade = true
		case protected(option):
			return errNominated
		case !endsHere(option):
			f.DelName(option)
		}
	}
	return nil
}

func isToken(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7F || bytes.IndexByte([]byte(`"(),/:;<=>?@[\]{}`), c) >= 0 {
			return false
		}
	}
	return len(b) > 0
}

// protected reports whether a field must survive whatever Connection says.
func protected(name []byte) bool {
	switch IDOf(name) {
	case Host, ContentLength, TransferEncoding, ContentType, Authorization, Cookie, Forwarded, XRealIP:
		return true
	}
	return len(name) > 12 && EqualFold(name[:12], "x-forwarded-")
}

// upgrade decides which protocol, if any, the client may switch to. The tokens h2c and TLS/* are dropped: with them the request
// goes on as an ordinary one.
func (r *Request) upgrade() *Reject {
	if r.Version != HTTP11 || !r.Fields.Has(Upgrade) {
		return nil
	}
	for token := range bytes.SplitSeq(r.Fields.Get(Upgrade), []byte{','}) {
		token = bytes.Trim(token, " \t")
		switch {
		case len(token) == 0, EqualFold(token, "h2c"):
			continue
		}
		name, version, slash := bytes.Cut(token, []byte{'/'})
		if EqualFold(name, "tls") {
			continue
		}
		if !isToken(name) || slash && !isToken(version) {
			return errUpgradeToken
		}
		if r.Body != nil {
			return errUpgradeBody
		}
		r.Upgrade = token
		return nil
	}
	return nil
}
