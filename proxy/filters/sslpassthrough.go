package filters

import (
	"fmt"
	"slices"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// The keys. The first is also the family's name.
const (
	passthroughKey    = router.PassthroughFamily
	passthroughHeader = "ssl-passthrough-proxy-protocol"
)

// SSLPassthrough returns the family of hosts whose TLS ends at their Pods. It has no filters: Build
// decides for the whole host, and Routes carry it as Passthrough, which the engine reads before there is a request.
//
// A value that does not parse is ignored, although what the owner wants to pass through then ends here: nobody is let in by that. Clients
// meet another certificate than the Pod's, and the Pod's port meets plain HTTP.
func SSLPassthrough() Policy {
	return &Of[router.Passthrough]{
		Of: policy.Of[router.Passthrough]{
			Name: passthroughKey,
			Doc: "Passes TLS connections for the host through to its Pods, which have the certificate: Podlane finds the host by the server " +
				"name that clients send (SNI), and sees nothing else of what is said. So no other annotation works on such connections, and " +
				"only the path / counts, because nobody can see another. Only an Ingress of the namespace that owns the host can ask for it, and " +
				"none where the host asks its clients for certificates (auth-tls). Plain HTTP for the host is served as ever. It works where " +
				"Podlane runs with --enable-ssl-passthrough.",
			Keys: []policy.Key{
				{
					Name: passthroughKey, Kind: policy.Bool, Default: "false", Example: "true",
					Doc: "Passes TLS for the rule's host through to the Pods of its path /.",
					Differs: "connections go to Pods, not to the Service's clusterIP; Ingresses of namespaces that do not own the host have no say, and a host that asks its " +
						"clients for certificates has none passed through",
				},
				{
					Name: passthroughHeader, Kind: policy.String, Default: "off", Example: "v2",
					Doc: "Sends the Pod a header of the PROXY protocol, v1 or v2, that says who the client is. The Pod must expect it.",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parsePassthrough,
		},
	}
}

func parsePassthrough(v policy.Values) (p router.Passthrough, err error) {
	if p.On, err = v.Bool(passthroughKey, false); err != nil {
		return router.Passthrough{}, err
	}
	switch text := v.Text(passthroughHeader, "off"); text {
	case "off":
	case "v1":
		p.ProxyHeader = 1
	case "v2":
		p.ProxyHeader = 2
	default:
		return router.Passthrough{}, &policy.ValueError{Key: passthroughHeader, Value: text, Want: "off, v1 or v2"}
	}
	if p.ProxyHeader != 0 && !v.Has(passthroughKey) {
		return router.Passthrough{}, fmt.Errorf("%s: there is no connection to say it on without %s: \"true\"", passthroughHeader, passthroughKey)
	}
	return p, nil
}

// WithoutSSLPassthrough returns policies for a process that passes nothing through: whoever asks for it is told so.
func WithoutSSLPassthrough(policies []Policy) []Policy {
	policies = slices.Clone(policies)
	for i, p := range policies {
		if p.FamilyName() == passthroughKey {
			policies[i] = noPassthrough{p}
		}
	}
	return policies
}

// noPassthrough is the family where the process has it off.
type noPassthrough struct{ Policy }

// ParseValues refuses to turn on what is off.
func (n noPassthrough) ParseValues(v policy.Values, from policy.Source) (any, error) {
	parsed, err := n.Policy.ParseValues(v, from)
	if p, ok := parsed.(router.Passthrough); ok && p.On && err == nil {
		return nil, fmt.Errorf("%s: TLS passes through only where Podlane runs with --enable-ssl-passthrough", passthroughKey)
	}
	return parsed, err
}
