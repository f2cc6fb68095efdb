package filters

import (
	"regexp"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// rewriteText is what ingress-nginx takes for a target.
var rewriteText = regexp.MustCompile(`^/?[-._~a-zA-Z0-9/:$]*$`)

// Rewrite returns the family that makes paths patterns, and sends Pods another path than the client's. Its value is a router.Rewrite: Build compiles the
// patterns, because which paths they are is a matter of the whole host.
func Rewrite() Policy {
	return &Of[router.Rewrite]{
		Of: policy.Of[router.Rewrite]{
			Name: router.RewriteFamily,
			Doc: "Makes paths regular expressions (RE2), and sends Pods another path than the client's. By the Ingress specification that is for paths of type " +
				"ImplementationSpecific of this Ingress alone: they match whole paths, with regard to case, after Exact paths and before Prefix ones, longer " +
				"ones first. Where the host is read as ingress-nginx reads it, one such Ingress makes every path of the host, from every Ingress and of every " +
				"type, a pattern that matches the beginning of the decoded path without regard to case; each such path is told of in a Problem of kind Notice. " +
				"The query stays as it is. A path that would hold dot segments after it was rewritten is refused with 400.",
			Keys: []policy.Key{
				{
					Name: "rewrite-target", Kind: policy.String, Default: "the client's path", Example: "/$1",
					Doc: "The path that Pods get in place of all of the client's; $1 to $9 are what the groups of the pattern matched. With http:// or https:// in front the client is sent there (302), and what " +
						"groups matched is escaped. A \".\" in a path matches a character of UTF-8. A path that does not begin with a slash gets one.",
					Lacks: "paths are regular expressions of RE2: one that needs more has no route, and a Problem names what it needs; of variables $1 to $9 alone",
				},
				{
					Name: "use-regex", Kind: policy.Bool, Default: "false", Example: "true",
					Doc:   "Makes paths patterns without rewriting them.",
					Lacks: "paths are regular expressions of RE2: one that needs more has no route, and a Problem names what it needs",
				},
				{
					Name: "x-forwarded-prefix", Kind: policy.String, Default: "none", Example: "/shop",
					Doc: "The field X-Forwarded-Prefix that tells Pods what was cut off, where the path is rewritten.",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseRewrite,
		},
		Request: newRewriteFilter,
	}
}

func parseRewrite(v policy.Values) (router.Rewrite, error) {
	var r router.Rewrite
	var err error
	if r.Regex, err = v.Bool("use-regex", false); err != nil {
		return router.Rewrite{}, err
	}
	if r.ForwardedPrefix = v.Text("x-forwarded-prefix", ""); !isFieldValue(r.ForwardedPrefix) {
		return router.Rewrite{}, &policy.ValueError{Key: "x-forwarded-prefix", Value: v["x-forwarded-prefix"], Want: `a path, as in "/shop"`}
	}
	text := v.Text("rewrite-target", "")
	if text == "" {
		return r, nil
	}
	if rewriteText.MatchString(text) {
		r.Target, err = router.NewTarget(text)
	}
	if err != nil || r.Target == nil {
		return router.Rewrite{}, &policy.ValueError{Key: "rewrite-target", Value: v["rewrite-target"], Want: `a path of letters, digits and "/-._~:", with $1 to $9 for groups of the pattern, as in "/$1"`}
	}
	return r, nil
}

// isFieldValue says whether s can be the value of a field as it stands (RFC 9110 section 5.5), or is empty.
func isFieldValue(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) < 0
}

func newRewriteFilter(r *router.Route, v router.Rewrite) exchange.RequestFilter {
	if r.Pattern == nil || !v.Changes(r.ID.Path) {
		return nil
	}
	f := rewriteFilter{pattern: r.Pattern, target: v.Target, prefix: v.ForwardedPrefix}
	if text := v.Target.String(); strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
		return redirectByPattern(f)
	}
	return &f
}

// rewriteFilter replaces the path that Pods get.
type rewriteFilter struct {
	pattern *router.Pattern
	target  *router.Target
	prefix  string
}

// FilterRequest sets what is forwarded in place of the client's path.
func (f *rewriteFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	at := len(x.Scratch)
	x.Scratch = append(x.Scratch, '/')
	out, ok := f.pattern.Rewrite(x.Scratch, f.target, x.Request.Path)
	x.Scratch = out
	path := out[at+1:]
	if len(path) == 0 || path[0] != '/' {
		path = out[at:] // a target may begin with a group that is empty or without the slash
	}
	// A group may hold what becomes a dot segment beside other text, and no two parties may resolve that differently.
	if _, dots, err := router.CanonicalPath(nil, path); !ok || dots || err != nil {
		x.Answer(statusBadRequest, exchange.BadRequest, "400 Bad Request: the rewritten path is not one\n")
		return exchange.Answered
	}
	x.Request.Forward, x.Request.HasQuery = path, f.hasQuery(x)
	if f.prefix != "" {
		x.Request.Fields.SetString(exchange.XForwardedPrefix, f.prefix)
	}
	return exchange.Continue
}

// hasQuery says whether the query goes along: nginx forgets one that is empty.
func (f *rewriteFilter) hasQuery(x *exchange.Exchange) bool {
	return x.Request.HasQuery && !(f.pattern.Nginx() && len(x.Request.RawQuery) == 0)
}

// redirectByPattern sends clients to a URL that is made of their path.
type redirectByPattern rewriteFilter

// FilterRequest answers 302.
func (f redirectByPattern) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	at := len(x.Scratch)
	out, _ := f.pattern.Rewrite(x.Scratch, f.target, x.Request.Path)
	if (*rewriteFilter)(&f).hasQuery(x) {
		out = appendURI(append(out, '?'), x.Request.RawQuery)
	}
	x.Answer(statusFound, exchange.Redirect, "302 Found\n")
	x.Response.Fields.Set(exchange.Location, out[at:])
	x.Scratch = out[:at]
	return exchange.Answered
}

// AppendSlash is the filter of Routes with that name: it sends clients to the same path with a slash behind it, as nginx does.
type AppendSlash struct{ Locations }

// FilterRequest answers 301.
func (f AppendSlash) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	at := len(x.Scratch)
	b := f.appendURL(x.Scratch, x, "")
	b = append(appendURI(b, x.Request.Path), '/')
	if len(x.Request.RawQuery) > 0 {
		b = appendURI(append(b, '?'), x.Request.RawQuery)
	}
	x.Scratch = b
	return answerRedirect(x, statusMovedPermanently, at)
}
