package ingress_test

import (
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// podSchemeFamily and podTLSFamily are the families of TLS and HTTP/2 with Pods as Build sees them; proxy/filters has the real ones.
func podSchemeFamily() policy.Family {
	const key = router.PodSchemeFamily
	return &policy.Of[router.PodScheme]{
		Name: key, Doc: "What Pods speak.", IfInvalid: policy.Deny,
		Keys: []policy.Key{{Name: key, Kind: policy.String, Doc: "The scheme.", Example: "GRPC"}},
		Parse: func(v policy.Values) (router.PodScheme, error) {
			s, ok := router.ParsePodScheme(v[key])
			if !ok {
				return s, &policy.ValueError{Key: key, Value: v[key], Want: `"HTTP"`}
			}
			return s, nil
		},
	}
}

func podTLSFamily() policy.Family {
	return &policy.Of[router.PodTLSOptions]{
		Name: router.PodTLSFamily, Doc: "TLS with Pods.", IfInvalid: policy.Deny,
		Keys: []policy.Key{
			{Name: "proxy-ssl-secret", Kind: policy.String, Doc: "The authority.", Example: "default/ca"},
			{Name: "proxy-ssl-verify", Kind: policy.String, Doc: "on or off.", Example: "on"},
			{Name: "proxy-ssl-name", Kind: policy.String, Doc: "The name.", Example: "a.example"},
		},
		Parse: func(v policy.Values) (router.PodTLSOptions, error) {
			return router.PodTLSOptions{Secret: v["proxy-ssl-secret"], Verify: v["proxy-ssl-verify"] == "on", Depth: 1, Name: v["proxy-ssl-name"]}, nil
		},
	}
}
