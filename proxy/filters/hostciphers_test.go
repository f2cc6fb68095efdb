package filters_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

func hostCiphers(t *testing.T) filters.Policy {
	t.Helper()
	for _, p := range config.Policies() {
		if p.FamilyName() == router.CiphersFamily {
			return p
		}
	}
	t.Fatal("the family is not among config.Policies")
	return nil
}

func TestHostCiphers(t *testing.T) {
	family := hostCiphers(t)
	for _, c := range []struct {
		text, want string
		unknown    []string
	}{
		{"ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", nil},
		{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", nil},
		{"ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:!aNULL", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", []string{"DHE-RSA-AES128-GCM-SHA256"}},
		{"AES128-SHA:RC4-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA", []string{"RC4-SHA"}},
		{"", "those of all hosts", nil},
	} {
		parsed, err := family.ParseValues(policy.Values{"ssl-ciphers": c.text}, nil)
		choice, _ := parsed.(router.CipherChoice)
		if err != nil || choice.String() != c.want || !slices.Equal(choice.Unknown, c.unknown) {
			t.Errorf("%q: %v, without %q, %v; want %s", c.text, choice, choice.Unknown, err, c.want)
		}
	}
	// A mistake in one key costs the other nothing.
	_, err := family.ParseValues(policy.Values{"ssl-ciphers": "DHE-RSA-AES128-GCM-SHA256", "ssl-prefer-server-ciphers": "false"}, nil)
	refused, ok := errors.AsType[policy.RefusedError](err)
	if invalid, also := errors.AsType[*policy.ValueError](err); !ok || !refused.Harmless || !also || invalid.Key != "ssl-ciphers" {
		t.Errorf("both wrong: %v", err)
	}
	if _, err := family.ParseValues(policy.Values{"ssl-prefer-server-ciphers": "true"}, nil); err != nil {
		t.Errorf("what holds in any case: %v", err)
	}
	if _, err := family.ParseValues(policy.Values{"ssl-ciphers": strings.Repeat("X:", 1<<16)}, nil); err == nil {
		t.Error("65,536 words that mean nothing are taken")
	}
}
