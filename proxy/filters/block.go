package filters

import (
	"errors"
	"regexp"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// block is the parsed value of the family.
type block struct {
	addresses        ranges
	agents, referers texts
}

// String returns the value for the text of a Table.
func (v *block) String() string {
	var parts []string
	for _, part := range [...]struct{ name, text string }{
		{"addresses", v.addresses.text}, {"user agents", v.agents.String()}, {"referers", v.referers.String()},
	} {
		if part.text != "" {
			parts = append(parts, part.name+" "+part.text)
		}
	}
	return strings.Join(parts, "; ")
}

// Block returns the family of what the operator lets nowhere in. It holds for every request, with a route or without.
func Block() Policy {
	return &Of[*block]{
		Of: policy.Of[*block]{
			Name:   "block",
			Doc:    "Answers 403 to clients whom the operator lets nowhere in, before anything else is looked at.",
			Global: true,
			Keys: []policy.Key{
				{
					Name: "block-cidrs", Where: policy.ConfigMap, Closes: true, Kind: policy.List, Default: "nobody", Example: "198.51.100.0/24, 2001:db8:bad::/48",
					Doc:     "Addresses and ranges of clients.",
					Differs: "it holds for every route: ingress-nginx drops it where an Ingress has an allow or deny list of its own or satisfy: any",
				},
				{
					Name: "block-user-agents", Where: policy.ConfigMap, Closes: true, Kind: policy.List, Default: "none", Example: "EvilBot/1.0, ~*scraper",
					Doc:   "Values of the field User-Agent: a text stands for itself, without regard to case; one that begins with ~ or ~* is a regular expression (RE2), with or without regard to it.",
					Lacks: "regular expressions are RE2's: one that needs more, such as (?!…), closes all routes until it is changed",
				},
				{
					Name: "block-referers", Where: policy.ConfigMap, Closes: true, Kind: policy.List, Default: "none", Example: "https://spam.example/, ~*casino",
					Doc:   "Values of the field Referer, written as in block-user-agents.",
					Lacks: "regular expressions are RE2's: one that needs more, such as (?!…), closes all routes until it is changed",
				},
			},
			IfInvalid: policy.Deny,
			Parse:     parseBlock,
		},
		Global: func(s *Settings, v *block) {
			if !v.addresses.empty() || !v.agents.empty() || !v.referers.empty() {
				s.Block = v
			}
		},
	}
}

func parseBlock(v policy.Values) (*block, error) {
	addresses, notAddresses := parseRanges(v, "block-cidrs")
	agents, notAgents := parseTexts(v, "block-user-agents")
	referers, notReferers := parseTexts(v, "block-referers")
	if err := errors.Join(notAddresses, notAgents, notReferers); err != nil {
		return nil, err
	}
	return &block{addresses, agents, referers}, nil
}

// FilterRequest answers clients that are blocked.
func (v *block) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	fields := &x.Request.Fields
	if !v.addresses.has(x.Client.Addr) && !v.agents.match(fields, exchange.UserAgent) && !v.referers.match(fields, exchange.Referer) {
		return exchange.Continue
	}
	forbid(x)
	if x.Rehearsal != nil {
		x.Rehearsal.Watch("block", x, func() exchange.Verdict { return exchange.Answered })
	}
	return exchange.Answered
}

// texts are texts and patterns for the value of a field, as nginx's map has them. The zero value matches nothing.
type texts struct {
	equal    map[string]bool // in lower case
	patterns []*regexp.Regexp
	written  string
}

// String returns what was written.
func (t texts) String() string { return t.written }

func (t *texts) empty() bool { return len(t.equal)+len(t.patterns) == 0 }

func parseTexts(v policy.Values, key string) (texts, error) {
	t := texts{equal: map[string]bool{}}
	members := v.List(key)
	for _, member := range members {
		pattern, isPattern := strings.CutPrefix(member, "~")
		if !isPattern {
			t.equal[strings.ToLower(member)] = true
			continue
		}
		expression := pattern
		if insensitive, ok := strings.CutPrefix(pattern, "*"); ok {
			expression = "(?i)" + insensitive
		}
		compiled, err := policy.Regexp(expression)
		if err != nil {
			return texts{}, &policy.ValueError{
				Key: key, Value: member, Why: err,
				Want: `a regular expression (RE2) behind the "~" or "~*", as in "~*bot"; commas end it`,
			}
		}
		t.patterns = append(t.patterns, compiled)
	}
	t.written = strings.Join(members, ", ")
	return t, nil
}

// match reports whether one of the values of a field is among t. Where the client sends no such field, its value is the empty text.
func (t *texts) match(fields *exchange.Fields, id exchange.ID) bool {
	if t.empty() {
		return false
	}
	if !fields.Has(id) {
		return t.matchValue(nil)
	}
	for i := range fields.Len() {
		if of, _, value, ok := fields.At(i); ok && of == id && t.matchValue(value) {
			return true
		}
	}
	return false
}

func (t *texts) matchValue(value []byte) bool {
	const most = 512 // a longer value is worth memory of its own
	var buffer [most]byte
	switch {
	case len(t.equal) == 0:
	case len(value) > most:
		if t.equal[strings.ToLower(string(value))] {
			return true
		}
	default:
		for i, c := range value {
			buffer[i] = exchange.Lower(c)
		}
		if t.equal[string(buffer[:len(value)])] {
			return true
		}
	}
	for _, p := range t.patterns {
		if p.Match(value) {
			return true
		}
	}
	return false
}
