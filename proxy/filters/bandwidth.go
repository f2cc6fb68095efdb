package filters

import (
	"errors"

	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// Bandwidth returns the family of how fast answers leave. Its filter comes behind those that make bodies shorter: what leaves is what counts.
func Bandwidth() Policy {
	const most = 1 << 40
	return &Of[bodies.Throttle]{
		Of: policy.Of[bodies.Throttle]{
			Name: "limit-rate",
			Doc: "Bounds how fast the body of each answer leaves: after n seconds of the request it is limit-rate-after and n+1 times limit-rate. A client with " +
				"two requests gets twice as much. The Pod has to wait for the client.",
			Keys: []policy.Key{
				{
					Name: "limit-rate", Kind: policy.Int, Where: policy.Everywhere, Default: "0", Example: "250",
					Doc: "In kilobytes (1,024 bytes) each second; 0 means that there is no limit.",
				},
				{
					Name: "limit-rate-after", Kind: policy.Int, Where: policy.Everywhere, Default: "0", Example: "1024",
					Doc: "How many kilobytes leave at full speed before.",
				},
			},
			IfInvalid: policy.Ignore,
			Parse: func(v policy.Values) (bodies.Throttle, error) {
				rate, err1 := v.IntRange("limit-rate", 0, 0, most)
				after, err2 := v.IntRange("limit-rate-after", 0, 0, most)
				return bodies.Throttle{PerSecond: int64(rate) << 10, After: int64(after) << 10}, errors.Join(err1, err2)
			},
		},
		Response: func(_ *router.Route, v bodies.Throttle) exchange.ResponseFilter {
			if v.PerSecond == 0 {
				return nil
			}
			return v
		},
	}
}
