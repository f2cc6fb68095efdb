package filters

import "podlane.dev/podlane/proxy/exchange"

// Settings are what the operator's ConfigMap says about the whole proxy. The zero value of a field means that the proxy's own setting holds.
type Settings struct {
	// Underscores is what becomes of request fields with "_" in their names.
	Underscores Underscores
	// Block answers requests that no route gets; nil where there are none.
	Block exchange.RequestFilter
	// Log says what is left out of the access log.
	Log LogRules
}

// Underscores is what becomes of request fields with "_" in their names.
type Underscores uint8

// The things that become of them; the zero value is what the proxy's own setting says.
const (
	UsualUnderscores Underscores = iota
	DropUnderscores
	KeepUnderscores
)
