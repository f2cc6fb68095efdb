package filters

import (
	"bytes"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// acmePath is the prefix of route paths that stay on plain HTTP: an ACME server asks for http-01 challenges there
// (RFC 8555 section 8.3), before there is a certificate. It is ingress-nginx's default of no-tls-redirect-locations, which
// like ours is compared with the route's path, not the request's: cert-manager makes a route for each challenge.
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
}

// String returns the value for the text of a Table.
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
	return text
}

// SSLRedirect returns the family that sends plain HTTP to HTTPS. It holds by default where the host has a certificate.
//
// A value that does not parse denies the route: force-ssl-redirect: "yes" that were ignored would serve in clear what its
// owner wants encrypted, and a family has one effect for all its keys.
func SSLRedirect() Policy {
	return &Of[sslRedirect]{
		Of: policy.Of[sslRedirect]{
			Name: "ssl-redirect",
			Doc: "Redirects plain HTTP to HTTPS with status 308, keeping path and query. It is on by default for hosts that " +
				"have a certificate. A request counts as HTTPS when it came over TLS, or when a trusted proxy says so. " +
				"Routes whose path starts with " + acmePath + " are exempt.",
			Keys: []policy.Key{
				{
					Name: "ssl-redirect", Kind: policy.Bool, Default: "true", Example: "false",
					Doc: "Redirects plain HTTP to HTTPS where the host has a certificate.",
				},
				{
					Name: "force-ssl-redirect", Kind: policy.Bool, Default: "false", Example: "true",
					Doc: "Redirects plain HTTP to HTTPS even where the host has no certificate here, because a proxy in front terminates TLS.",
				},
				{
					Name: "preserve-trailing-slash", Kind: policy.Bool, Default: "false", Example: "true",
					Doc: "Keeps a \"/\" at the end of the redirect's URL. Without it one is removed, as ingress-nginx does.",
				},
			},
			IfInvalid: policy.Deny,
			Parse:     parseSSLRedirect,
		},
		Default: func(*router.Route) (sslRedirect, bool) { return sslRedirect{redirect: true}, true },
		Request: newSSLRedirectFilter,
	}
}

func parseSSLRedirect(v policy.Values) (sslRedirect, error) {
	redirect, err := v.Bool("ssl-redirect", true)
	if err != nil {
		return sslRedirect{}, err
	}
	force, err := v.Bool("force-ssl-redirect", false)
	if err != nil {
		return sslRedirect{}, err
	}
	preserveSlash, err := v.Bool("preserve-trailing-slash", false)
	if err != nil {
		return sslRedirect{}, err
	}
	return sslRedirect{redirect, force, preserveSlash}, nil
}

func newSSLRedirectFilter(r *router.Route, v sslRedirect) exchange.RequestFilter {
	if !v.force && (!v.redirect || !r.HasCertificate) || strings.HasPrefix(r.ID.Path, acmePath) {
		return nil
	}
	if v.preserveSlash {
		return redirectKeepingSlash{}
	}
	return redirectWithoutSlash{}
}

// redirectKeepingSlash and redirectWithoutSlash answer plain HTTP with 308.
type (
	redirectKeepingSlash struct{}
	redirectWithoutSlash struct{}
)

// FilterRequest answers a request that did not come over HTTPS with a redirect to the same URL.
func (redirectKeepingSlash) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if isHTTPS(x) {
		return exchange.Continue
	}
	return redirectToHTTPS(x, x.Request.Target)
}

// FilterRequest answers a request that did not come over HTTPS with a redirect to the same URL but for one "/" at its end,
// whether it ends the path or the query, which is what ingress-nginx does. "http://h/" goes to "https://h": RFC 9110
// section 4.2.3 makes that the same as "https://h/".
func (redirectWithoutSlash) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if isHTTPS(x) {
		return exchange.Continue
	}
	return redirectToHTTPS(x, bytes.TrimSuffix(x.Request.Target, []byte("/")))
}

// isHTTPS reports whether the client used HTTPS: to us, or to the trusted proxy in front of us.
func isHTTPS(x *exchange.Exchange) bool { return x.Client.TLS || x.Client.Proto == "https" }

func redirectToHTTPS(x *exchange.Exchange, uri []byte) exchange.Verdict {
	host := withoutPort(x.Request.Authority)
	if len(host) == 0 {
		// HTTP/1.0 without Host: there is no URL to send the client to, and serving it in clear is what must not happen.
		x.Answer(statusBadRequest, exchange.BadRequest, "400 Bad Request: a Host is needed to redirect to HTTPS\n")
		return exchange.Answered
	}
	start := len(x.Scratch)
	x.Scratch = append(x.Scratch, "https://"...)
	x.Scratch = append(x.Scratch, host...)
	x.Scratch = appendURI(x.Scratch, uri)
	x.Answer(statusPermanentRedirect, exchange.Redirect, "308 Permanent Redirect\n")
	x.Response.Fields.Set(exchange.Location, x.Scratch[start:])
	x.Scratch = x.Scratch[:start]
	return exchange.Answered
}

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
