package filters

import (
	"errors"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// sourceRange is the parsed value of the family.
type sourceRange struct {
	allow, deny ranges
}

// String returns the value for the text of a Table.
func (v *sourceRange) String() string {
	var parts []string
	if !v.deny.empty() {
		parts = append(parts, "deny "+v.deny.text)
	}
	if !v.allow.empty() {
		parts = append(parts, "allow only "+v.allow.text)
	}
	return strings.Join(parts, "; ")
}

// SourceRange returns the family that lets clients in by their addresses.
func SourceRange() Policy {
	return &Of[*sourceRange]{
		Of: policy.Of[*sourceRange]{
			Name: "source-range",
			Doc: "Lets clients in by their addresses: what is denied gets 403, and where there is a list of what is allowed, so does everything that is not " +
				"on it. The address is the client's that is believed: see --trusted-proxies. It may be written with or without the length of a prefix; a " +
				"list may have thousands.",
			Keys: []policy.Key{
				{
					Name: "allowlist-source-range", Alias: "whitelist-source-range", Where: policy.Everywhere, Setting: "whitelist-source-range", Closes: true,
					Kind: policy.List, Default: "everyone", Example: "10.0.0.0/8, 2001:db8::/32, 192.0.2.7",
					Doc: "Who is let in. The annotation takes the place of the ConfigMap's list.",
				},
				{
					Name: "denylist-source-range", Where: policy.Everywhere, Closes: true, Kind: policy.List, Default: "nobody", Example: "10.1.0.0/16",
					Doc: "Who is not let in, whatever the other list says. The annotation takes the place of the ConfigMap's list.",
				},
			},
			IfInvalid: policy.Deny,
			Parse:     parseSourceRange,
		},
		Extend: func(c *Chain, v *sourceRange) {
			if !v.allow.empty() || !v.deny.empty() {
				c.OnAccess(v)
			}
		},
	}
}

func parseSourceRange(v policy.Values) (*sourceRange, error) {
	allow, notAllow := parseRanges(v, "allowlist-source-range")
	deny, notDeny := parseRanges(v, "denylist-source-range")
	if err := errors.Join(notAllow, notDeny); err != nil {
		return nil, err
	}
	return &sourceRange{allow, deny}, nil
}

// CheckAccess judges the client by its address.
func (v *sourceRange) CheckAccess(x *exchange.Exchange) Access {
	switch {
	case v.deny.has(x.Client.Addr):
	case v.allow.empty():
		return NoOpinion
	case v.allow.has(x.Client.Addr):
		return Allowed
	}
	forbid(x)
	return Forbidden
}

// forbid answers 403.
func forbid(x *exchange.Exchange) {
	x.Answer(statusForbidden, exchange.Forbidden, "403 Forbidden\n")
}
