package policies_test

import (
	"bytes"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	networkingv1 "k8s.io/api/networking/v1"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router/policy"
)

// coverage says what of one annotation testdata shows.
type coverage struct {
	// set: a request to an Ingress that has it. unset: in a file that sets it elsewhere, a request to an Ingress that does not.
	set, unset bool
}

// elsewhere are the annotations that need what a file cannot say (certificates, time, many connections): the Go test that sends requests
// under them, by folder and name.
var elsewhere = map[string]string{
	"enable-access-log":  "proxy:TestAccessLogOverSockets",
	"enable-rewrite-log": "proxy:TestRewriteLog",

	"enable-opentelemetry":              "proxy:TestWhatIsTraced",
	"opentelemetry-trust-incoming-span": "proxy:TestTracesContinue",
	"opentelemetry-operation-name":      "proxy:TestWhatIsTraced",

	"auth-tls-secret":                       "cmd/podlane:TestServeClientCertificates",
	"auth-tls-verify-client":                "cmd/podlane:TestServeClientCertificateAnnotations",
	"auth-tls-verify-depth":                 "cmd/podlane:TestServeClientCertificateAnnotations",
	"auth-tls-match-cn":                     "cmd/podlane:TestServeClientCertificateAnnotations",
	"auth-tls-error-page":                   "cmd/podlane:TestServeClientCertificateAnnotations",
	"auth-tls-pass-certificate-to-upstream": "cmd/podlane:TestServeClientCertificateAnnotations",

	"ssl-passthrough":                "cmd/podlane:TestServePassthrough",
	"ssl-passthrough-proxy-protocol": "proxy:TestPassthroughWithAHeaderToThePod",

	"proxy-ssl-secret":       "cmd/podlane:TestServePodTLS",
	"proxy-ssl-verify":       "cmd/podlane:TestServePodTLS",
	"proxy-ssl-name":         "cmd/podlane:TestServePodTLS",
	"proxy-ssl-verify-depth": "proxy:TestPodCertificates",
	"proxy-ssl-server-name":  "proxy:TestPodHandshakes",
	"proxy-ssl-protocols":    "proxy:TestPodHandshakes",
	"proxy-ssl-ciphers":      "proxy:TestPodHandshakes",
}

// examples yields the files of testdata.
func examples(t *testing.T) iter.Seq[*txtar.Archive] {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	return func(yield func(*txtar.Archive) bool) {
		for _, file := range files {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !yield(archive) {
				return
			}
		}
	}
}

// obeyed yields every key that Podlane obeys.
func obeyed() iter.Seq[policy.Key] {
	return func(yield func(policy.Key) bool) {
		for _, family := range config.Policies() {
			if _, refused := family.(interface{ Refusals() []policy.Refusal }); refused {
				continue
			}
			for _, key := range family.FamilyKeys() {
				if !yield(key) {
					return
				}
			}
		}
	}
}

// TestEveryAnnotationIsShown: every annotation that Podlane obeys has an Ingress with it in testdata, to which requests are sent, and one without it
// beside that, for its default. What values are refused, and how, test/arch holds to the same list.
func TestEveryAnnotationIsShown(t *testing.T) {
	t.Parallel()
	shown := map[string]*coverage{}
	for archive := range examples(t) {
		cover(t, archive, shown)
	}
	missing, known := 0, 0
	for key := range obeyed() {
		if !key.InAnnotations() {
			continue
		}
		known++
		c := shown[key.Name]
		if c == nil {
			c = &coverage{}
		}
		test, other := elsewhere[key.Name]
		switch {
		case c.set && c.unset && other:
			t.Errorf("%s is shown here: take it out of elsewhere", key.Name)
		case c.set && c.unset:
		case !other:
			missing++
			t.Errorf("%s: with it %v, without it %v", key.Name, c.set, c.unset)
		default:
			checkElsewhere(t, key.Name, test)
		}
	}
	t.Logf("%d annotations, %d in Go tests, %d missing", known, len(elsewhere), missing)
}

// cover adds what a file shows.
func cover(t *testing.T, archive *txtar.Archive, shown map[string]*coverage) {
	t.Helper()
	hosts := requested(archive)
	snapshot := read(t, archive)
	set, answered := map[string]bool{}, []*networkingv1.Ingress{}
	for _, i := range snapshot.Ingresses {
		if !slices.ContainsFunc(i.Spec.Rules, func(r networkingv1.IngressRule) bool { return asked(hosts, i, r.Host) }) {
			continue
		}
		answered = append(answered, i)
		for _, name := range annotations(i) {
			set[name] = true
		}
	}
	for name := range set {
		if shown[name] == nil {
			shown[name] = &coverage{}
		}
		shown[name].set = true
		if slices.ContainsFunc(answered, func(i *networkingv1.Ingress) bool { return !slices.Contains(annotations(i), name) }) {
			shown[name].unset = true
		}
	}
}

var hostLine = regexp.MustCompile(`(?mi)^host: *([^:\s]+)`)

// requested returns the hosts of a file's requests.
func requested(archive *txtar.Archive) map[string]bool {
	hosts := map[string]bool{}
	for _, f := range archive.Files {
		if m := hostLine.FindSubmatch(f.Data); strings.HasPrefix(f.Name, "> ") && m != nil {
			hosts[strings.ToLower(string(m[1]))] = true
		}
	}
	return hosts
}

// asked says whether there is a request for a host of a rule of i, or for one of its further names.
func asked(hosts map[string]bool, i *networkingv1.Ingress, host string) bool {
	for name, value := range i.Annotations {
		if strings.HasSuffix(name, "/from-to-www-redirect") && (hosts["www."+host] || hosts[strings.TrimPrefix(host, "www.")]) {
			return true
		}
		for alias := range strings.SplitSeq(strings.ToLower(value), ",") {
			if strings.HasSuffix(name, "/server-alias") && hosts[strings.TrimSpace(alias)] {
				return true
			}
		}
	}
	if suffix, ok := strings.CutPrefix(host, "*"); ok {
		return slices.ContainsFunc(slices.Collect(maps.Keys(hosts)), func(h string) bool { return strings.HasSuffix(h, suffix) })
	}
	return host == "" || hosts[host]
}

// annotations returns the names of an Ingress's annotations, without prefix, an alias as what it stands for.
func annotations(i *networkingv1.Ingress) []string {
	var names []string
	for name := range i.Annotations {
		names = append(names, nameOf(name))
	}
	return names
}

// nameOf is the name of an annotation without its prefix, or of what it is an alias for.
func nameOf(annotation string) string {
	_, name, _ := strings.Cut(annotation, "/")
	for _, family := range config.Policies() {
		for _, key := range family.FamilyKeys() {
			if key.Alias == name && name != "" {
				name = key.Name
			}
		}
	}
	return name
}

// checkElsewhere looks for a test "folder:Name".
func checkElsewhere(t *testing.T, annotation, test string) {
	t.Helper()
	if fileOf(t, test) == nil {
		t.Errorf("%s: there is no test %s", annotation, test)
	}
}

// fileOf returns the text of the file that a test "folder:Name" is in, nil where there is none.
func fileOf(t *testing.T, test string) []byte {
	t.Helper()
	folder, name, _ := strings.Cut(test, ":")
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("func "+name+"(")) {
			return text
		}
	}
	return nil
}
