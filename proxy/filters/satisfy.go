package filters

import "podlane.dev/podlane/router/policy"

// satisfy is the parsed value of the family: whether any check is enough.
type satisfy bool

// String returns the value for the text of a Table.
func (v satisfy) String() string {
	if v {
		return "any"
	}
	return "all"
}

// Satisfy returns the family that says whether a request must pass all checks of who its client is, or one.
//
// A value that does not parse denies the route: it is unknown then who is let in.
func Satisfy() Policy {
	return &Of[satisfy]{
		Of: policy.Of[satisfy]{
			Name: "satisfy",
			Doc: "Says what source ranges, passwords and external authentication mean together. Where no check lets the client in the answer is 401 if one of them " +
				"asks who it is, else 403.",
			Keys: []policy.Key{{
				Name: "satisfy", Kind: policy.String, Default: "all", Example: "any",
				Doc:     "\"all\": every check must let the client in. \"any\": one is enough; source ranges are asked first.",
				Differs: "a value that is neither closes the route, where ingress-nginx takes it for all",
			}},
			IfInvalid: policy.Deny,
			Parse:     parseSatisfy,
		},
		Extend: func(c *Chain, v satisfy) {
			if v {
				c.SatisfyAny()
			}
		},
	}
}

func parseSatisfy(v policy.Values) (satisfy, error) {
	switch v.Text("satisfy", "all") {
	case "all":
		return false, nil
	case "any":
		return true, nil
	}
	return false, &policy.ValueError{Key: "satisfy", Value: v["satisfy"], Want: `"all" or "any"`}
}
