package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

// groups returns the option structs of both commands, by command.
func groups() map[string][]config.Group {
	return map[string][]config.Group{
		"controller": {
			config.ControllerListeners(), config.ControllerIngress(), config.NewCluster(),
			config.ControllerLog(), config.ControllerShutdown(),
		},
		"serve": {
			config.ServeListeners(), config.ServeIngress(), config.ServeLog(), config.ServeShutdown(),
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

		{config.NewCluster(), "--watch-namespace=a,B", []string{"--watch-namespace", `"B"`}},
		{config.NewCluster(), "--publish-service=svc", []string{"--publish-service", "write default/svc"}},
		{config.NewCluster(), "--publish-service=a/b --publish-status-address=192.0.2.1", []string{"--publish-service", "write only one"}},
		{config.NewCluster(), "--publish-status-address=192.0.2.1,a_b", []string{"--publish-status-address", `"a_b"`, "192.0.2.1"}},
		{config.NewCluster(), "--election-id=", []string{"--election-id", "podlane-leader"}},
		{config.NewCluster(), "--election-ttl=1s", []string{"--election-ttl", "1s is too small", "write 5s or more"}},
		{config.NewCluster(), "--election-ttl=soon", []string{"--election-ttl", `"soon" is not a duration`, "10s"}},
		{config.NewCluster(), "--election-namespace=A", []string{"--election-namespace", `"A"`}},

		{config.ServeLog(), "--log-level=loud", []string{"--log-level", `"loud" is unknown`, "debug, info, warn, error"}},
		{config.ServeLog(), "--log-format=xml", []string{"--log-format", "json, text"}},
		{config.ServeLog(), "--access-log=", []string{"--access-log is empty", "stdout"}},

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
	} {
		if err := parse(tc.group, strings.Fields(tc.args)...); err != nil {
			t.Errorf("%s: %v", tc.args, err)
		}
	}
}

func TestIngressOptions(t *testing.T) {
	controller := ingress.Options{
		ControllerClass: "podlane.dev/ingress-controller", IngressClass: "podlane",
		AnnotationPrefixes: []string{"nginx.ingress.kubernetes.io", "podlane.dev"},
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
	families, keys := map[string]bool{}, map[string]string{}
	for _, p := range config.Policies() {
		name := p.FamilyName()
		if name == "" || families[name] {
			t.Errorf("family name %q is empty or taken", name)
		}
		families[name] = true
		if e := p.InvalidEffect(); e != policy.Ignore && e != policy.Deny {
			t.Errorf("%s does not say what an invalid value does", name)
		}
		for _, key := range p.FamilyKeys() {
			if owner, ok := keys[key.Name]; ok {
				t.Errorf("%s: key %s belongs to %s", name, key.Name, owner)
			}
			keys[key.Name] = name
			if key.Doc == "" || key.Example == "" || key.Default == "" || key.Kind == "" {
				t.Errorf("%s: key %s lacks a doc, kind, default or example", name, key.Name)
			}
			if _, err := p.ParseValues(policy.Values{key.Name: key.Example}); err != nil {
				t.Errorf("%s: the example of %s does not parse: %v", name, key.Name, err)
			}
		}
	}
}
