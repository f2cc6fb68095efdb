package filters

import (
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// AppRoot returns the family that redirects / to the application's own start page. It comes before all other answers, as in ingress-nginx.
func AppRoot() Policy {
	return &Of[string]{
		Of: policy.Of[string]{
			Name: router.AppRootFamily,
			Doc: "Redirects (302) requests for / to another path of the same host and port, without their query. All other paths are left alone. It comes " +
				"before everything else that answers requests. It holds where a path of the Ingress matches /; where the host is read as " +
				"ingress-nginx reads it, it holds for the whole host, whichever paths the Ingress has.",
			Keys: []policy.Key{{
				Name: "app-root", Kind: policy.String, Default: "none", Example: "/app/start",
				Doc:     "The path, which begins with \"/\" and may hold letters, digits and -._~/:, but no variables.",
				Differs: "behind a trusted proxy that terminates TLS the URL is https; $ is refused",
			}},
			IfInvalid: policy.Ignore,
			Parse: func(v policy.Values) (string, error) {
				path := v.Text("app-root", "")
				if v.Has("app-root") && (!strings.HasPrefix(path, "/") || !allIn(path, letters+digits+"-._~/:")) {
					return "", &policy.ValueError{Key: "app-root", Value: v["app-root"], Want: `a path of letters, digits and -._~/:, as in "/app"`}
				}
				return path, nil
			},
		},
		Extend: func(c *Chain, path string) {
			if path != "" {
				c.OnRequest(appRootFilter(path))
			}
		},
	}
}

// appRootFilter is where / goes.
type appRootFilter string

// FilterRequest redirects requests for /, however they spell it.
func (f appRootFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if len(x.Request.Path) != 1 || x.Request.Path[0] != '/' {
		return exchange.Continue
	}
	start := len(x.Scratch)
	if len(x.Request.Authority) > 0 {
		// Without Host, which HTTP/1.0 allows, the path alone leads to the same place.
		x.Scratch = appendScheme(x.Scratch, x)
		x.Scratch = append(x.Scratch, x.Request.Authority...)
	}
	x.Scratch = append(x.Scratch, f...)
	return answerRedirect(x, statusFound, start)
}
