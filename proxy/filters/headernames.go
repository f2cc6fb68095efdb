package filters

import (
	"errors"

	"podlane.dev/podlane/router/policy"
)

// headerNames is the parsed value of the family: whether a key said what to do with fields that have "_" in their names, and what.
type headerNames struct{ said, underscores bool }

// HeaderNames returns the family that decides which names of fields requests may have.
func HeaderNames() Policy {
	const hard = "names that are no tokens (RFC 9110 section 5.1) are refused with 400 in any case"
	return &Of[headerNames]{
		Of: policy.Of[headerNames]{
			Name: "header-names",
			Doc: "What becomes of request fields with \"_\" in their names, which applications that get fields as variables confuse with those with \"-\". Fields " +
				"that only a proxy may set are removed in both spellings in any case. New connections obey.",
			Keys: []policy.Key{
				{
					Name: "enable-underscores-in-headers", Kind: policy.Bool, Where: policy.ConfigMap, Default: "as --underscores-in-headers says", Example: "true",
					Doc: "Whether such fields are kept; if not, they are dropped.",
				},
				{
					Name: "ignore-invalid-headers", Kind: policy.Bool, Where: policy.ConfigMap, Default: "true", Example: "false",
					Doc:     "\"false\" keeps such fields too, which are invalid to nginx.",
					Differs: hard,
				},
			},
			IfInvalid: policy.Ignore,
			Global:    true,
			Parse: func(v policy.Values) (headerNames, error) {
				keep, err1 := v.Bool("enable-underscores-in-headers", false)
				ignore, err2 := v.Bool("ignore-invalid-headers", true)
				return headerNames{v.Has("enable-underscores-in-headers") || !ignore, keep || !ignore}, errors.Join(err1, err2)
			},
		},
		Global: func(s *Settings, v headerNames) {
			switch {
			case v.said && v.underscores:
				s.Underscores = KeepUnderscores
			case v.said:
				s.Underscores = DropUnderscores
			}
		},
	}
}
