package filters

import (
	"errors"
	"math"
	"time"

	"podlane.dev/podlane/router/policy"
)

// PodConnections says how long connections to Pods are used again. Where a field is 0 the proxy's own setting holds.
type PodConnections struct {
	// Idle is how many unused ones are kept for each Pod; negative keeps none.
	Idle int
	// Timeout is how long one may be unused, Age how old it may grow, Requests how many requests it may carry.
	Timeout, Age time.Duration
	Requests     int
}

// UpstreamKeepAlive returns the family of how long connections to Pods are used again.
func UpstreamKeepAlive() Policy {
	return &Of[PodConnections]{
		Of: policy.Of[PodConnections]{
			Name: "upstream-keepalive",
			Doc: "How long connections to Pods are kept for further requests. What is not said here is as the flags of the same names say. Connections " +
				"that exist obey too.",
			Keys: []policy.Key{
				{
					Name: "upstream-keepalive-connections", Kind: policy.Int, Where: policy.ConfigMap, Default: "as --upstream-keepalive-connections says (320)", Example: "320",
					Doc:     "How many unused connections are kept; 0 keeps none.",
					Differs: "the number is for each Pod, not for each of nginx's processes",
				},
				{
					Name: "upstream-keepalive-time", Kind: policy.Duration, Where: policy.ConfigMap, Default: "as --upstream-keepalive-time says (1h)", Example: "1h",
					Doc: "How old a connection may grow.",
				},
				{
					Name: "upstream-keepalive-timeout", Kind: policy.Duration, Where: policy.ConfigMap, Default: "as --upstream-keepalive-timeout says (55s)", Example: "60",
					Doc:     "How long a connection may be unused.",
					Differs: "the default is 55s: most servers close after 60s, and a request that is then on its way is lost",
				},
				{
					Name: "upstream-keepalive-requests", Kind: policy.Int, Where: policy.ConfigMap, Default: "as --upstream-keepalive-requests says (10000)", Example: "10000",
					Doc: "How many requests a connection may carry.",
				},
			},
			IfInvalid: policy.Ignore,
			Global:    true,
			Parse:     parsePodConnections,
		},
		Global: func(s *Settings, v PodConnections) { s.PodConnections = v },
	}
}

func parsePodConnections(v policy.Values) (PodConnections, error) {
	var c PodConnections
	var err [4]error
	c.Idle, err[0] = v.IntRange("upstream-keepalive-connections", 0, 0, math.MaxInt32)
	if v.Has("upstream-keepalive-connections") && c.Idle == 0 {
		c.Idle = -1
	}
	c.Age, err[1] = positive(v, "upstream-keepalive-time")
	c.Timeout, err[2] = positive(v, "upstream-keepalive-timeout")
	c.Requests, err[3] = v.IntRange("upstream-keepalive-requests", 0, 1, math.MaxInt32)
	return c, errors.Join(err[:]...)
}
