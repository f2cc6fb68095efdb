package filters

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// proxyCookie is the parsed value of the family; nil rewrites nothing.
type proxyCookie struct{ domain, path *replacement }

// String returns the rules as they were written.
func (v proxyCookie) String() string {
	return "domain " + v.domain.String() + "; path " + v.path.String()
}

// ProxyCookie returns the family that rewrites for whom the cookies of Pods are.
func ProxyCookie() Policy {
	return &Of[proxyCookie]{
		Of: policy.Of[proxyCookie]{
			Name: "proxy-cookie",
			Doc:  "Rewrites the attributes Domain and Path of cookies that Pods set, as nginx's proxy_cookie_domain and proxy_cookie_path do.",
			Keys: []policy.Key{
				{
					Name: "proxy-cookie-domain", Kind: policy.String, Where: policy.Everywhere, Default: "off", Example: "app.internal example.com",
					Doc: "A domain and what is written in its place, or \"off\". Case and a dot in front do not matter. A domain that begins with ~ is a regular " +
						"expression (RE2); then $1 to $9 are its groups. The new domain may hold variables.",
					Lacks: "regular expressions are RE2",
				},
				{
					Name: "proxy-cookie-path", Kind: policy.String, Where: policy.Everywhere, Default: "off", Example: "~*^/app/(.+) /shop/$1",
					Doc: "What a path begins with and what is written in its place, or \"off\". Behind ~ or ~* it is a regular expression (RE2) with or without " +
						"regard to case, which stands for the whole path. The new path may hold variables.",
					Lacks: "regular expressions are RE2",
				},
			},
			IfInvalid: policy.Ignore,
			Parse: func(v policy.Values) (proxyCookie, error) {
				domain, err1 := cookieRule(v, "proxy-cookie-domain", "(?i)")
				path, err2 := cookieRule(v, "proxy-cookie-path", "")
				return proxyCookie{domain, path}, errors.Join(err1, err2)
			},
		},
		Extend: func(c *Chain, v proxyCookie) {
			if v.domain != nil || v.path != nil {
				c.OnResponse(&proxyCookieFilter{v})
			}
		},
	}
}

// cookieRule reads two words, which may be in quotes, nil for "off".
func cookieRule(v policy.Values, key, flags string) (*replacement, error) {
	text := v.Text(key, "off")
	if text == "off" {
		return nil, nil //nolint:nilnil // nothing is to be rewritten
	}
	words := strings.Fields(text)
	if len(words) != 2 || len(text) > 1000 {
		return nil, &policy.ValueError{Key: key, Value: text, Want: `two words, what there is and what is written in its place, or "off"`}
	}
	for i, w := range words {
		if n := len(w) - 1; n > 0 && w[0] == w[n] && (w[0] == '"' || w[0] == '\'') {
			words[i] = w[1:n]
		}
	}
	if key == "proxy-cookie-domain" && words[0][0] != '~' {
		words[0], words[1] = strings.TrimPrefix(words[0], "."), strings.TrimPrefix(words[1], ".")
	}
	r, err := newReplacement(words[0], words[1], flags)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return r, nil
}

// proxyCookieFilter rewrites cookies of Pods.
type proxyCookieFilter struct{ proxyCookie }

// FilterResponse rewrites Set-Cookie fields, all of which keep their order.
func (f *proxyCookieFilter) FilterResponse(x *exchange.Exchange) {
	fields := &x.Response.Fields
	if x.Response.Local || !fields.Has(exchange.SetCookie) {
		return
	}
	start := len(x.Scratch)
	changed := false
	var room [8]int // as many cookies as few Pods set at a time
	ends := room[:0]
	for i := range fields.Len() {
		id, _, value, ok := fields.At(i)
		if !ok || id != exchange.SetCookie {
			continue
		}
		at := len(x.Scratch)
		if !f.rewrite(x, value) {
			x.Scratch = append(x.Scratch[:at], value...)
			ends = append(ends, len(x.Scratch))
			continue
		}
		changed = true
		ends = append(ends, len(x.Scratch))
	}
	if changed {
		fields.Del(exchange.SetCookie)
		from := start
		for _, end := range ends {
			fields.Add(exchange.SetCookie.Name(), x.Scratch[from:end])
			from = end
		}
	}
	x.Scratch = x.Scratch[:start]
}

// rewrite appends the cookie to x.Scratch as nginx writes it, and reports whether anything of it was rewritten.
func (f *proxyCookieFilter) rewrite(x *exchange.Exchange, cookie []byte) bool {
	changed := false
	for n, more := 0, true; more; n++ {
		var attribute []byte
		attribute, cookie, more = bytes.Cut(cookie, []byte(";"))
		name, value, hasValue := bytes.Cut(bytes.Trim(attribute, " "), []byte("="))
		name, value = bytes.TrimRight(name, " "), bytes.TrimLeft(value, " ")
		if n == 0 && !hasValue {
			return false // nginx takes it for no cookie
		}
		if n > 0 {
			x.Scratch = append(x.Scratch, "; "...)
		}
		x.Scratch = append(x.Scratch, name...)
		if !hasValue {
			continue
		}
		x.Scratch = append(x.Scratch, '=')
		ok := false
		switch {
		case n > 0 && f.domain != nil && exchange.EqualFold(name, "domain"):
			x.Scratch, ok = f.domain.domain(x.Scratch, x, value)
		case n > 0 && f.path != nil && exchange.EqualFold(name, "path"):
			x.Scratch, ok = f.path.prefix(x.Scratch, x, value)
		}
		if changed = changed || ok; !ok {
			x.Scratch = append(x.Scratch, value...)
		}
	}
	return changed
}

// domain appends value replaced where all of it is the domain of r, a dot in front of it aside.
func (r *replacement) domain(dst []byte, x *exchange.Exchange, value []byte) (out []byte, ok bool) {
	if r.re != nil {
		return r.whole(dst, x, value)
	}
	at := len(dst)
	bare := bytes.TrimPrefix(value, []byte("."))
	dst = r.from.Append(dst, x)
	if !bytes.EqualFold(bare, dst[at:]) {
		return dst[:at], false
	}
	dst = append(dst[:at], value[:len(value)-len(bare)]...)
	return r.appendTo(dst, x, value, nil), true
}
