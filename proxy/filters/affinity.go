package filters

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"podlane.dev/podlane/router/policy"
)

// Affinity says how a client stays with its endpoint, by a cookie. It is immutable; what it says of one Backend is a Sticky.
type Affinity struct {
	// On says that there is a cookie at all.
	On bool
	// Persistent has the cookie name the endpoint itself, in the place of a key that is hashed.
	Persistent bool
	// Legacy has the cookie say nothing about a canary.
	Legacy bool
	// Change sends a client whose endpoint fails to another, and says so in its cookie.
	Change bool
	// Cookie is its name; the others are attributes, which are not set where they are "".
	Cookie, Path, Domain, SameSite string
	// Secure is set on answers in clear too. ModernNone leaves SameSite=None out for clients that misread it.
	Secure, ModernNone bool
	// Expires and MaxAge are times in seconds; absent means neither.
	Expires, MaxAge int
}

// absent is what stands for a time that is not given.
const absent = math.MinInt

// String returns a for the text of a Table.
func (a *Affinity) String() string {
	if !a.On {
		return "off"
	}
	words := []string{"cookie " + a.Cookie, "balanced"}
	if a.Persistent {
		words[1] = "persistent"
	}
	for _, w := range []struct {
		is   bool
		text string
	}{
		{a.Legacy, "canaries apart"}, {a.Change, "another on failure"}, {a.Path != "", "path " + a.Path}, {a.Domain != "", "domain " + a.Domain},
		{a.SameSite != "", "samesite " + a.SameSite}, {a.ModernNone, "if it is understood"}, {a.Secure, "secure"},
		{a.Expires != absent, fmt.Sprint("expires ", a.Expires)}, {a.MaxAge != absent, fmt.Sprint("max-age ", a.MaxAge)},
	} {
		if w.is {
			words = append(words, w.text)
		}
	}
	return strings.Join(words, ", ")
}

const affinityFamily = "affinity"

// CookieAffinity returns the family by which clients stay with their endpoints. Its value is an *Affinity.
func CookieAffinity() Policy {
	return &Of[*Affinity]{
		Of: policy.Of[*Affinity]{
			Name: affinityFamily,
			Doc: "Keeps a client with the endpoint that it had first, by a cookie that is set when one is chosen for it and that every replica understands: " +
				"nothing is remembered here. The cookie is HttpOnly, and Secure over HTTPS. A client with a cookie stays with the main Backend or the canary, " +
				"whichever it had, before the canary's header, cookie and weight are asked.",
			Keys:      affinityKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseAffinity,
		},
		Forward: func(f *Forwarding, v *Affinity) { f.Affinity = v },
	}
}

func affinityKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "affinity", Kind: policy.String, Default: "none", Example: "cookie",
			Doc: "\"cookie\" is the only kind.",
			Differs: "the hash of balanced and the names of persistent are others: cookies from ingress-nginx are taken, and say whether a client " +
				"has the canary, but it may change endpoints once",
		},
		{
			Name: "affinity-mode", Kind: policy.String, Default: "balanced", Example: "persistent",
			Doc: "balanced: the cookie holds a random key that is hashed, so that endpoints that join get clients of the others. persistent: it names the endpoint, " +
				"and the client moves only when that is gone.",
		},
		{
			Name: "affinity-canary-behavior", Kind: policy.String, Default: "sticky", Example: "legacy",
			Doc: "sticky: who was sent to a canary stays there. legacy: a canary keeps nobody. Either Ingress may say it.",
		},
		{
			Name: "session-cookie-name", Kind: policy.String, Default: "INGRESSCOOKIE", Example: "route",
			Doc: "The name of the cookie.",
		},
		{
			Name: "session-cookie-secure", Kind: policy.Bool, Default: "false", Example: "true",
			Doc:     "Sets Secure on answers in clear too. Over HTTPS it always is.",
			Differs: "a trusted proxy that terminates TLS counts as HTTPS",
		},
		{
			Name: "session-cookie-path", Kind: policy.String, Default: "the path of the rule", Example: "/app",
			Doc:     "The path for which clients send the cookie.",
			Differs: "without it a path that is a pattern gives \"/\", and not itself, which no client would ever match",
		},
		{
			Name: "session-cookie-domain", Kind: policy.String, Default: "none", Example: "example.com",
			Doc: "The domain to whose hosts clients send the cookie.",
		},
		{
			Name: "session-cookie-samesite", Kind: policy.String, Default: "none", Example: "Lax",
			Doc: "None, Lax or Strict.",
		},
		{
			Name: "session-cookie-conditional-samesite-none", Kind: policy.Bool, Default: "false", Example: "true",
			Doc: "Leaves SameSite=None out for browsers that are known to take it for Strict.",
		},
		{
			Name: "session-cookie-expires", Kind: policy.Int, Default: "none", Example: "172800",
			Doc: "In how many seconds the cookie expires, as a date. Without this and the next one it lasts as long as the browser's session.",
		},
		{
			Name: "session-cookie-max-age", Kind: policy.Int, Default: "none", Example: "172800",
			Doc: "The same as a number of seconds (Max-Age).",
		},
		{
			Name: "session-cookie-change-on-failure", Kind: policy.Bool, Default: "false", Example: "true",
			Doc: "Sends a client whose endpoint fails to another one, with a new cookie. Without it the same endpoint is tried again.",
		},
	}
}

func parseAffinity(v policy.Values) (*Affinity, error) {
	a := &Affinity{
		On: v.Has("affinity"), Cookie: v.Text("session-cookie-name", "INGRESSCOOKIE"), Path: v.Text("session-cookie-path", ""),
		Domain: v.Text("session-cookie-domain", ""),
	}
	errs := a.words(v)
	var err1, err2, err3, err4, err5 error
	a.Secure, err1 = v.Bool("session-cookie-secure", false)
	a.ModernNone, err2 = v.Bool("session-cookie-conditional-samesite-none", false)
	a.Change, err3 = v.Bool("session-cookie-change-on-failure", false)
	a.Expires, err4 = v.Int("session-cookie-expires", absent)
	a.MaxAge, err5 = v.Int("session-cookie-max-age", absent)
	// A date that is further away than this has five digits in its year.
	const most = 200 * 365 * 24 * 3600
	if a.Expires != absent && (a.Expires > most || a.Expires < -most) {
		err4 = &policy.ValueError{Key: "session-cookie-expires", Value: v["session-cookie-expires"], Want: `a number of seconds, as in "172800"`}
	}
	if !isToken(a.Cookie) {
		errs = append(errs, &policy.ValueError{Key: "session-cookie-name", Value: v["session-cookie-name"], Want: `a name of letters, digits and dashes, as in "route"`})
	}
	if v.Has("session-cookie-path") && !isCookiePath(a.Path) {
		errs = append(errs, &policy.ValueError{Key: "session-cookie-path", Value: v["session-cookie-path"], Want: `a path that begins with "/", without ";", as in "/app"`})
	}
	if v.Has("session-cookie-domain") && (a.Domain == "" || !allIn(a.Domain, letters+digits+".-")) {
		errs = append(errs, &policy.ValueError{Key: "session-cookie-domain", Value: v["session-cookie-domain"], Want: `a domain, as in "example.com"`})
	}
	if err := errors.Join(append(errs, err1, err2, err3, err4, err5)...); err != nil {
		return nil, err
	}
	return a, nil
}

// words reads what is one of a few words.
func (a *Affinity) words(v policy.Values) (errs []error) {
	var mode, behavior string
	for _, k := range []struct {
		name  string
		to    *string
		words []string
		want  string
	}{
		{"affinity", new(string), []string{"cookie"}, `"cookie"`},
		{"affinity-mode", &mode, []string{"balanced", "persistent"}, `"balanced" or "persistent"`},
		{"affinity-canary-behavior", &behavior, []string{"sticky", "legacy"}, `"sticky" or "legacy"`},
		{"session-cookie-samesite", &a.SameSite, []string{"None", "Lax", "Strict"}, `"None", "Lax" or "Strict"`},
	} {
		text := v.Text(k.name, "")
		for _, word := range k.words {
			if strings.EqualFold(text, word) {
				*k.to = word
			}
		}
		if v.Has(k.name) && !strings.EqualFold(*k.to, text) || v.Has(k.name) && text == "" {
			errs = append(errs, &policy.ValueError{Key: k.name, Value: v[k.name], Want: k.want})
		}
	}
	a.Persistent, a.Legacy = mode == "persistent", behavior == "legacy"
	return errs
}

// isCookiePath reports whether path can be that of a cookie (RFC 6265 section 4.1.1).
func isCookiePath(path string) bool {
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c == ';' || c >= 0x7f {
			return false
		}
	}
	return strings.HasPrefix(path, "/")
}
