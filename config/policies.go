package config

import "podlane.dev/podlane/proxy/filters"

// Policies returns every annotation family in the order in which their filters run. It is the one place that lists them.
func Policies() []filters.Policy {
	return []filters.Policy{
		filters.SSLRedirect(),
		filters.ClientCertificate(),
		filters.HSTS(),
		filters.SSLPassthrough(),
	}
}
