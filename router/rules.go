package router

import "fmt"

// RulesFamily is the name of the global policy family whose value is Rules.
const RulesFamily = "ingress-rules"

// Rules are what the operator says about how Ingresses are read. It is immutable.
type Rules struct {
	// Blocklist are words that no annotation may contain: an Ingress that has one is closed.
	Blocklist []string
	// LoosePaths lets Exact and Prefix paths have characters beyond letters, digits and "/._-".
	LoosePaths bool
	// CrossNamespace lets annotations name Secrets and ConfigMaps of other namespaces.
	CrossNamespace bool
}

// String returns r for the text of a Table.
func (r Rules) String() string {
	text := "strict"
	if r.LoosePaths {
		text = "loose paths"
	}
	if r.CrossNamespace {
		text += ", objects of all namespaces"
	}
	if len(r.Blocklist) > 0 {
		text += fmt.Sprintf(", without %q", r.Blocklist)
	}
	return text
}
