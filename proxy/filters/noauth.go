package filters

import (
	"strings"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// noAuthKey is the only key of its family.
const noAuthKey = "no-auth-locations"

// noAuth are prefixes of the paths of routes.
type noAuth []string

// String returns the value for the text of a Table.
func (v noAuth) String() string { return strings.Join(v, ",") }

// covers reports whether r is one of the routes. ingress-nginx compares the path of the rule, not that of the request.
func (v noAuth) covers(r *router.Route) bool {
	for _, prefix := range v {
		if strings.HasPrefix(r.ID.Path, prefix) {
			return true
		}
	}
	return false
}

// NoAuthLocations returns the family of routes that ask nobody who they are. It comes before those that do, which see Chain.Anonymous.
func NoAuthLocations() Policy {
	return &Of[noAuth]{
		Of: policy.Of[noAuth]{
			Name: noAuthKey,
			Doc: "Exempts routes from authentication by password and by a service (auth-type, auth-url, global-auth-url), by the path that is " +
				"written in their rule. Where the paths of two routes differ in this, a request that could be read as either is refused (400).",
			Keys: []policy.Key{{
				Name: noAuthKey, Kind: policy.List, Where: policy.ConfigMap, Default: acmePath, Example: "/.well-known/acme-challenge,/healthz",
				Doc: "Paths, separated by commas. Routes whose path begins with one of them are open to everyone.",
			}},
			IfInvalid: policy.Deny,
			Parse:     func(v policy.Values) (noAuth, error) { return v.List(noAuthKey), nil },
		},
		Default: func(*router.Route) (noAuth, bool) { return noAuth{acmePath}, true },
		Extend:  func(c *Chain, v noAuth) { c.Anonymous = v.covers(c.Route) },
		Protects: func(r *router.Route, v noAuth) string {
			if v.covers(r) {
				return "nobody is asked"
			}
			return ""
		},
	}
}
