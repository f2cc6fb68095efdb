package policies_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/ingress"
)

// settingsElsewhere are the keys of the ConfigMap whose effect needs what a file cannot show (handshakes, time, connections, lines of a log, chance): the
// Go test that shows it, by folder and name. A file here still has each, for what becomes of its value in the table.
var settingsElsewhere = map[string]string{
	"use-proxy-protocol":            "proxy:TestProxyProtocolFromTheConfigMap",
	"proxy-protocol-header-timeout": "proxy:TestClientTimeoutsFollowTheConfigMap",
	"client-header-timeout":         "proxy:TestClientTimeoutsFollowTheConfigMap",
	"client-body-timeout":           "proxy:TestClientTimeoutsFollowTheConfigMap",
	"http2-max-concurrent-streams":  "proxy:TestStreamsAreBoundedByTheConfigMap",
	"worker-shutdown-timeout":       "cmd/podlane:TestServeShutdownByConfigMap",

	"upstream-keepalive-connections": "proxy:TestPodConnectionsFollowTheConfigMap",
	"upstream-keepalive-requests":    "proxy:TestPodConnectionsFollowTheConfigMap",
	"upstream-keepalive-time":        "proxy:TestPodConnectionsAgeByTheConfigMap",
	"upstream-keepalive-timeout":     "proxy:TestPodConnectionsAgeByTheConfigMap",

	"ssl-protocols":          "cmd/podlane:TestServeTLSByConfigMap",
	"ssl-ciphers":            "cmd/podlane:TestServeTLSByConfigMap",
	"ssl-ecdh-curve":         "cmd/podlane:TestServeTLSByConfigMap",
	"ssl-reject-handshake":   "cmd/podlane:TestServeTLSByConfigMap",
	"use-http2":              "cmd/podlane:TestServeTLSByConfigMap",
	"ssl-session-tickets":    "cmd/podlane:TestServeTicketsByConfigMap",
	"ssl-session-ticket-key": "cmd/podlane:TestServeTicketKeysByConfigMap",

	"log-format-upstream":                   "proxy:TestLogFormatFollowsTheConfigMap",
	"log-format-escape-json":                "proxy:TestLogFormatFollowsTheConfigMap",
	"log-format-escape-none":                "proxy:TestLogFormatFollowsTheConfigMap",
	"disable-access-log":                    "proxy:TestAccessLogOverSockets",
	"disable-http-access-log":               "proxy:TestAccessLogOverSockets",
	"skip-access-log-urls":                  "proxy:TestAccessLogOverSockets",
	"enable-access-log-for-default-backend": "proxy:TestAccessLogOverSockets",

	"enable-opentelemetry":              "proxy:TestTracesFollowTheConfigMap",
	"otlp-collector-host":               "proxy:TestTracesFollowTheConfigMap",
	"otlp-collector-port":               "proxy:TestTracesFollowTheConfigMap",
	"otel-service-name":                 "proxy:TestTracesFollowTheConfigMap",
	"otel-sampler":                      "proxy:TestTracesFollowTheConfigMap",
	"otel-sampler-ratio":                "proxy:TestTracesAreSampledByTheConfigMap",
	"otel-sampler-parent-based":         "proxy:TestTracesAreSampledByTheConfigMap",
	"otel-schedule-delay-millis":        "proxy:TestTracesAreSentByTheConfigMap",
	"otel-max-export-batch-size":        "proxy:TestTracesAreSentByTheConfigMap",
	"otel-max-queuesize":                "proxy:TestTracesAreSentByTheConfigMap",
	"opentelemetry-trust-incoming-span": "proxy:TestTracesContinue",
	"opentelemetry-operation-name":      "proxy:TestWhatIsTraced",

	"limit-conn-status-code":      "proxy:TestLimitOfRequestsAtOnce",
	"limit-rate":                  "proxy:TestLimitRate",
	"limit-rate-after":            "proxy:TestLimitRate",
	"client-body-buffer-size":     "proxy:TestBodyIsReadFirst",
	"proxy-request-buffering":     "proxy:TestBodyIsReadFirst",
	"proxy-connect-timeout":       "proxy:TestConnectTimeoutOfRoute",
	"proxy-send-timeout":          "proxy:TestSendTimeoutOfRoute",
	"proxy-read-timeout":          "proxy:TestTimeoutsOfRoute",
	"proxy-next-upstream":         "proxy:TestNextUpstream",
	"proxy-next-upstream-timeout": "proxy:TestNextUpstream",
	"proxy-next-upstream-tries":   "proxy:TestNextUpstream",
	"retry-non-idempotent":        "proxy:TestNextUpstream",
	"load-balance":                "proxy:TestEWMA",
	"upstream-hash-by":            "proxy:TestHashBy",
	"gzip-level":                  "proxy:TestCompressionLevels",
	"brotli-level":                "proxy:TestCompressionLevels",
}

// settingsWithoutEffect are accepted and change no answer, as their docs say.
var settingsWithoutEffect = []string{
	"allow-snippet-annotations", "annotations-risk-level", "ssl-prefer-server-ciphers", "proxy-http-version",
	"proxy-buffering", "proxy-buffers-number", "proxy-busy-buffers-size", "proxy-max-temp-file-size",
}

// settingCoverage says what testdata shows of one key of the ConfigMap.
type settingCoverage struct {
	// given: a file has it. inTable: without it the file's table is another. shown: without it an answer of the file's is another.
	given, inTable, shown bool
}

// TestEverySettingIsShown: every key of the ConfigMap that Podlane obeys stands in a file with a request whose answer is another once the key is taken
// out of the ConfigMap, or else changes the table and has a Go test that is named here. What values are refused test/arch holds to the same list.
func TestEverySettingIsShown(t *testing.T) {
	t.Parallel()
	shown := map[string]*settingCoverage{}
	for archive := range examples(t) {
		coverSettings(t, archive, shown)
	}
	for key := range obeyed() {
		if key.InConfigMap() {
			name := key.SettingName()
			checkSetting(t, name, shown[name])
		}
	}
}

// checkSetting judges what testdata shows of a key; c is nil where no file has it.
func checkSetting(t *testing.T, name string, c *settingCoverage) {
	t.Helper()
	if c == nil {
		c = &settingCoverage{}
	}
	test, elsewhere := settingsElsewhere[name]
	switch {
	case slices.Contains(settingsWithoutEffect, name):
		if !c.given || c.shown {
			t.Errorf("%s: it shall be in a file, and change no answer: %+v", name, *c)
		}
	case elsewhere:
		if !c.inTable {
			t.Errorf("%s: no file's table is another without it", name)
		}
		checkElsewhere(t, name, test)
		checkMentioned(t, name, test)
	case !c.shown:
		t.Errorf("%s: no answer is another without it: %+v", name, *c)
	}
}

// checkMentioned looks for the key in the file of a test "folder:Name".
func checkMentioned(t *testing.T, key, test string) {
	t.Helper()
	if text := fileOf(t, test); text != nil && !bytes.Contains(text, []byte(key)) {
		t.Errorf("%s does not set %s", test, key)
	}
}

// coverSettings takes the keys out of a file's ConfigMap one by one, and notes what changes by it.
func coverSettings(t *testing.T, archive *txtar.Archive, shown map[string]*settingCoverage) {
	t.Helper()
	s := read(t, archive)
	i := slices.IndexFunc(s.ConfigMaps, func(c *corev1.ConfigMap) bool { return c.Namespace+"/"+c.Name == s.Options.Settings })
	if i < 0 {
		return
	}
	var before outcome
	for _, name := range slices.Sorted(maps.Keys(s.ConfigMaps[i].Data)) {
		c := shown[name]
		if c == nil {
			c = &settingCoverage{given: true}
			shown[name] = c
		}
		_, elsewhere := settingsElsewhere[name]
		if c.shown || elsewhere && c.inTable {
			continue
		}
		without := s
		without.ConfigMaps = slices.Clone(s.ConfigMaps)
		without.ConfigMaps[i] = s.ConfigMaps[i].DeepCopy()
		delete(without.ConfigMaps[i].Data, name)
		if before.answers == nil {
			before = outcomeOf(t, archive, s)
		}
		if elsewhere { // its answers may be left to chance
			table, _ := ingress.Build(without, filters.Families(config.Policies()))
			c.inTable = table.String() != before.table
			continue
		}
		after := outcomeOf(t, archive, without)
		c.inTable = c.inTable || after.table != before.table
		c.shown = !maps.Equal(after.answers, before.answers)
	}
}
