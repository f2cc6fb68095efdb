package filters

import (
	"fmt"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// ProxyRedirect returns the family that rewrites where Pods redirect to.
func ProxyRedirect() Policy {
	return &Of[*replacement]{
		Of: policy.Of[*replacement]{
			Name: "proxy-redirect",
			Doc: "Rewrites the URLs in the fields Location and Refresh of Pods, as nginx's proxy_redirect does. A Location that becomes a path is made a URL " +
				"of the host, unless relative-redirects says otherwise.",
			Keys: []policy.Key{
				{
					Name: "proxy-redirect-from", Kind: policy.String, Where: policy.Everywhere, Default: "off", Example: "~^http://[^/]+:8080/(.*)$",
					Doc: "What the URL begins with; or, behind ~ or ~*, a regular expression (RE2) with or without regard to case, which stands for all of it. \"off\" " +
						"and \"default\" rewrite nothing: a Pod never hears of the name that nginx's default is about.",
					Lacks: "regular expressions are RE2",
				},
				{
					Name: "proxy-redirect-to", Kind: policy.String, Where: policy.Everywhere, Default: "off", Example: "https://$host/$1",
					Doc: "What is written in its place; it may hold variables, and $1 to $9 for groups of the regular expression. \"off\" rewrites nothing.",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseProxyRedirect,
		},
		Extend: func(c *Chain, v *replacement) {
			if v != nil {
				c.OnResponse(&proxyRedirectFilter{v, c.Locations})
			}
		},
	}
}

func parseProxyRedirect(v policy.Values) (*replacement, error) {
	from, to := v.Text("proxy-redirect-from", "off"), v.Text("proxy-redirect-to", "off")
	for _, key := range []string{"proxy-redirect-from", "proxy-redirect-to"} {
		if text := v.Text(key, "off"); text == "" || len(text) > 1000 {
			return nil, &policy.ValueError{Key: key, Value: text, Want: `a URL, as in "http://app.internal/", or "off"`}
		}
	}
	if from == "off" || from == "default" {
		// The pattern that the groups are of may be said elsewhere.
		if _, err := newReplacement("~"+strings.Repeat("()", 9), to, ""); err != nil {
			return nil, fmt.Errorf("proxy-redirect-to: %w", err)
		}
		return nil, nil //nolint:nilnil // nothing is to be rewritten
	}
	if _, err := newReplacement(from, "", ""); err != nil {
		return nil, fmt.Errorf("proxy-redirect-from: %w", err)
	}
	if to == "off" {
		return nil, nil //nolint:nilnil // as above
	}
	r, err := newReplacement(from, to, "")
	if err != nil {
		return nil, fmt.Errorf("proxy-redirect-to: %w", err)
	}
	return r, nil
}

// proxyRedirectFilter rewrites URLs of Pods.
type proxyRedirectFilter struct {
	*replacement
	locations Locations
}

// FilterResponse rewrites Location and Refresh.
func (f *proxyRedirectFilter) FilterResponse(x *exchange.Exchange) {
	fields := &x.Response.Fields
	if x.Response.Local {
		return
	}
	start := len(x.Scratch)
	if location := fields.Get(exchange.Location); location != nil {
		out, ok := f.prefix(x.Scratch, x, location)
		x.Scratch = out
		switch {
		case ok && len(out) > start && out[start] == '/':
			at := len(out)
			x.Scratch = append(f.locations.appendURL(out, x, ""), out[start:]...)
			fields.Set(exchange.Location, x.Scratch[at:])
		case ok:
			fields.Set(exchange.Location, out[start:])
		}
		x.Scratch = x.Scratch[:start]
	}
	refresh := fields.Get(exchange.Refresh)
	if at := afterURL(refresh); at >= 0 {
		out, ok := f.prefix(append(x.Scratch, refresh[:at]...), x, refresh[at:])
		if x.Scratch = out; ok {
			fields.Set(exchange.Refresh, out[start:])
		}
		x.Scratch = x.Scratch[:start]
	}
}

// afterURL returns where the URL of a Refresh field begins: behind "url=" in any case. -1 is nowhere.
func afterURL(value []byte) int {
	const word = "url="
	for i := 0; i+len(word) <= len(value); i++ {
		if exchange.EqualFold(value[i:i+len(word)], word) {
			return i + len(word)
		}
	}
	return -1
}
