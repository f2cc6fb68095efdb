package config_test

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
	"podlane.dev/podlane/router/snippet"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// groups returns the option structs of both commands, by command.
func groups() map[string][]config.Group {
	return map[string][]config.Group{
		"controller": {
			config.ControllerListeners(), config.ControllerIngress(), config.NewCluster(),
			config.ControllerLog(), config.ControllerShutdown(), config.NewHTTP(), config.NewHTTP2(), config.NewTLS(), config.NewUpstream(), config.NewMetrics(), config.NewTracing(),
		},
		"serve": {
			config.ServeListeners(), config.ServeIngress(), config.ServeLog(), config.ServeShutdown(),
			config.NewHTTP(), config.NewHTTP2(), config.NewTLS(), config.NewUpstream(), config.NewMetrics(), config.NewTracing(),
		},
	}
}

// parse binds group to a new flag set and parses args; the error is the first of parsing and validation.
func parse(group config.Group, args ...string) error {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.SetOutput(new(strings.Builder))
	group.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	return group.Validate()
}

func TestDefaultsAreValidAndDocumented(t *testing.T) {
	for command, list := range groups() {
		all := pflag.NewFlagSet(command, pflag.ContinueOnError)
		for _, group := range list {
			if group.Title() == "" {
				t.Errorf("%s: %T has no title", command, group)
			}
			group.AddFlags(all) // panics when two groups share a flag
			if err := group.Validate(); err != nil {
				t.Errorf("%s: defaults of %T: %v", command, group, err)
			}
		}
		all.VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") || strings.Contains(f.Usage, "\n") {
				t.Errorf("%s: --%s: usage %q, want one line without a full stop", command, f.Name, f.Usage)
			}
			if f.DefValue == "" || f.Value.Type() == "bool" {
				return
			}
			if err := f.Value.Set(f.DefValue); err != nil {
				t.Errorf("%s: --%s does not take its own default: %v", command, f.Name, err)
			}
		})
	}
}

func TestMistakesNameTheFlagAndTheRemedy(t *testing.T) {
	for _, tc := range []struct {
		group config.Group
		args  string
		want  []string // in the error, in this order
	}{
		{config.ServeListeners(), "--http-address=8080", []string{"--http-address", `"8080" is not host:port`, "write 127.0.0.1:8080"}},
		{config.ServeListeners(), "--http-address=:http", []string{"--http-address", `port "http"`, "write :8080"}},
		{config.ServeListeners(), "--http-address=:70000", []string{"--http-address", "65535"}},
		{config.ServeListeners(), "--http-address=example.com:80", []string{"--http-address", "not an IP address", "write 127.0.0.1:80"}},
		{config.ServeListeners(), "--http-address=127.0.0.1:80,", []string{"--http-address", `"" is not host:port`}},
		{config.ServeListeners(), "--http-address=off --https-address=off", []string{"--http-address", "--https-address", "both off"}},
		{config.ServeListeners(), "--http-address=:1,:2 --https-address=:2", []string{"--https-address", ":2 is also in --http-address"}},
		{config.ServeListeners(), "--http-address=localhost:8443", []string{"--https-address", "127.0.0.1:8443 is also in --http-address"}},
		{config.ControllerListeners(), "--metrics-address=127.0.0.1:9091", []string{"--metrics-address", "also in --admin-address"}},
		{config.ServeListeners(), "--metrics-address=:1", []string{"unknown flag: --metrics-address"}},

		{config.ControllerIngress(), "--controller-class=podlane", []string{"--controller-class", "write podlane.dev/ingress-controller"}},
		{config.ControllerIngress(), "--controller-class=", []string{"--controller-class", "write podlane.dev/ingress-controller"}},
		{config.ControllerIngress(), "--ingress-class=", []string{"--ingress-class is empty", "write podlane"}},
		{config.ControllerIngress(), "--ingress-class=My_Class", []string{"--ingress-class", `"My_Class"`, "podlane"}},
		{config.ServeIngress(), "--ingress-class-by-name", []string{"--ingress-class is empty"}},
		{config.ServeIngress(), "--default-backend-service=web", []string{"--default-backend-service", "write default/web"}},
		{config.ServeIngress(), "--default-backend-service=a/b/c", []string{"--default-backend-service", "namespace/name"}},
		{config.ServeIngress(), "--default-ssl-certificate=/tls", []string{"--default-ssl-certificate", "namespace/name"}},
		{config.ServeIngress(), "--annotations-prefix=acme.io/", []string{"--annotations-prefix", "write acme.io"}},
		{config.ServeIngress(), "--annotations-prefix=Acme", []string{"--annotations-prefix", "Acme"}},
		{config.ServeIngress(), "--allow-external-name=maybe", []string{"--allow-external-name", "maybe"}},

		{config.NewHTTP2(), "--http2-max-concurrent-streams=0", []string{"--http2-max-concurrent-streams", "1"}},
		{config.NewCluster(), "--watch-namespace=a,B", []string{"--watch-namespace", `"B"`}},
		{config.ControllerIngress(), "--configmap=podlane", []string{"--configmap", "write default/podlane"}},
		{config.ControllerIngress(), "--compat=nginx", []string{"--compat", "write class"}},
		{config.NewCluster(), "--publish-service=svc", []string{"--publish-service", "write default/svc"}},
		{config.NewCluster(), "--publish-service=a/b --publish-status-address=192.0.2.1", []string{"--publish-service", "write only one"}},
		{config.NewCluster(), "--publish-service=a/b --publish-node-addresses", []string{"--publish-node-addresses", "write only one"}},
		{config.NewCluster(), "--report-node-internal-ip-address", []string{"--report-node-internal-ip-address", "write --publish-node-addresses too"}},
		{config.NewCluster(), "--publish-status-address=192.0.2.1,a_b", []string{"--publish-status-address", `"a_b"`, "192.0.2.1"}},
		{config.NewCluster(), "--election-id=", []string{"--election-id", "podlane-leader"}},
		{config.NewCluster(), "--election-ttl=1s", []string{"--election-ttl", "1s is too small", "write 5s or more"}},
		{config.NewCluster(), "--election-ttl=soon", []string{"--election-ttl", `"soon" is not a duration`, "10s"}},
		{config.NewCluster(), "--election-namespace=A", []string{"--election-namespace", `"A"`}},

		{config.NewCluster(), "--brake-percent=100", []string{"--brake-percent", "100 is not a share", "write 1 to 99"}},
		{config.NewCluster(), "--brake-hold=1h", []string{"--brake-hold", "1h0m0s is too long", "10m0s or less"}},
		{config.NewCluster(), "--brake-hold=30s --brake-percent=0", []string{"--brake-hold", "write --brake-percent=50"}},

		{config.ServeLog(), "--log-level=loud", []string{"--log-level", `"loud" is unknown`, "debug, info, warn, error"}},
		{config.ServeLog(), "--log-format=xml", []string{"--log-format", "json, text"}},
		{config.ServeLog(), "--access-log-format=", []string{"--access-log-format is empty", "json"}},
		{config.ServeLog(), "--access-log-format=$http_cookie", []string{"--access-log-format", "$http_cookie", "never logged"}},
		{config.ServeLog(), "--access-log-format=$statuss", []string{"--access-log-format", "$status"}},
		{config.ServeLog(), "--access-log=", []string{"--access-log is empty", "stdout"}},

		{config.NewHTTP(), "--trusted-proxies=10.0.0.1/8", []string{"--trusted-proxies", "write 10.0.0.0/8"}},
		{config.NewHTTP(), "--use-proxy-protocol", []string{"--use-proxy-protocol", "nobody is trusted", "write --proxy-protocol-trusted=10.0.0.0/8"}},
		{config.NewHTTP(), "--use-proxy-protocol --proxy-protocol-trusted=lb", []string{"--proxy-protocol-trusted", `"lb" is not an address range`}},
		{config.NewHTTP(), "--request-line-size=100", []string{"--request-line-size", "100 is too small", "write 512 or more"}},
		{config.NewHTTP(), "--request-header-size=1kb", []string{"--request-header-size", "not a size", "8k"}},
		{config.NewHTTP(), "--request-header-fields=1", []string{"--request-header-fields", "1 is too small", "10"}},
		{config.NewHTTP(), "--proxy-body-size=-1", []string{"--proxy-body-size", "not a size"}},
		{config.NewHTTP(), "--keep-alive-requests=-1", []string{"--keep-alive-requests", "write 0 or more"}},
		{config.NewHTTP(), "--max-connections=many", []string{"--max-connections", "many"}},
		{config.NewHTTP(), "--underscores-in-headers=yes", []string{"--underscores-in-headers", "drop, reject, keep"}},
		{config.NewHTTP(), "--keep-alive=forever", []string{"--keep-alive", "not a duration"}},

		{config.NewUpstream(), "--proxy-connect-timeout=0", []string{"--proxy-connect-timeout", "0s is too small", "1ms"}},
		{config.NewUpstream(), "--upstream-keepalive-timeout=0", []string{"--upstream-keepalive-timeout", "too small"}},
		{config.NewUpstream(), "--fail-timeout=0", []string{"--fail-timeout", "too small"}},
		{config.NewUpstream(), "--max-fails=-1", []string{"--max-fails", "write 0 or more"}},
		{config.NewUpstream(), "--response-header-size=1", []string{"--response-header-size", "write 1k or more"}},

		{config.NewMetrics(), "--metrics-detail=host", []string{"--metrics-detail", "namespace, service, route"}},
		{config.NewMetrics(), "--metrics-max-series=10", []string{"--metrics-max-series", "10 is too small", "write 1000 or more"}},
		{config.NewMetrics(), "--metrics-compat=nginx", []string{"--metrics-compat", `"nginx" is unknown`, "off, ingress-nginx"}},
		{config.NewMetrics(), "--time-buckets=0.1,0.1", []string{"--time-buckets", `"0.1"`, "write"}},
		{config.NewMetrics(), "--time-buckets=NaN", []string{"--time-buckets", `"NaN"`, "write"}},
		{config.NewMetrics(), "--time-buckets=" + strings.Repeat("1,", 25), []string{"--time-buckets", "25 are too many"}},

		{config.NewTracing(), "--otlp-endpoint=collector:4317", []string{"--otlp-endpoint", "grpc://collector:4317"}},
		{config.NewTracing(), "--otlp-service-name=", []string{"--otlp-service-name", "write"}},
		{config.NewTracing(), "--otlp-sampler=AlwaysOn", []string{"--otlp-sampler", "always, never, ratio"}},
		{config.NewTracing(), "--otlp-sampler-ratio=2", []string{"--otlp-sampler-ratio", "write a number from 0 to 1"}},
		{config.NewTracing(), "--otlp-sampler-ratio=NaN", []string{"--otlp-sampler-ratio", "write a number from 0 to 1"}},
		{config.NewTracing(), "--otlp-resource=cluster", []string{"--otlp-resource", `"cluster"`, "write k8s.cluster.name=east"}},
		{config.NewTracing(), "--otlp-headers-file=/nowhere", []string{"--otlp-headers-file", "/nowhere"}},
		{config.NewTracing(), "--otlp-ca-file=/dev/null", []string{"--otlp-ca-file", "no certificate"}},
		{config.NewTracing(), "--otlp-queue-spans=0", []string{"--otlp-queue-spans", "write 1 or more"}},
		{config.NewTracing(), "--otlp-batch-spans=0", []string{"--otlp-batch-spans", "write 1 or more"}},
		{config.NewTracing(), "--otlp-delay=0", []string{"--otlp-delay", "write 1ms or more"}},

		{config.NewTLS(), "--ssl-protocols=SSLv3", []string{"--ssl-protocols", "SSLv3", "TLSv1.2"}},
		{config.NewTLS(), "--ssl-protocols=TLSv1,TLSv1.3", []string{"--ssl-protocols", "missing"}},
		{config.NewTLS(), "--ssl-ciphers=ECDHE-RSA-AES128-GCM-SHA256:nonsense", []string{"--ssl-ciphers", "nonsense", "write"}},
		{config.NewTLS(), "--ssl-ecdh-curve=P-256:nonsense", []string{"--ssl-ecdh-curve", "nonsense", "write auto"}},
		{config.NewTLS(), "--ssl-handshake-timeout=0", []string{"--ssl-handshake-timeout", "too small"}},
		{config.NewTLS(), "--ssl-client-hello-timeout=0", []string{"--ssl-client-hello-timeout", "too small"}},
		{config.NewTLS(), "--keep-stale-certificate=0", []string{"--keep-stale-certificate", "too small"}},

		{config.ServeShutdown(), "--drain-delay=-1s", []string{"--drain-delay", "not a duration"}},
		{config.ServeShutdown(), "--shutdown-timeout=1y", []string{"--shutdown-timeout", "not a duration"}},
	} {
		err := parse(tc.group, strings.Fields(tc.args)...)
		if err == nil {
			t.Errorf("%s: no error", tc.args)
			continue
		}
		rest := err.Error()
		if strings.Contains(rest, "\n") {
			t.Errorf("%s: more than one line: %q", tc.args, rest)
		}
		for _, want := range tc.want {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Errorf("%s: error %q, want %q in it", tc.args, err, want)
				break
			}
			rest = after
		}
	}
}

// TestLostLeaderIsReplacedInTime: without flags the status of Ingresses is right 15 s after a leader was killed. Another replica waits for the Lease to run out,
// and then for its next try, which client-go may put off to 2.2 times its period.
func TestLostLeaderIsReplacedInTime(t *testing.T) {
	t.Parallel()
	ttl := config.NewCluster().ElectionTTL
	if worst := ttl + time.Duration(2.2*float64(ttl*2/15)); worst > 14*time.Second {
		t.Errorf("another leader is found %s after the end of one, want a second to write status until 15 s", worst)
	}
}

func TestAnnouncedFrom(t *testing.T) {
	for args, want := range map[string]string{
		"": "", "--trusted-proxies=10.0.0.0/8": "", "--proxy-protocol-trusted=10.0.0.0/8": "",
		"--use-proxy-protocol --trusted-proxies=10.0.0.0/8":                                         "10.0.0.0/8",
		"--use-proxy-protocol --trusted-proxies=10.0.0.0/8 --proxy-protocol-trusted=192.0.2.1,::/0": "192.0.2.1/32,::/0",
	} {
		h := config.NewHTTP()
		if err := parse(h, strings.Fields(args)...); err != nil {
			t.Fatal(err)
		}
		from := h.AnnouncedFrom()
		if from.String() != want {
			t.Errorf("%s: %s, want %s", args, from.String(), want)
		}
	}
}

// What the process has off no annotation turns on, and whoever asks for it is told which option is missing.
func TestFamiliesWithoutPassthrough(t *testing.T) {
	for _, on := range []bool{false, true} {
		o := config.ServeIngress()
		o.Passthrough = on
		families := o.Families()
		if len(families) != len(config.Policies()) {
			t.Errorf("%d families, want %d", len(families), len(config.Policies()))
		}
		i := slices.IndexFunc(families, func(f policy.Family) bool { return f.FamilyName() == "ssl-passthrough" })
		if _, err := families[i].ParseValues(policy.Values{"ssl-passthrough": "true"}, nil); (err == nil) != on || err != nil && !strings.Contains(err.Error(), "--enable-ssl-passthrough") {
			t.Errorf("--enable-ssl-passthrough=%v: %v", on, err)
		}
		if _, err := families[i].ParseValues(policy.Values{"ssl-passthrough": "false"}, nil); err != nil {
			t.Errorf("false: %v", err)
		}
	}
}

func TestValidCombinations(t *testing.T) {
	for _, tc := range []struct {
		group config.Group
		args  string
	}{
		{config.ServeListeners(), "--http-address=127.0.0.1:0 --https-address=127.0.0.1:0 --admin-address=127.0.0.1:0"},
		{config.ServeListeners(), "--http-address=[::1]:8080,127.0.0.1:8080 --https-address=off --admin-address="},
		{config.ControllerIngress(), "--ingress-class=nginx --controller-class=k8s.io/ingress-nginx"},
		{config.ServeIngress(), "--ingress-class-by-name --ingress-class=nginx"},
		{config.NewCluster(), "--publish-status-address=192.0.2.1,2001:db8::1,lb.example.com"},
		{config.NewCluster(), "--disable-leader-election --election-id="},
		{config.ServeShutdown(), "--drain-delay=0 --shutdown-timeout=0"},
		{config.NewHTTP(), "--use-proxy-protocol --trusted-proxies=10.0.0.0/8 --proxy-protocol-header-timeout=0"},
		{config.NewHTTP(), "--use-proxy-protocol --proxy-protocol-trusted=0.0.0.0/0,::/0"},
		{config.NewHTTP(), "--keep-alive=0 --client-header-timeout=0 --keep-alive-requests=0 --proxy-body-size=0"},
		{config.NewUpstream(), "--proxy-header-timeout=0 --max-fails=0 --upstream-keepalive-connections=0 --upstream-keepalive-time=0"},
		{config.NewMetrics(), "--metrics-detail=route --time-buckets=0.01,0.1,1"},
		{config.NewTLS(), "--ssl-protocols=TLSv1.3 --ssl-ecdh-curve=X25519:P-256 --ssl-ciphers=ECDHE+AESGCM"},
	} {
		if err := parse(tc.group, strings.Fields(tc.args)...); err != nil {
			t.Errorf("%s: %v", tc.args, err)
		}
	}
}

func TestTLSOptions(t *testing.T) {
	group := config.NewTLS()
	if err := parse(group, "--ssl-protocols=TLSv1.3", "--ssl-ecdh-curve=P-256", "--ssl-session-tickets=false", "--ssl-reject-handshake",
		"--keep-stale-certificate=1h", "--ssl-handshakes=7", "--ssl-handshake-timeout=3s", "--ssl-handshake-queue-timeout=1s"); err != nil {
		t.Fatal(err)
	}
	got, err := group.Server()
	if err != nil {
		t.Fatal(err)
	}
	want := server.Options{
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13, Curves: []tls.CurveID{tls.CurveP256}, Tickets: server.TicketsOff,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("server options (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(certs.Options{RejectUnknown: true, KeepStale: time.Hour}, group.Store()); diff != "" {
		t.Errorf("store options (-want +got):\n%s", diff)
	}
	limits := server.HandshakerOptions{Concurrency: 7, QueueTimeout: time.Second, Timeout: 3 * time.Second}
	if diff := cmp.Diff(limits, group.Handshaker()); diff != "" {
		t.Errorf("handshaker options (-want +got):\n%s", diff)
	}
}

func TestIngressOptions(t *testing.T) {
	controller := ingress.Options{
		ControllerClass: "podlane.dev/ingress-controller", IngressClass: "podlane",
		AnnotationPrefixes: []string{"nginx.ingress.kubernetes.io", "podlane.dev"},
		References:         ingress.ReferencesOf(filters.Families(config.Policies())),
	}
	for _, tc := range []struct {
		group *config.Ingress
		args  string
		want  func(*ingress.Options)
	}{
		{config.ControllerIngress(), "", func(*ingress.Options) {}},
		{config.ControllerIngress(), "--annotations-prefix=acme.io", func(o *ingress.Options) {
			o.AnnotationPrefixes = []string{"nginx.ingress.kubernetes.io", "acme.io", "podlane.dev"}
		}},
		{config.ControllerIngress(), "--annotations-prefix=podlane.dev", func(*ingress.Options) {}},
		{config.ControllerIngress(), "--watch-ingress-without-class --ingress-class-by-name --allow-external-name", func(o *ingress.Options) {
			o.WithoutClass, o.IngressClassByName, o.AllowExternalName = true, true, true
		}},
		{config.ControllerIngress(), "--default-backend-service=a/b --default-ssl-certificate=c/d", func(o *ingress.Options) {
			o.DefaultBackend, o.DefaultCertificate = "a/b", "c/d"
		}},
		{config.ControllerIngress(), "--claim-ingress-nginx --compat=off --configmap=a/b", func(o *ingress.Options) {
			o.ClaimNginx, o.Compat, o.Settings = true, ingress.CompatOff, "a/b"
		}},
		{config.ControllerIngress(), "--compat=class", func(*ingress.Options) {}},
		{config.ServeIngress(), "--compat=ingress-nginx", func(o *ingress.Options) {
			o.IngressClass, o.EveryClass, o.Compat = "", true, ingress.CompatNginx
		}},
		{config.ServeIngress(), "", func(o *ingress.Options) { o.IngressClass, o.EveryClass = "", true }},
		{config.ServeIngress(), "--ingress-class=nginx", func(o *ingress.Options) { o.IngressClass = "nginx" }},
	} {
		if err := parse(tc.group, strings.Fields(tc.args)...); err != nil {
			t.Errorf("%s: %v", tc.args, err)
		}
		want := controller
		tc.want(&want)
		if diff := cmp.Diff(want, tc.group.Options()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.args, diff)
		}
	}
}

// TestPolicies holds every family to what its author must not forget.
func TestPolicies(t *testing.T) {
	if err := policy.Validate(filters.Families(config.Policies())); err != nil {
		t.Error(err)
	}
}

func TestHTTPSPort(t *testing.T) {
	for addresses, want := range map[string]uint16{":8443": 8443, "127.0.0.1:443,:1": 443, "off": 0, "[::1]:0": 0} {
		l := config.ServeListeners()
		if err := l.HTTPS.Set(addresses); err != nil {
			t.Fatal(err)
		}
		if got := l.HTTPSPort(); got != want {
			t.Errorf("%s: port %d, want %d", addresses, got, want)
		}
		if l.PublicHTTPS = 444; l.HTTPSPort() != 444 {
			t.Errorf("%s behind port 444: port %d", addresses, l.HTTPSPort())
		}
	}
}

// TestSnippetsBecomeAnnotationsThatParse: what podlane lint and migrate offer in place of a snippet is what the families take.
func TestSnippetsBecomeAnnotationsThatParse(t *testing.T) {
	families := filters.Families(config.Policies())
	for _, text := range []string{
		`more_set_headers "X-A: b"; add_header X-B $host; add_header X-C c always; proxy_set_header X-D $remote_addr;`,
		"return 308 https://new.example/;", "return 307 https://new.example/;", "rewrite ^/$ /shop redirect;",
	} {
		got := snippet.Translate(text)
		if len(got.Annotations) == 0 || len(got.Left) > 0 {
			t.Errorf("%s: %v", text, got)
		}
		for key := range got.Annotations {
			at := slices.IndexFunc(families, func(f policy.Family) bool {
				return slices.ContainsFunc(f.FamilyKeys(), func(k policy.Key) bool { return (k.Name == key || k.Alias == key) && k.InAnnotations() })
			})
			if at < 0 {
				t.Errorf("%s: no family knows %s", text, key)
				continue
			}
			if _, err := families[at].ParseValues(policy.Values(got.Annotations), nil); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
}
