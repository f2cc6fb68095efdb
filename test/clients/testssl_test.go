package clients_test

import (
	"crypto"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/test/clients/debian"
	"podlane.dev/podlane/test/faults/resources/serving"
)

// A finding is a line of testssl.sh's report.
type finding struct {
	ID, Severity, Finding, CVE string
}

// testssl.sh looks at protocols, ciphers and every vulnerability that it knows: nothing that it finds is above LOW. What is wrong with old
// key exchanges can only be wrong with an RSA certificate; an ECDSA one changes the ciphers.
func TestSSL(t *testing.T) {
	t.Parallel()
	program := find(t, debian.TestSSL)
	for _, kind := range []struct {
		name     string
		key      crypto.Signer
		sections []string
		// sure are findings that must be there: that a section has run is not to be taken for granted.
		sure map[string]string
	}{
		{"RSA", newRSA(t), []string{"--protocols", "--std", "--vulnerable"}, map[string]string{
			"heartbleed": "not vulnerable", "ROBOT": "not vulnerable", "secure_client_renego": "not vulnerable", "fallback_SCSV": "",
		}},
		{"ECDSA", newECDSA(t), []string{"--protocols", "--std"}, nil},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t)
			r := newRig(t, p.address(), rigOptions{program: serving.Program(t), key: kind.key})
			report := filepath.Join(t.TempDir(), "report.json")
			got := command{program: program, args: append(kind.sections,
				"--jsonfile", report, "--add-ca", r.authority.file, "--ip", "127.0.0.1", "--nodns", "none", "--openssl-timeout", "20",
				"--color", "0", "--warnings", "batch", "--quiet", secureHost+":"+port(r.HTTPS),
			), env: []string{"USLEEP_SND=0.02", "USLEEP_REC=0.02", "LC_ALL=C"}}.do(t) // these are for networks that are far away
			text, err := os.ReadFile(report)
			if err != nil {
				t.Fatalf("exit %d: %v\n%s\n%s", got.code, err, got.stdout, got.stderr)
			}
			var findings []finding
			if err := json.Unmarshal(text, &findings); err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			judge(t, findings, kind.sure)
		})
	}
}

// judge holds findings to the bar.
func judge(t *testing.T, findings []finding, sure map[string]string) {
	t.Helper()
	counts := map[string]int{}
	for _, f := range findings {
		if f.ID == "engine_problem" {
			continue // of the OpenSSL that asks
		}
		counts[f.Severity]++
		if !slices.Contains([]string{"OK", "INFO", "LOW"}, f.Severity) {
			t.Errorf("%+v", f)
		}
		if f.Severity == "LOW" {
			t.Logf("low: %+v", f)
		}
	}
	t.Logf("%d findings: %v", len(findings), counts)
	expected := map[string]string{
		"TLS1": "not offered", "TLS1_1": "not offered", "TLS1_2": "offered", "TLS1_3": "offered with final", "cipherlist_NULL": "not offered",
	}
	maps.Copy(expected, sure)
	for id, want := range expected {
		if !slices.ContainsFunc(findings, func(f finding) bool { return f.ID == id && strings.Contains(f.Finding, want) }) {
			t.Errorf("%s is not %q", id, want)
		}
	}
}
