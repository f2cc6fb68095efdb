package filters

import (
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// Canary returns the family by which an Ingress takes a share of another's requests. Its value is a router.Canary: Build joins it to the Routes that it
// shares, and the engine asks Divert.
func Canary() Policy {
	return &Of[router.Canary]{
		Of: policy.Of[router.Canary]{
			Name: router.CanaryFamily,
			Doc: "Makes the Ingress a canary: its backends get a share of the requests of the Ingress that has the same host, path and pathType, and it has no " +
				"routes of its own. Only the first canary of a path counts, and of its other annotations only those that say how to balance. What decides, in " +
				"this order: the affinity cookie, the header, the cookie, the weight.",
			Keys:      canaryKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseCanary,
		},
	}
}

func canaryKeys() []policy.Key {
	return []policy.Key{
		{Name: "canary", Kind: policy.Bool, Default: "false", Example: "true", Doc: "Makes the Ingress a canary."},
		{
			Name: "canary-by-header", Kind: policy.String, Default: "none", Example: "X-Canary",
			Doc: "A request whose field of this name is \"always\" goes to the canary, one where it is \"never\" does not.",
		},
		{
			Name: "canary-by-header-value", Kind: policy.String, Default: "none", Example: "beta",
			Doc: "Takes the place of always and never: a request whose field is this goes to the canary, for others the cookie and the weight decide.",
		},
		{
			Name: "canary-by-header-pattern", Kind: policy.String, Default: "none", Example: "^(beta|next)$",
			Doc: "A regular expression (RE2) in the place of canary-by-header-value, which goes before it. With one that is none, requests that have the field do not " +
				"go to the canary.",
			Lacks: "regular expressions are RE2",
		},
		{
			Name: "canary-by-cookie", Kind: policy.String, Default: "none", Example: "canary",
			Doc: "A request whose cookie of this name is \"always\" goes to the canary, one where it is \"never\" does not.",
		},
		{Name: "canary-weight", Kind: policy.Int, Default: "0", Example: "10", Doc: "How many of canary-weight-total requests go to the canary where nothing else decides."},
		{Name: "canary-weight-total", Kind: policy.Int, Default: "100", Example: "1000", Doc: "What the weight is a part of; less than 100 counts as 100."},
	}
}

func parseCanary(v policy.Values) (router.Canary, error) {
	c := router.Canary{Header: v.Text("canary-by-header", ""), Value: v.Text("canary-by-header-value", ""), Cookie: v.Text("canary-by-cookie", "")}
	var err error
	if c.On, err = v.Bool("canary", false); err != nil {
		return router.Canary{}, err
	}
	if c.Total, err = v.Int("canary-weight-total", defaultCanaryTotal); err != nil {
		return router.Canary{}, err
	}
	c.Total = max(c.Total, defaultCanaryTotal)
	if c.Weight, err = v.Int("canary-weight", 0); err != nil {
		return router.Canary{}, err
	}
	for _, key := range []string{"canary-by-header", "canary-by-cookie"} {
		if v.Has(key) && !isToken(v.Text(key, "")) {
			return router.Canary{}, &policy.ValueError{Key: key, Value: v[key], Want: `a name of letters, digits and dashes, as in "X-Canary"`}
		}
	}
	if parseCanaryPattern(v, &c); c.Broken != nil && !c.On {
		return router.Canary{}, c.Broken
	}
	return c, needsCanary(v, &c)
}

// parseCanaryPattern reads the pattern of c. One that cannot be had leaves those for whom it would decide with the main Backend, as in ingress-nginx.
func parseCanaryPattern(v policy.Values, c *router.Canary) {
	const key = "canary-by-header-pattern"
	text := v.Text(key, "")
	if text == "" || c.Value != "" {
		return
	}
	compiled, err := policy.Regexp(text)
	if err != nil {
		c.Broken = &policy.ValueError{Key: key, Value: text, Why: err, Want: `a regular expression (RE2), as in "^(beta|next)$"`}
		return
	}
	c.Pattern = compiled
}

const defaultCanaryTotal = 100

// needsCanary returns the mistake of saying which requests a canary gets without being one.
func needsCanary(v policy.Values, c *router.Canary) error {
	if c.On {
		return nil
	}
	for _, k := range canaryKeys()[1:] {
		if v.Has(k.Name) {
			return &policy.ValueError{Key: k.Name, Value: v[k.Name], Want: `canary: "true" beside it, or neither`}
		}
	}
	return nil
}

// isToken says whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return s != ""
}

// Divert reports whether the request of x goes to the canary c, and what decided that. draw returns a random number from 0 to below its argument, for
// what the weight decides.
func Divert(c *router.Canary, x *exchange.Exchange, draw func(int) int) (canary bool, by exchange.Decider) {
	if says, by := decided(c, x); by != exchange.NoDecider {
		return says, by
	}
	return c.Weight > 0 && draw(c.Total) < c.Weight, exchange.DecidedByWeight
}

// decided reports whether the request of x goes to the canary c, and what decides that: NoDecider where the weight does.
func decided(c *router.Canary, x *exchange.Exchange) (canary bool, by exchange.Decider) {
	if c.Header != "" {
		if value, ok := x.Request.Fields.Lookup(c.Header); ok {
			if says, decided := headerSays(c, value); decided {
				return says, exchange.DecidedByHeader
			}
		}
	}
	if c.Cookie != "" {
		if value, ok := Cookie(x, c.Cookie); ok {
			if says, decided := wordSays(value); decided {
				return says, exchange.DecidedByCookie
			}
		}
	}
	return false, exchange.NoDecider
}

// headerSays returns what the field of c's Header decides.
func headerSays(c *router.Canary, value []byte) (canary, decided bool) {
	switch {
	case c.Broken != nil:
		return false, true
	case c.Value != "":
		return true, string(value) == c.Value
	case c.Pattern != nil:
		return true, c.Pattern.Match(value)
	}
	return wordSays(value)
}

// wordSays returns what "always" and "never" decide.
func wordSays(value []byte) (canary, decided bool) {
	switch string(value) {
	case "always":
		return true, true
	case "never":
		return false, true
	}
	return false, false
}
