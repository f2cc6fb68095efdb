package policies_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/ingress"
)

// effectsElsewhere are the annotations whose effect no file's answers can show, besides those of elsewhere, because it needs time, concurrency or a Pod that
// fails, or is left to chance: the Go test that shows it, by folder and name.
var effectsElsewhere = map[string]string{
	"limit-rps":               "proxy:TestRefusedRequestsCountInNeitherRate",
	"limit-connections":       "proxy:TestLimitOfRequestsAtOnce",
	"limit-rate":              "proxy:TestLimitRate",
	"limit-rate-after":        "proxy:TestLimitRate",
	"client-body-buffer-size": "proxy:TestBodyIsReadFirst",
	"proxy-request-buffering": "proxy:TestBodyIsReadFirst",

	"proxy-connect-timeout":       "proxy:TestConnectTimeoutOfRoute",
	"proxy-send-timeout":          "proxy:TestSendTimeoutOfRoute",
	"proxy-read-timeout":          "proxy:TestTimeoutsOfRoute",
	"proxy-next-upstream":         "proxy:TestNextUpstream",
	"proxy-next-upstream-timeout": "proxy:TestNextUpstream",
	"proxy-next-upstream-tries":   "proxy:TestNextUpstream",

	"load-balance":                 "proxy:TestEWMA",
	"upstream-hash-by":             "proxy:TestHashBy",
	"upstream-hash-by-subset":      "proxy:TestHashBySubset",
	"upstream-hash-by-subset-size": "proxy:TestHashBySubset",

	"mirror-target":       "proxy:TestMirror",
	"mirror-request-body": "proxy:TestMirrorOptions",
	"mirror-host":         "proxy:TestMirrorOptions",

	"ssl-ciphers":                      "cmd/podlane:TestServeHostCiphers",
	"session-cookie-expires":           "proxy:TestCookieExpires",
	"session-cookie-change-on-failure": "proxy:TestClientsWhosePodFails",
}

// annotationsWithoutEffect are accepted and change no answer, as their docs say.
var annotationsWithoutEffect = []string{
	"ssl-prefer-server-ciphers", "proxy-http-version", "proxy-buffering", "proxy-buffers-number", "proxy-busy-buffers-size", "proxy-max-temp-file-size",
	"auth-keepalive", "auth-keepalive-requests", "auth-keepalive-timeout", "auth-keepalive-share-vars",
}

// TestEveryAnnotationHasAnEffect: every annotation that Podlane obeys stands in a file with a request whose answer is another once it is taken from its
// Ingress, or has a Go test that is named.
func TestEveryAnnotationHasAnEffect(t *testing.T) {
	t.Parallel()
	effective := map[string]bool{}
	for archive := range examples(t) {
		coverEffects(t, archive, effective)
	}
	for key := range obeyed() {
		name := key.Name
		test, there := effectsElsewhere[name]
		_, covered := elsewhere[name]
		switch {
		case !key.InAnnotations() || covered || slices.Contains(annotationsWithoutEffect, name):
		case there:
			checkElsewhere(t, name, test)
			checkMentioned(t, name, test)
		case !effective[name]:
			t.Errorf("%s: no answer is another without it", name)
		}
	}
}

// coverEffects takes the annotations from a file's Ingresses one by one, and notes those without which an answer is another.
func coverEffects(t *testing.T, archive *txtar.Archive, effective map[string]bool) {
	t.Helper()
	s := read(t, archive)
	var before outcome
	for i, object := range s.Ingresses {
		for _, annotation := range slices.Sorted(maps.Keys(object.Annotations)) {
			name := nameOf(annotation)
			_, chance := effectsElsewhere[name]
			if _, covered := elsewhere[name]; covered || chance || effective[name] || slices.Contains(annotationsWithoutEffect, name) {
				continue
			}
			if before.answers == nil {
				before = outcomeOf(t, archive, s)
			}
			without := s
			without.Ingresses = slices.Clone(s.Ingresses)
			without.Ingresses[i] = object.DeepCopy()
			delete(without.Ingresses[i].Annotations, annotation)
			effective[name] = !maps.Equal(outcomeOf(t, archive, without).answers, before.answers)
		}
	}
}

// outcome is what a Snapshot comes to: its table, and the answers to a file's requests by name.
type outcome struct {
	table   string
	answers map[string]string
}

func outcomeOf(t *testing.T, archive *txtar.Archive, s ingress.Snapshot) outcome {
	t.Helper()
	table, _ := ingress.Build(s, filters.Families(config.Policies()))
	o := outcome{table.String(), map[string]string{}}
	r := start(t, s, table)
	for _, f := range archive.Files {
		if name, ok := strings.CutPrefix(f.Name, "> "); ok {
			o.answers[name] = r.exchange(t, f.Data)
		}
	}
	return o
}
