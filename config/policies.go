package config

import (
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/tls/server"
)

// Policies returns every annotation family in the order in which their filters run. It is the one place that lists them.
func Policies() []filters.Policy {
	words := filters.TLSWords{Versions: server.ParseVersions, Ciphers: parseCiphers, Curves: parseCurves}
	return []filters.Policy{
		filters.Block(),
		filters.Rules(),
		filters.HeaderNames(),
		filters.ClientAddress(),
		filters.ClientConnections(),
		filters.UpstreamKeepAlive(),
		filters.ClientTLS(words),
		filters.AccessLogFormat(),
		filters.AccessLog(),
		filters.EnableAccessLog(),
		filters.RewriteLog(),
		filters.TracesSettings(),
		filters.OpenTelemetry(),
		filters.RedirectURLs(),
		filters.PodHeaders(),
		filters.ProxyRedirect(),
		filters.ProxyCookie(),
		filters.AppRoot(),
		filters.CORS(),
		filters.CORSOrigin(),
		filters.Redirect(),
		filters.SSLRedirect(),
		filters.ClientCertificate(),
		filters.Limit(),
		filters.SourceRange(),
		filters.NoAuthLocations(),
		filters.Auth(),
		filters.Satisfy(),
		filters.ExternalAuth(),
		filters.HSTS(),
		filters.ServerNames(),
		filters.AddHeaders(),
		filters.CustomHeaders(),
		filters.RequestHeaders(),
		filters.ProxySetHeaders(),
		filters.UpstreamVhost(),
		filters.Rewrite(),
		filters.Canary(),
		filters.CustomErrors(),
		filters.Mirrors(),
		filters.Fields(),
		filters.Refused(),
		filters.HostCiphers(words),
		filters.SSLPassthrough(),
		filters.BackendProtocol(),
		filters.ServiceUpstream(),
		filters.HTTPVersion(),
		filters.RequestBody(),
		filters.Timeouts(),
		filters.NextUpstream(),
		filters.Buffering(),
		filters.LoadBalance(),
		filters.ProxySSL(words),
		filters.CookieAffinity(),
		filters.Compression(),
		filters.Bandwidth(),
	}
}

func parseCiphers(text string) (suites []uint16, unknown []string, err error) {
	l, err := server.ParseCipherSuites(text)
	return l.Values, l.Unknown, err
}

func parseCurves(text string) (curves []uint16, unknown []string, err error) {
	l, err := server.ParseCurves(text)
	for _, c := range l.Values {
		curves = append(curves, uint16(c))
	}
	return curves, l.Unknown, err
}
