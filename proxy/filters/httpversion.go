package filters

import (
	"errors"

	"podlane.dev/podlane/router/policy"
)

// HTTPVersion returns the family of the HTTP version that is spoken with Pods where that is 1: there is no choice.
func HTTPVersion() Policy {
	const key = "proxy-http-version"
	return &Of[string]{
		Of: policy.Of[string]{
			Name: key,
			Doc:  "The version of HTTP that Pods get where backend-protocol does not say HTTP/2. It is 1.1.",
			Keys: []policy.Key{{
				Name: key, Kind: policy.String, Where: policy.Everywhere, Default: "1.1", Example: "1.1",
				Doc:     "Only \"1.1\" is taken.",
				Differs: "1.0 is refused: it has neither chunks nor connections that stay",
			}},
			IfInvalid: policy.Ignore,
			Parse: func(v policy.Values) (string, error) {
				switch v.Text(key, "1.1") {
				case "1.1":
					return "1.1", nil
				case "1.0":
					return "", errors.New(key + `: "1.0" is refused, because with it no connection can be used again and no body of unknown length sent: write "1.1"; Pods that know only 1.0 may answer in it`)
				}
				return "", &policy.ValueError{Key: key, Value: v[key], Want: `"1.1"`}
			},
		},
	}
}
