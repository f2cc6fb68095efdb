package filters

import (
	"errors"
	"strconv"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// cors is the parsed value of the family but for its origins.
type cors struct {
	on                       bool
	methods, headers, expose string
	credentials              bool
	maxAge                   int
}

// ingress-nginx's defaults.
const (
	corsMethods = "GET, PUT, POST, DELETE, PATCH, OPTIONS"
	corsHeaders = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization"
	corsMaxAge  = 1728000
)

// CORS returns the family that lets pages of other origins read answers (the CORS protocol of the Fetch standard). It is listed before all that keeps
// clients out: browsers send the request that asks for permission without credentials, and take no other answer than this one for a yes.
func CORS() Policy {
	return &Of[cors]{
		Of: policy.Of[cors]{
			Name: "cors",
			Doc: "Lets scripts of pages from other origins read answers. OPTIONS from an allowed origin is answered 204 before anything is asked of the " +
				"client; all other answers get the fields Access-Control-*, in the place of the Pod's. Requests from an origin that is not allowed, " +
				"OPTIONS too, go to the Pod, and its answers are left alone.",
			Keys:      corsKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseCORS,
		},
		Extend: extendCORS,
	}
}

func corsKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "enable-cors", Kind: policy.Bool, Default: "false", Example: "true",
			Doc: "Turns CORS on; without it the other annotations mean nothing.",
		},
		{
			Name: "cors-allow-methods", Kind: policy.List, Default: corsMethods, Example: "GET, POST",
			Doc: "The methods that scripts may use.",
		},
		{
			Name: "cors-allow-headers", Kind: policy.List, Default: corsHeaders, Example: "Content-Type, X-Token",
			Doc: "The request fields that scripts may set.",
		},
		{
			Name: "cors-expose-headers", Kind: policy.List, Default: "none", Example: "X-Total-Count",
			Doc: "The response fields that scripts may read, besides those that they always may; \"*\" is all of them.",
		},
		{
			Name: "cors-allow-credentials", Kind: policy.Bool, Default: "true", Example: "false",
			Doc: "Lets scripts send cookies and Authorization, which browsers allow only where the origins are named.",
		},
		{
			Name: "cors-max-age", Kind: policy.Int, Default: strconv.Itoa(corsMaxAge), Example: "600",
			Doc: "For how many seconds browsers may remember the permission.",
		},
	}
}

func parseCORS(v policy.Values) (cors, error) {
	on, err1 := v.Bool("enable-cors", false)
	methods, err2 := corsList(v, corsWords{"cors-allow-methods", corsMethods, letters, `methods between commas, as in "GET, POST"`})
	headers, err3 := corsList(v, corsWords{"cors-allow-headers", corsHeaders, letters + digits + "-_", `names of fields between commas, as in "X-Token, X-Trace"`})
	expose, err4 := corsList(v, corsWords{"cors-expose-headers", "", letters + digits + "-_*", `names of fields between commas, as in "X-Total-Count"`})
	credentials, err5 := v.Bool("cors-allow-credentials", true)
	maxAge, err6 := v.Int("cors-max-age", corsMaxAge)
	return cors{on, methods, headers, expose, credentials, maxAge}, errors.Join(err1, err2, err3, err4, err5, err6)
}

// corsWords says how the list of a key is written.
type corsWords struct{ key, absent, set, want string }

// corsList returns a list as it is written, which is how browsers get it. Between words there may be one comma, one space, or both.
func corsList(v policy.Values, w corsWords) (string, error) {
	if !v.Has(w.key) {
		return w.absent, nil
	}
	text := v.Text(w.key, "")
	separator := true
	for i := range len(text) {
		switch c := text[i]; {
		case c == ',' && !separator:
			separator = true
		case c == ' ' && i > 0 && text[i-1] != ' ':
			separator = true
		case strings.IndexByte(w.set, c) >= 0:
			separator = false
		default:
			return "", &policy.ValueError{Key: w.key, Value: v[w.key], Want: w.want}
		}
	}
	if text == "" {
		return "", &policy.ValueError{Key: w.key, Value: v[w.key], Want: w.want}
	}
	return text, nil
}

func extendCORS(c *Chain, v cors) {
	if !v.on {
		return
	}
	f := &corsFilter{cors: v, maxAge: strconv.Itoa(v.maxAge)}
	if origins, ok := valueOf(c.Route, corsOriginFamily); ok {
		f.origins = origins.([]corsOrigin)
	}
	c.OnRequest(f)
	c.OnResponse(f)
}

// corsFilter answers requests for permission, and sets what permits on all other answers.
type corsFilter struct {
	cors
	maxAge  string
	origins []corsOrigin // none for all of them
}

// FilterRequest answers OPTIONS from an allowed origin.
func (f *corsFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if string(x.Request.Method) != "OPTIONS" || !f.allows(x.Request.Fields.Get(exchange.Origin)) {
		return exchange.Continue
	}
	x.Answer(statusNoContent, exchange.Preflight, "")
	// This is how ingress-nginx writes it, without the semicolon.
	x.Response.Fields.SetString(exchange.ContentType, "text/plain charset=UTF-8")
	return exchange.Answered
}

const statusNoContent = 204

// FilterResponse sets the fields that permit on answers to an allowed origin. A route that is closed permits nothing.
func (f *corsFilter) FilterResponse(x *exchange.Exchange) {
	origin := x.Request.Fields.Get(exchange.Origin)
	if x.Response.Why == exchange.RouteDenied || !f.allows(origin) {
		return
	}
	fields := &x.Response.Fields
	if len(f.origins) == 0 {
		fields.SetString(exchange.AccessControlAllowOrigin, "*")
	} else {
		fields.Set(exchange.AccessControlAllowOrigin, origin)
	}
	if f.credentials {
		fields.SetString(exchange.AccessControlAllowCredentials, "true")
	}
	fields.SetString(exchange.AccessControlAllowMethods, f.methods)
	fields.SetString(exchange.AccessControlAllowHeaders, f.headers)
	if f.expose != "" {
		fields.SetString(exchange.AccessControlExposeHeaders, f.expose)
	}
	fields.SetString(exchange.AccessControlMaxAge, f.maxAge)
}

// allows reports whether the origin may read answers. Where all may, so may those that do not say theirs.
func (f *corsFilter) allows(origin []byte) bool {
	if len(f.origins) == 0 {
		return true
	}
	for i := range f.origins {
		if f.origins[i].matches(origin) {
			return true
		}
	}
	return false
}
