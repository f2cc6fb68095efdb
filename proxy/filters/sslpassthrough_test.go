package filters_test

import (
	"testing"

	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

func TestSSLPassthrough(t *testing.T) {
	on, off := filters.SSLPassthrough(), filters.WithoutSSLPassthrough([]filters.Policy{filters.HSTS(), filters.SSLPassthrough()})[1]
	for _, c := range []struct {
		values policy.Values
		want   router.Passthrough
		text   string
	}{
		{policy.Values{"ssl-passthrough": "true"}, router.Passthrough{On: true}, "ssl-passthrough on"},
		{policy.Values{"ssl-passthrough": "1", "ssl-passthrough-proxy-protocol": "off"}, router.Passthrough{On: true}, "ssl-passthrough on"},
		{policy.Values{"ssl-passthrough": "true", "ssl-passthrough-proxy-protocol": "v1"}, router.Passthrough{On: true, ProxyHeader: 1}, "ssl-passthrough on, PROXY header v1"},
		{policy.Values{"ssl-passthrough": "true", "ssl-passthrough-proxy-protocol": " v2 "}, router.Passthrough{On: true, ProxyHeader: 2}, "ssl-passthrough on, PROXY header v2"},
		{policy.Values{"ssl-passthrough": "false", "ssl-passthrough-proxy-protocol": "v2"}, router.Passthrough{ProxyHeader: 2}, "ssl-passthrough off"},
		{policy.Values{"ssl-passthrough-proxy-protocol": "off"}, router.Passthrough{}, "ssl-passthrough off"},
	} {
		parsed, err := on.ParseValues(c.values, nil)
		if parsed != c.want || err != nil {
			t.Errorf("%v: %v, %v; want %v", c.values, parsed, err, c.want)
			continue
		}
		value := policy.Value{Family: "ssl-passthrough", Parsed: parsed}
		if value.String() != c.text {
			t.Errorf("%v: text %q, want %q", c.values, value, c.text)
		}
		if _, err := off.ParseValues(c.values, nil); (err != nil) != c.want.On {
			t.Errorf("%v where the process has it off: %v", c.values, err)
		}
	}
	for _, family := range []filters.Policy{on, off} {
		if _, err := family.ParseValues(policy.Values{"ssl-passthrough": "yes"}, nil); err == nil {
			t.Error("yes is taken for true")
		}
		if _, ok := family.DefaultValue(&router.Route{}); ok {
			t.Error("it holds without annotations")
		}
	}
}
