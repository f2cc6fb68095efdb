package filters

import (
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// corsOriginFamily is the name of the family of CORSOrigin.
const corsOriginFamily = "cors-origin"

// corsOrigin is one allowed origin: before, then one label where wild is set, then after.
type corsOrigin struct {
	before, after string
	wild          bool
}

// String returns the origin as it was written.
func (o corsOrigin) String() string {
	if o.wild {
		return o.before + "*" + o.after
	}
	return o.before
}

// CORSOrigin returns the family that says who is allowed what CORS allows. It is apart from the rest of CORS because a mistake in it must not open a
// route to the pages of everyone.
func CORSOrigin() Policy {
	return &Of[[]corsOrigin]{
		Of: policy.Of[[]corsOrigin]{
			Name: corsOriginFamily,
			Doc: "The origins that enable-cors allows. A mistake closes the route where ingress-nginx would allow every origin: what is meant for one page " +
				"must not be open to all.",
			Keys: []policy.Key{{
				Name: "cors-allow-origin", Kind: policy.List, Default: "*", Example: "https://app.example.com, https://*.example.org:8443",
				Doc: "Origins, as browsers write them: a scheme, a host and a port where it is not the scheme's own. The first label of the host may be *, which " +
					"stands for one label. * alone is every origin, and is told to browsers as it is; any other is told in their own words.",
				Differs: "a mistake closes the route, where ingress-nginx then allows every origin; an origin must match from its first character on, where " +
					"ingress-nginx compares its end",
			}},
			IfInvalid: policy.Deny,
			Parse:     parseCORSOrigins,
		},
	}
}

// parseCORSOrigins returns the origins, none for all.
func parseCORSOrigins(v policy.Values) ([]corsOrigin, error) {
	var origins []corsOrigin
	list := v.List("cors-allow-origin")
	for _, text := range list {
		if text == "*" {
			return nil, nil
		}
		scheme, host, ok := strings.Cut(text, "://")
		host, port, _ := strings.Cut(host, ":")
		wild := strings.HasPrefix(host, "*.")
		if !ok || scheme == "" || !allIn(scheme, letters+digits+"+-.") || !allIn(port, digits) || strings.HasSuffix(text, ":") ||
			strings.Trim(strings.TrimPrefix(host, "*"), ".") == "" || !allIn(strings.TrimPrefix(host, "*."), letters+digits+"-.") {
			return nil, &policy.ValueError{Key: "cors-allow-origin", Value: text, Want: `origins between commas, as in "https://app.example.com", or "*"`}
		}
		if wild {
			before, after, _ := strings.Cut(text, "*")
			origins = append(origins, corsOrigin{before, after, true})
			continue
		}
		origins = append(origins, corsOrigin{before: text})
	}
	if len(list) == 0 {
		return nil, &policy.ValueError{Key: "cors-allow-origin", Value: v["cors-allow-origin"], Want: `origins between commas, as in "https://app.example.com", or "*"`}
	}
	return origins, nil
}

// matches compares without regard to case.
func (o *corsOrigin) matches(origin []byte) bool {
	if !o.wild {
		return exchange.EqualFold(origin, o.before)
	}
	label := len(origin) - len(o.before) - len(o.after)
	if label < 1 || !exchange.EqualFold(origin[:len(o.before)], o.before) || !exchange.EqualFold(origin[len(o.before)+label:], o.after) {
		return false
	}
	for _, c := range origin[len(o.before) : len(o.before)+label] {
		if strings.IndexByte(letters+digits+"-", c) < 0 {
			return false
		}
	}
	return true
}
