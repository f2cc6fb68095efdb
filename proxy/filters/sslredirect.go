package filters

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// acmePath is the default of no-tls-redirect-locations: an ACME server asks for http-01 challenges there (RFC 8555 section 8.3), before there is a
// certificate.
const acmePath = "/.well-known/acme-challenge"

// The statuses that redirects answer with (RFC 9110 sections 15.4 and 15.5.1).
const (
	statusMovedPermanently  = 301
	statusPermanentRedirect = 308
	statusBadRequest        = 400
)

// sslRedirect is the parsed value of the family.
type sslRedirect struct {
	// redirect holds where the host has a certificate, force without one too.
	redirect, force bool
	preserveSlash   bool
	// code is the status.
	code int
	// exempt are prefixes of routes' paths that stay on plain HTTP, between spaces.
	exempt string
}

// String returns the value for the text of a Table: what is not as usual.
func (v sslRedirect) String() string {
	text := "off"
	switch {
	case v.force:
		text = "forced"
	case v.redirect:
		text = "on"
	}
	if v.preserveSlash {
		text += ", preserving the trailing slash"
	}
	if v.code != statusPermanentRedirect {
		text += ", with status " + strconv.Itoa(v.code)
	}
	if v.exempt != acmePath {
		text += ", except for " + strconv.Quote(v.exempt)
	}
	return text
}

// SSLRedirect returns the family that sends plain HTTP to HTTPS. It holds by default where the host has a certificate.
//
// A value that does not parse denies the route: force-ssl-redirect: "yes" that were ignored would serve in clear what its
// owner wants encrypted, and a family has one effect for all its keys.
func SSLRedirect() Policy {
	usual := sslRedirect{redirect: true, code: statusPermanentRedirect, exempt: acmePath}
	return &Of[sslRedirect]{
		Of: policy.Of[sslRedirect]{
			Name: "ssl-redirect",
			Doc: "Redirects plain HTTP to HTTPS with status 308, keeping path and query. It is on by default for hosts that " +
				"have a certificate. A request counts as HTTPS when it came over TLS, or when a trusted proxy says so. " +
				"Routes whose path starts with " + acmePath + " are exempt.",
			Keys:      sslRedirectKeys(),
			IfInvalid: policy.Deny,
			Parse:     parseSSLRedirect,
		},
		Default: func(*router.Route) (sslRedirect, bool) { return usual, true },
		Extend:  extendSSLRedirect,
	}
}

func sslRedirectKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "ssl-redirect", Kind: policy.Bool, Where: policy.Everywhere, Default: "true", Example: "false",
			Doc: "Redirects plain HTTP to HTTPS where the host has a certificate.",
		},
		{
			Name: "force-ssl-redirect", Kind: policy.Bool, Where: policy.Everywhere, Default: "false", Example: "true",
			Doc: "Redirects plain HTTP to HTTPS even where the host has no certificate here, because a proxy in front terminates TLS.",
		},
		{
			Name: "preserve-trailing-slash", Kind: policy.Bool, Where: policy.Everywhere, Default: "false", Example: "true",
			Doc: "Keeps a \"/\" at the end of the redirect's URL. Without it one is removed, as ingress-nginx does.",
		},
		{
			Name: "http-redirect-code", Kind: policy.Int, Where: policy.ConfigMap, Default: "308", Example: "301",
			Doc: "The status of the redirect, and of that of from-to-www-redirect: 301, 302, 307 or 308.",
		},
		{
			Name: "no-tls-redirect-locations", Kind: policy.List, Where: policy.ConfigMap, Default: acmePath, Example: "/.well-known/acme-challenge,/health",
			Doc: "Routes whose path begins with one of these are not redirected. It is compared with the path of the Ingress's rule, not with that of the request.",
		},
	}
}

func parseSSLRedirect(v policy.Values) (sslRedirect, error) {
	value := sslRedirect{exempt: acmePath}
	var err error
	if value.redirect, err = v.Bool("ssl-redirect", true); err != nil {
		return sslRedirect{}, err
	}
	if value.force, err = v.Bool("force-ssl-redirect", false); err != nil {
		return sslRedirect{}, err
	}
	if value.preserveSlash, err = v.Bool("preserve-trailing-slash", false); err != nil {
		return sslRedirect{}, err
	}
	value.code, err = v.Int("http-redirect-code", statusPermanentRedirect)
	if err != nil || !slices.Contains([]int{301, 302, 307, 308}, value.code) {
		return sslRedirect{}, &policy.ValueError{Key: "http-redirect-code", Value: v["http-redirect-code"], Want: "301, 302, 307 or 308"}
	}
	if v.Has("no-tls-redirect-locations") {
		list := v.List("no-tls-redirect-locations")
		for _, prefix := range list {
			if prefix[0] != '/' || strings.Contains(prefix, " ") {
				return sslRedirect{}, &policy.ValueError{Key: "no-tls-redirect-locations", Value: prefix, Want: `paths between commas, as in "/health,/ready"`}
			}
		}
		value.exempt = strings.Join(list, " ")
	}
	return value, nil
}

// exempts reports whether a route at path stays on plain HTTP.
func (v sslRedirect) exempts(path string) bool {
	for prefix := range strings.FieldsSeq(v.exempt) {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

func extendSSLRedirect(c *Chain, v sslRedirect) {
	c.RedirectCode = v.code
	if !v.force && (!v.redirect || !c.Route.HasCertificate) || v.exempts(c.Route.ID.Path) {
		return
	}
	f := &sslRedirectFilter{code: v.code, preserveSlash: v.preserveSlash}
	if c.Locations.Port {
		f.port = ":" + strconv.Itoa(int(c.Runtime.httpsPort()))
	}
	c.OnRequest(f)
}

// sslRedirectFilter answers plain HTTP with a redirect.
type sslRedirectFilter struct {
	code          int
	preserveSlash bool
	port          string // with its colon, or ""
}

// FilterRequest answers a request that did not come over HTTPS with a redirect to the same URL but for one "/" at its end,
// whether it ends the path or the query, which is what ingress-nginx does. "http://h/" goes to "https://h": RFC 9110
// section 4.2.3 makes that the same as "https://h/".
func (f *sslRedirectFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if isHTTPS(x) {
		return exchange.Continue
	}
	host, uri := withoutPort(x.Request.Authority), x.Request.Target
	if len(host) == 0 {
		// HTTP/1.0 without Host: there is no URL to send the client to, and serving it in clear is what must not happen.
		x.Answer(statusBadRequest, exchange.BadRequest, "400 Bad Request: a Host is needed to redirect to HTTPS\n")
		return exchange.Answered
	}
	if !f.preserveSlash {
		uri = bytes.TrimSuffix(uri, []byte("/"))
	}
	start := len(x.Scratch)
	x.Scratch = append(x.Scratch, "https://"...)
	x.Scratch = append(x.Scratch, host...)
	x.Scratch = append(x.Scratch, f.port...)
	x.Scratch = appendURI(x.Scratch, uri)
	return answerRedirect(x, f.code, start)
}

// isHTTPS reports whether the client used HTTPS: to us, or to the trusted proxy in front of us.
func isHTTPS(x *exchange.Exchange) bool { return x.Client.TLS || x.Client.Proto == "https" }

// withoutPort returns the host of an authority that the codec has validated: a name, or an IPv6 address in brackets.
func withoutPort(authority []byte) []byte {
	from := bytes.IndexByte(authority, ']') + 1
	if colon := bytes.IndexByte(authority[from:], ':'); colon >= 0 {
		return authority[:from+colon]
	}
	return authority
}

// appendURI appends a request target, percent-encoding the bytes that clients send raw but a Location must not hold
// (RFC 3986 section 2): non-ASCII bytes, and the delimiters that the codec tolerates in queries.
func appendURI(dst, uri []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range uri {
		if c >= 0x80 || c == '"' || c == '<' || c == '>' || c == '\\' {
			dst = append(dst, '%', hex[c>>4], hex[c&0xf])
			continue
		}
		dst = append(dst, c)
	}
	return dst
}
