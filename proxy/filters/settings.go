package filters

import (
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// Settings are what the operator's ConfigMap says about the whole proxy. The zero value of a field means that the proxy's own setting holds.
type Settings struct {
	// Underscores is what becomes of request fields with "_" in their names.
	Underscores Underscores
	// Block answers requests that no route gets; nil where there are none.
	Block exchange.RequestFilter
	// Log says what is left out of the access log.
	Log LogRules
	// Believed says whose word about clients is taken.
	Believed Believed
	// Clients are the limits of connections with clients, PodConnections says how long those to Pods are used again.
	Clients        Clients
	PodConnections PodConnections
	// LogFormat is how the lines of the access log are written, nil for JSON.
	LogFormat *LogFormat
	// Traces says what is recorded of traced requests, and where it goes.
	Traces Traces
	// TLS says how TLS is spoken with clients.
	TLS FrontTLS
}

// Say is what a switch says, or that it says nothing.
type Say uint8

// The things that a switch says.
const (
	Unsaid Say = iota
	No
	Yes
)

// String returns what is said.
func (s Say) String() string { return [...]string{"-", "no", "yes"}[s] }

// say reads a switch.
func say(v policy.Values, key string) (Say, error) {
	on, err := v.Bool(key, false)
	switch {
	case err != nil, !v.Has(key):
		return Unsaid, err
	case on:
		return Yes, nil
	}
	return No, nil
}

// Underscores is what becomes of request fields with "_" in their names.
type Underscores uint8

// The things that become of them; the zero value is what the proxy's own setting says.
const (
	UsualUnderscores Underscores = iota
	DropUnderscores
	KeepUnderscores
)
