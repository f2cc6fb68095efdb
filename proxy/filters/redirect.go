package filters

import (
	"errors"
	"net/url"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// redirect is the parsed value of the family: where every request goes, and with which status.
type redirect struct {
	to   string
	code int
}

// Redirect returns the family that sends every request of an Ingress elsewhere.
//
// It comes before the redirect to HTTPS, as in ingress-nginx, so that clients take one step and not two, and before all that keeps clients out: it
// says nothing but a URL that is the same for everyone.
func Redirect() Policy {
	return &Of[redirect]{
		Of: policy.Of[redirect]{
			Name: "redirect",
			Doc: "Answers every request with a redirect to one URL: nothing of the request's own is appended to it. temporal-redirect wins over " +
				"permanent-redirect. A status that takes no Location (300, 304 to 306) has the URL for its body.",
			Keys: []policy.Key{
				{
					Name: "permanent-redirect", Kind: policy.String, Default: "none", Example: "https://new.example.com/start",
					Doc: "An absolute URL, or a path of the same host. It may hold letters, digits and -._~/:?&=, but no variables.",
				},
				{
					Name: "permanent-redirect-code", Kind: policy.Int, Default: "301", Example: "308",
					Doc: "The status of permanent-redirect: from 300 to 308; with any other it is 301.",
				},
				{
					Name: "temporal-redirect", Kind: policy.String, Default: "none", Example: "https://status.example.com/",
					Doc: "An absolute URL, as in permanent-redirect.",
				},
				{
					Name: "temporal-redirect-code", Kind: policy.Int, Default: "302", Example: "307",
					Doc: "The status of temporal-redirect: from 300 to 307; with any other it is 302.",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseRedirect,
		},
		Extend: func(c *Chain, v redirect) {
			if v.to != "" {
				c.OnRequest(&redirectFilter{v, c.Locations})
			}
		},
	}
}

func parseRedirect(v policy.Values) (redirect, error) {
	temporal, err1 := redirectURL(v, "temporal-redirect")
	if err1 == nil && strings.HasPrefix(temporal, "/") {
		err1 = &policy.ValueError{Key: "temporal-redirect", Value: temporal, Want: wantURL}
	}
	permanent, err2 := redirectURL(v, "permanent-redirect")
	temporalCode, err3 := codeUpTo(v, "temporal-redirect-code", 307, 302)
	permanentCode, err4 := codeUpTo(v, "permanent-redirect-code", 308, 301)
	err := errors.Join(err1, err2, err3, err4)
	if temporal != "" {
		return redirect{temporal, temporalCode}, err
	}
	return redirect{permanent, permanentCode}, err
}

const wantURL = `an absolute URL of letters, digits and -._~/:?&=, as in "https://new.example.com/start"`

// redirectURL reads a URL with ingress-nginx's validation, "" where there is none.
func redirectURL(v policy.Values, key string) (string, error) {
	text := v.Text(key, "")
	if !v.Has(key) {
		return "", nil
	}
	invalid := &policy.ValueError{Key: key, Value: v[key], Want: wantURL}
	if text == "" || !allIn(text, letters+digits+"-._~/:?&=") {
		return "", invalid
	}
	u, err := url.Parse(text)
	if err != nil || !strings.HasPrefix(text, "/") && (u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "") {
		return "", invalid
	}
	return text, nil
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// allIn reports whether s holds nothing but bytes of set.
func allIn(s, set string) bool {
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) < 0 {
			return false
		}
	}
	return true
}

// codeUpTo reads a status of a redirect; one that is none means usual.
func codeUpTo(v policy.Values, key string, most, usual int) (int, error) {
	code, err := v.Int(key, usual)
	if code < 300 || code > most {
		code = usual
	}
	return code, err
}

// redirectFilter answers every request.
type redirectFilter struct {
	redirect
	locations Locations
}

// FilterRequest answers with the redirect.
func (f *redirectFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	switch f.code {
	case 304:
		x.Answer(f.code, exchange.Redirect, "")
		return exchange.Answered
	case 300, 305, 306:
		x.Answer(f.code, exchange.Redirect, f.to)
		return exchange.Answered
	}
	start := len(x.Scratch)
	if f.to[0] == '/' {
		x.Scratch = f.locations.appendURL(x.Scratch, x, f.to)
	} else {
		x.Scratch = append(x.Scratch, f.to...)
	}
	return answerRedirect(x, f.code, start)
}
