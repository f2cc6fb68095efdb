package router

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
