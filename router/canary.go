package router

import (
	"fmt"
	"regexp"

	"podlane.dev/podlane/router/policy"
)

// CanaryFamily is the name of the policy family whose value is a Canary.
const CanaryFamily = "canary"

// Canary says which requests of a Route go to its second Backend. The zero value is no canary. It is immutable.
type Canary struct {
	// On says that the Ingress is a canary.
	On bool
	// Header is the field that decides: "always" and "never", or, where one of them is set, Value, or what Pattern matches.
	Header, Value string
	Pattern       *regexp.Regexp
	// Broken is why a pattern cannot be had, nil where nothing is wrong: requests that have the Header do not go to the canary then.
	Broken error
	// Cookie is the cookie that decides, by "always" and "never".
	Cookie string
	// Weight of Total requests go to the canary where neither decides.
	Weight, Total int
}

// String returns c for the text of a Table.
func (c Canary) String() string {
	if !c.On {
		return "off"
	}
	text := fmt.Sprintf("weight %d of %d", c.Weight, c.Total)
	if c.Header != "" {
		text += ", header " + c.Header
	}
	if c.Value != "" {
		text += fmt.Sprintf(" = %q", c.Value)
	}
	if c.Pattern != nil {
		text += fmt.Sprintf(" ~ %q", c.Pattern)
	}
	if c.Broken != nil {
		text += " of which the pattern is broken"
	}
	if c.Cookie != "" {
		text += ", cookie " + c.Cookie
	}
	return text
}

// Omitted tells of a pattern that cannot be had.
func (c Canary) Omitted() []policy.Omission {
	if c.Broken == nil {
		return nil
	}
	return []policy.Omission{{Key: "canary-by-header-pattern", Message: c.Broken.Error() + "; until then requests that have the field do not go to the canary"}}
}

// Alternative is the canary of a Route: its Backend is the Route's second. It is immutable.
type Alternative struct {
	Canary
	// Namespace and Ingress name the Ingress that is the canary, UID is its own.
	Namespace, Ingress, UID string
	// Policies are the canary's own. Only those that say how to balance count.
	Policies []policy.Value
}
