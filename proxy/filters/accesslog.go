package filters

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// EnableAccessLog returns the family that leaves requests of an Ingress out of the access log.
func EnableAccessLog() Policy {
	return &Of[bool]{
		Of: policy.Of[bool]{
			Name: "access-log",
			Doc:  "Whether requests of the Ingress are in the access log, where there is one. Metrics count them in any case.",
			Keys: []policy.Key{{
				Name: "enable-access-log", Kind: policy.Bool, Default: "true", Example: "false",
				Doc: "\"false\" leaves them out.",
			}},
			IfInvalid: policy.Ignore,
			Parse:     func(v policy.Values) (bool, error) { return v.Bool("enable-access-log", true) },
		},
		Extend: func(c *Chain, logged bool) { c.Unlogged = !logged },
	}
}

// RewriteLog returns the family that logs what becomes of the paths of an Ingress's requests.
func RewriteLog() Policy {
	return &Of[bool]{
		Of: policy.Of[bool]{
			Name: "rewrite-log",
			Doc: "Whether the access log, where there is one, has another line for each request of the Ingress: which rule its path matched, what the path became, " +
				"and where the client was sent.",
			Keys: []policy.Key{{
				Name: "enable-rewrite-log", Kind: policy.Bool, Default: "false", Example: "true",
				Doc: "\"true\" writes them, as JSON with \"event\": \"rewrite\". They are written where enable-access-log and the rules of the ConfigMap leave " +
					"the request itself out.",
				Differs: "the lines are in the access log, and in JSON",
			}},
			IfInvalid: policy.Ignore,
			Parse:     func(v policy.Values) (bool, error) { return v.Bool("enable-rewrite-log", false) },
		},
		Extend: func(c *Chain, on bool) { c.LogRewrites = on },
	}
}

// LogRules say which requests are left out of the access log.
type LogRules struct {
	// All and HTTP leave out everything, and all but TLS that passes through; Default leaves out what no Ingress's rule leads to.
	All, HTTP, Default bool

	texts    []string // targets, compared without regard to case
	patterns []*regexp.Regexp
	written  string
}

// String returns the rules for the text of a Table.
func (r LogRules) String() string {
	var words []string
	for _, w := range []struct {
		on   bool
		text string
	}{{r.All, "everything"}, {r.HTTP, "HTTP"}, {r.Default, "the default backend"}, {r.written != "", r.written}} {
		if w.on {
			words = append(words, w.text)
		}
	}
	if len(words) == 0 {
		return "with everything"
	}
	return "without " + strings.Join(words, ", ")
}

// Omit reports whether the exchange is left out.
func (r *LogRules) Omit(x *exchange.Exchange) bool {
	switch {
	case r.All, r.HTTP && x.Request.Version != exchange.TLS:
		return true
	case r.Default && isDefault(x):
		return true
	}
	for _, text := range r.texts {
		if exchange.EqualFold(x.Request.Target, text) {
			return true
		}
	}
	for _, p := range r.patterns {
		if p.Match(x.Request.Target) {
			return true
		}
	}
	return false
}

// isDefault reports whether no rule of an Ingress leads to where the request went: it got 404, or went to the operator's default backend.
func isDefault(x *exchange.Exchange) bool {
	if x.Route == nil {
		return x.Response.Why == exchange.NoRoute
	}
	return x.Route.IsDefault && x.Route.ID.Ingress == ""
}

// AccessLog returns the family of the operator's rules for the access log.
func AccessLog() Policy {
	return &Of[LogRules]{
		Of: policy.Of[LogRules]{
			Name: "access-log-rules",
			Doc:  "Which requests are left out of the access log, where there is one. Metrics count them in any case.",
			Keys: []policy.Key{
				{
					Name: "disable-access-log", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "true",
					Doc: "Leaves out everything.",
				},
				{
					Name: "disable-http-access-log", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "true",
					Doc: "Leaves out everything but connections whose TLS passes through.",
				},
				{
					Name: "skip-access-log-urls", Kind: policy.List, Where: policy.ConfigMap, Default: "none", Example: "/healthz, ~^/static/",
					Doc: "Leaves out requests for these: path and query as the client sends them, without regard to case; or, behind ~ or ~*, a regular " +
						"expression (RE2) with or without regard to case that matches a part of them.",
					Lacks: "regular expressions are RE2",
				},
				{
					Name: "enable-access-log-for-default-backend", Kind: policy.Bool, Where: policy.ConfigMap, Default: "true", Example: "false",
					Doc:     "\"false\" leaves out requests that no Ingress's rule leads to.",
					Differs: "the default is true",
				},
			},
			IfInvalid: policy.Ignore,
			Global:    true,
			Parse:     parseLogRules,
		},
		Global: func(s *Settings, v LogRules) { s.Log = v },
	}
}

// maxLogURLs bounds the list, which is gone through for each request.
const maxLogURLs = 100

func parseLogRules(v policy.Values) (LogRules, error) {
	var r LogRules
	var err1, err2 error
	r.All, err1 = v.Bool("disable-access-log", false)
	r.HTTP, err2 = v.Bool("disable-http-access-log", false)
	logged, err3 := v.Bool("enable-access-log-for-default-backend", true)
	r.Default = !logged
	list := v.List("skip-access-log-urls")
	if len(list) > maxLogURLs {
		return r, errors.Join(err1, err2, err3, fmt.Errorf("skip-access-log-urls: there are %d of them: write at most %d, or one regular expression", len(list), maxLogURLs))
	}
	r.written = strings.Join(list, " ")
	errs := []error{err1, err2, err3}
	for _, text := range list {
		pattern, ok := strings.CutPrefix(text, "~")
		if !ok {
			r.texts = append(r.texts, text)
			continue
		}
		if caseless, ok := strings.CutPrefix(pattern, "*"); ok {
			pattern = "(?i)" + caseless
		}
		p, err := policy.Regexp(pattern)
		if err != nil {
			errs = append(errs, fmt.Errorf("skip-access-log-urls: %q is no regular expression that Podlane has (RE2): %w", text, err))
		}
		r.patterns = append(r.patterns, p)
	}
	return r, errors.Join(errs...)
}
