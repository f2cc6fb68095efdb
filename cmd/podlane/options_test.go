package main

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
)

// optionsFrom parses a command line into what the engine gets.
func optionsFrom(t *testing.T, args ...string) proxy.Options {
	t.Helper()
	h, u := config.NewHTTP(), config.NewUpstream()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	h.AddFlags(fs)
	u.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return engineOptions(h, u)
}

var comparePrefixes = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.IgnoreFields(proxy.Options{}, "Policies"), // they hold functions
}

// TestEveryLimitReachesTheEngine sets each flag of clients and Pods, one at a time: one that changes nothing is a lie in --help.
func TestEveryLimitReachesTheEngine(t *testing.T) {
	all := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.NewHTTP().AddFlags(all)
	config.NewUpstream().AddFlags(all)
	defaults := optionsFrom(t)
	// Some mean nothing alone.
	with := map[string]string{"use-proxy-protocol": "--trusted-proxies=10.1.0.0/16", "proxy-protocol-trusted": "--use-proxy-protocol"}
	all.VisitAll(func(f *pflag.Flag) {
		defaults, args := defaults, []string(nil)
		if other := with[f.Name]; other != "" {
			args = append(args, other)
			defaults = optionsFrom(t, args...)
		}
		other := map[string]string{"duration": "17s", "size": "12345", "int": "17", "bool": "true", "string": "elsewhere", "CIDR,...": "10.0.0.0/8", "drop|reject|keep": "keep"}
		value, ok := other[f.Value.Type()]
		if !ok {
			t.Fatalf("--%s has type %s, which this test does not know", f.Name, f.Value.Type())
		}
		if cmp.Equal(defaults, optionsFrom(t, append(args, "--"+f.Name+"="+value)...), comparePrefixes) {
			t.Errorf("--%s=%s changes nothing", f.Name, value)
		}
	})
}

// TestZeroMeansNoLimit: the packages below take 0 for their defaults.
func TestZeroMeansNoLimit(t *testing.T) {
	o := optionsFrom(t, "--proxy-body-size=0", "--keep-alive=0", "--client-header-timeout=0", "--proxy-header-timeout=0", "--keep-alive-requests=0",
		"--upstream-keepalive-connections=0", "--upstream-keepalive-requests=0", "--max-fails=0", "--retry-percent=0", "--endpoint-drain-timeout=0")
	for name, n := range map[string]int64{
		"body size": o.MaxBody, "keep-alive": int64(o.Timeouts.Idle), "header timeout": int64(o.Timeouts.Header),
		"upstream header timeout": int64(o.Timeouts.UpstreamHeader), "idle connections": int64(o.Upstream.MaxIdlePerEndpoint),
		"upstream requests": int64(o.Upstream.MaxRequests), "max fails": int64(o.Upstream.MaxFails),
		"retry percent": int64(o.Upstream.RetryPercent), "drain timeout": int64(o.Upstream.DrainTimeout),
	} {
		if n >= 0 {
			t.Errorf("%s is %d, want a negative number, which means off", name, n)
		}
	}
	if o.MaxRequests < 1<<30 {
		t.Errorf("requests of a connection: %d, want no limit in practice", o.MaxRequests)
	}
}

// TestDefaults: an option that is not given must not change what the engine would do anyway.
func TestDefaults(t *testing.T) {
	o := optionsFrom(t)
	if o.MaxBody != 1<<20 || o.MaxRequests != 10_000 || o.MaxConnections != 0 || len(o.TrustedProxies) != 0 || o.AllowHalfClose {
		t.Errorf("defaults %+v", o)
	}
	if len(o.Policies) != len(config.Policies()) {
		t.Errorf("%d policies, want all %d", len(o.Policies), len(config.Policies()))
	}
}
