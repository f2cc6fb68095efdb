package filters

import (
	"strings"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// Refused returns the family of ingress-nginx's annotations and settings that have no effect here: on purpose, and told of.
func Refused() Policy {
	return refused{&policy.Refused{
		Name: "refused",
		Doc: "Annotations and settings of ingress-nginx's that Podlane knows and does not obey. Each raises a Problem that says why, and what to do " +
			"instead.",
		List: refusals(),
	}}
}

// refused is a Policy without effect on requests.
type refused struct{ *policy.Refused }

// DefaultValue returns that nothing holds.
func (refused) DefaultValue(*router.Route) (any, bool) { return nil, false }

// Compile adds nothing.
func (refused) Compile(*Chain, any) {}

// Govern changes nothing.
func (refused) Govern(*Settings, any) {}

// The reasons that several keys share.
const (
	rawText   = "it is text for nginx's configuration, which is how strangers got code into clusters (CVE-2021-25742, CVE-2025-1974), and there is no nginx here"
	useLint   = "podlane lint and podlane migrate tell what of it can be written as annotations"
	noWAF     = "there is no ModSecurity here"
	tuning    = "it tunes processes of nginx, and there are none here"
	deadThere = "ingress-nginx reads it no more either"
)

// refusals lists the keys, as name or name=default of ingress-nginx's.
func refusals() []policy.Refusal {
	var list []policy.Refusal
	add := func(where policy.Place, r policy.Refusal, names ...string) {
		for _, name := range names {
			r.Where = where
			r.Name, r.Default, _ = strings.Cut(name, "=")
			list = append(list, r)
		}
	}
	snippet := policy.Refusal{Why: rawText, Instead: useLint}
	add(policy.Everywhere, snippet, "server-snippet", "stream-snippet", "modsecurity-snippet")
	add(policy.Annotation, snippet, "configuration-snippet", "auth-snippet")
	add(policy.ConfigMap, snippet, "main-snippet", "http-snippet", "location-snippet", "global-auth-snippet")
	waf := policy.Refusal{Why: noWAF, Instead: "put a firewall for applications in front, or in the Pods"}
	add(policy.Everywhere, waf, "enable-modsecurity=false")
	add(policy.Annotation, waf, "enable-owasp-core-rules=false", "modsecurity-transaction-id")
	add(policy.ConfigMap, waf, "enable-owasp-modsecurity-crs=false")
	add(policy.Annotation, policy.Refusal{Why: "FastCGI is not HTTP", Instead: "put a server that speaks HTTP beside the application"}, "fastcgi-index", "fastcgi-params-configmap")
	add(policy.Annotation, policy.Refusal{Why: "browsers have removed HTTP/2 push", Instead: "answer 103 Early Hints, which Podlane passes on", Harmless: true}, "http2-push-preload=false")
	add(policy.ConfigMap, policy.Refusal{Why: "it names a file for a module of nginx's", Instead: "see the settings that begin with otel-", Harmless: true}, "opentelemetry-config")
	process := policy.Refusal{Why: tuning, Harmless: true}
	add(policy.ConfigMap, process, "max-worker-connections=16384", "max-worker-open-files=0", "worker-processes", "worker-cpu-affinity", "enable-multi-accept",
		"enable-aio-write", "reuse-port", "map-hash-bucket-size=64", "server-name-hash-max-size=1024", "server-name-hash-bucket-size",
		"proxy-headers-hash-max-size=512", "proxy-headers-hash-bucket-size=64", "variables-hash-bucket-size=256", "variables-hash-max-size=2048",
		"lua-shared-dicts", "enable-serial-reloads", "debug-connections", "ssl-buffer-size=4k", "grpc-buffer-size-kb=0")
	add(policy.ConfigMap, policy.Refusal{Why: deadThere, Harmless: true}, "http2-max-field-size", "http2-max-header-size", "http2-max-requests",
		"use-geoip", "jaeger-collector-host", "jaeger-collector-port", "jaeger-endpoint", "jaeger-service-name", "jaeger-propagation-format",
		"jaeger-sampler-type", "jaeger-sampler-param", "jaeger-sampler-host", "jaeger-sampler-port", "jaeger-trace-context-header-name",
		"jaeger-debug-header", "jaeger-baggage-header", "jaeger-trace-baggage-header-prefix")
	add(policy.ConfigMap, policy.Refusal{Why: "there are no files here whose type it would be: Pods say theirs, and Podlane's own answers are text/plain", Harmless: true}, "default-type=text/html")
	add(policy.ConfigMap, policy.Refusal{Why: "Go's TLS has no finite-field Diffie-Hellman, so there is nothing to set", Harmless: true}, "ssl-dh-param")
	add(policy.ConfigMap, policy.Refusal{Why: "sessions are resumed by tickets, which need no cache", Instead: "see ssl-session-tickets", Harmless: true},
		"ssl-session-cache=true", "ssl-session-cache-size=10m")
	add(policy.ConfigMap, policy.Refusal{Why: "tickets are good for as long as their keys are, and for a week at most", Instead: "change ssl-session-ticket-key to end them", Harmless: true},
		"ssl-session-timeout=10m")
	add(policy.ConfigMap, policy.Refusal{Why: "responses of OCSP are not fetched", Instead: "use certificates of short life, as authorities that have ended OCSP ask"}, "enable-ocsp=false")
	add(policy.ConfigMap, policy.Refusal{Why: "requests in the first flight of TLS 1.3 can be replayed by anyone who sees them"}, "ssl-early-data=false")
	add(policy.ConfigMap, policy.Refusal{Why: "the access log is one", Instead: "write --access-log"}, "access-log-path=/var/log/nginx/access.log", "http-access-log-path")
	add(policy.ConfigMap, policy.Refusal{Why: "lines are written together and never keep a request waiting, in any case", Harmless: true}, "access-log-params")
	add(policy.ConfigMap, policy.Refusal{Why: "requests to authentication services are not in the access log", Instead: "see their own", Harmless: true}, "enable-auth-access-log=false")
	add(policy.ConfigMap, policy.Refusal{Why: "Podlane's own log goes to stderr", Instead: "write --log-level", Harmless: true}, "error-log-path=/var/log/nginx/error.log", "error-log-level=notice")
	addresses := policy.Refusal{Why: "the addresses that Podlane listens on are flags", Instead: "write --http-address and --https-address, as in 0.0.0.0:80 for IPv4 alone"}
	add(policy.ConfigMap, addresses, "bind-address", "disable-ipv6=false")
	add(policy.ConfigMap, policy.Refusal{Why: "names are looked up only for Services of type ExternalName, of which every address is good", Harmless: true}, "disable-ipv6-dns=false")
	add(policy.ConfigMap, policy.Refusal{Why: "there is no proxy for TCP and UDP here", Instead: "use a Service of type LoadBalancer", Harmless: true},
		"proxy-stream-timeout=600s", "proxy-stream-next-upstream=true", "proxy-stream-next-upstream-timeout=600s", "proxy-stream-next-upstream-tries=3",
		"proxy-stream-responses=1", "log-format-stream", "stream-access-log-path", "disable-stream-access-log=false")
	add(policy.ConfigMap, policy.Refusal{Why: "the access log goes to stdout, stderr or a file", Instead: "have the agent on the node send it on"}, "enable-syslog=false", "syslog-host", "syslog-port=514")
	add(policy.ConfigMap, policy.Refusal{Why: "there are no databases of places here", Instead: "let the Pods, or who reads the log, look the addresses up"}, "use-geoip2=false", "geoip2-autoreload-in-minutes=0")
	add(policy.ConfigMap, policy.Refusal{Why: "there is no page of nginx's status", Instead: "see --metrics-address", Harmless: true}, "nginx-status-ipv4-whitelist=127.0.0.1", "nginx-status-ipv6-whitelist=::1")
	add(policy.ConfigMap, policy.Refusal{Why: "the proxy-ssl annotations are for the routes of their own Ingress in any case", Harmless: true}, "proxy-ssl-location-only=false")
	add(policy.ConfigMap, policy.Refusal{Why: "buffers grow to what large-client-header-buffers allows", Harmless: true}, "client-header-buffer-size=1k")
	add(policy.ConfigMap, policy.Refusal{Why: "it names a field that nginx needs in between", Harmless: true}, "forwarded-for-proxy-protocol-header=X-Forwarded-For-Proxy-Protocol")
	return list
}
