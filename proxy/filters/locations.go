package filters

import (
	"errors"
	"strconv"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// Locations says how URLs look that the proxy itself makes of a path.
type Locations struct {
	// Relative leaves the path as it is: the client knows scheme and host.
	Relative bool
	// Port adds the port that the client used, where it is not the scheme's own.
	Port bool
}

// RedirectURLs returns the family that says how URLs in redirects look. It is listed before those that make redirects.
func RedirectURLs() Policy {
	return &Of[Locations]{
		Of: policy.Of[Locations]{
			Name: "redirect-urls",
			Doc:  "How URLs look in redirects that the proxy makes of a path. Without these annotations they are absolute and without a port.",
			Keys: []policy.Key{
				{
					Name: "relative-redirects", Kind: policy.Bool, Where: policy.Everywhere, Default: "false", Example: "true",
					Doc: "Redirects to a path of the same host say only the path, which leaves scheme and host to the client.",
				},
				{
					Name: "use-port-in-redirects", Kind: policy.Bool, Where: policy.Everywhere, Default: "false", Example: "true",
					Doc: "Redirects within the host say the port: that of --https-address where they lead to HTTPS, else the one that the client used, " +
						"unless it is the scheme's own.",
				},
			},
			IfInvalid: policy.Ignore,
			Parse: func(v policy.Values) (Locations, error) {
				relative, err := v.Bool("relative-redirects", false)
				port, err2 := v.Bool("use-port-in-redirects", false)
				return Locations{relative, port}, errors.Join(err, err2)
			},
		},
		Extend: func(c *Chain, v Locations) { c.Locations = v },
	}
}

// appendURL appends what a client that sent x is redirected to where path begins with "/".
func (l Locations) appendURL(dst []byte, x *exchange.Exchange, path string) []byte {
	// HTTP/1.0 may come without Host: such a client knows best where it is.
	if host := x.Request.Hostname; !l.Relative && len(host) > 0 {
		dst = appendScheme(dst, x)
		dst = append(dst, host...)
		own := uint16(80)
		if isHTTPS(x) {
			own = 443
		}
		if l.Port && x.Client.Port != own && x.Client.Port != 0 {
			dst = append(dst, ':')
			dst = strconv.AppendUint(dst, uint64(x.Client.Port), 10)
		}
	}
	return append(dst, path...)
}

// appendScheme appends the scheme that the client used, with what follows it in a URL.
func appendScheme(dst []byte, x *exchange.Exchange) []byte {
	if isHTTPS(x) {
		return append(dst, "https://"...)
	}
	return append(dst, "http://"...)
}

// answerRedirect answers with a redirect to what x.Scratch holds from start on, and takes that off x.Scratch.
func answerRedirect(x *exchange.Exchange, status, start int) exchange.Verdict {
	x.Answer(status, exchange.Redirect, redirectText(status))
	x.Response.Fields.Set(exchange.Location, x.Scratch[start:])
	x.Scratch = x.Scratch[:start]
	return exchange.Answered
}

// redirectText is the body of a redirect (RFC 9110 section 15.4).
func redirectText(status int) string {
	switch status {
	case 301:
		return "301 Moved Permanently\n"
	case 302:
		return "302 Found\n"
	case 303:
		return "303 See Other\n"
	case 307:
		return "307 Temporary Redirect\n"
	}
	return "308 Permanent Redirect\n"
}
