package filters_test

import (
	"testing"

	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
)

func TestMirrorTargets(t *testing.T) {
	family := filters.Mirrors()
	for text, ok := range map[string]bool{
		"https://a.example":                  true,
		"https://a.example/x?y=$args":        true,
		"https://a.example:8443$request_uri": true,
		"https://$host$request_uri":          true,
		"$scheme://a.example/":               true,
		"":                                   false,
		"https://":                           false,
		"https:///x":                         false,
		"a.example$request_uri":              false,
		"ftp://a.example$request_uri":        false,
		"$host":                              false,
		"https://a b$request_uri":            false,
	} {
		_, err := family.ParseValues(policy.Values{"mirror-target": text}, nil)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzMirror(f *testing.F) {
	f.Add("https://a.example$request_uri", "a.example", "on")
	f.Fuzz(func(t *testing.T, target, host, body string) {
		family := filters.Mirrors()
		v, err := family.ParseValues(policy.Values{"mirror-target": target, "mirror-host": host, "mirror-request-body": body}, nil)
		if err == nil && (policy.Value{Family: "mirror", Parsed: v}).String() == "" {
			t.Errorf("%q has no text", target)
		}
	})
}
