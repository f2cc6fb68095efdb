package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster"
	"podlane.dev/podlane/test/e2e/load"
)

// A badInput is a manifest with a mistake, and what must come of it.
type badInput struct {
	name, manifest string
	want           problem // the object's namespace is the test's unless set
	// host is asked for /, and must answer with the status; "" for none.
	host   string
	status int
}

// goodRoute puts a good Ingress beside the bad ones and requests on it all the time. The function that it returns ends it.
func goodRoute(t *testing.T, l *lane, ns *cluster.Namespace, host string) (stop func()) {
	t.Helper()
	ns.Apply(workload{Name: "web"}.yaml() + ingress("good", host, "web-svc"))
	ns.WaitRollout("web")
	l.waitStatus(t, "http://"+host+"/", http.StatusOK)
	good := load.Start(load.Options{Name: host, Address: load.Fixed(l.address(80)), Host: host, Rate: 100, KeepAlive: true, Download: 500})
	return func() {
		t.Helper()
		stopAll(t, []*load.Load{good})
	}
}

// Each kind of bad input gives an entry in /debug/problems and an Event, both on the object and with the field, and touches
// no other route.
func TestBadInput(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns, other := namespace(t, c), namespace(t, c)
	stop := goodRoute(t, lane, ns, "good.bad.test")
	ca := newAuthority(t)
	cert, key := ca.issue(1, "x.bad.test")
	_, wrongKey := ca.issue(2, "x.bad.test")
	// SECURITY.md C3: the Secret is there, but in another namespace.
	other.Apply(ca.secret("elsewhere", 3, "foreign-secret.bad.test"))
	const missing, ok = http.StatusServiceUnavailable, http.StatusOK
	tlsOf := func(name, secret string) string {
		text := ingress(name, name+".bad.test", "web-svc")
		return strings.Replace(text, "  rules:", "  tls: [{hosts: ["+name+".bad.test], secretName: "+secret+"}]\n  rules:", 1)
	}
	var tests []badInput // applied first, for an Event takes its time
	for _, bad := range []badInput{
		{
			name: "missing Service", manifest: ingress("missing-service", "missing-service.bad.test", "nothing-svc"),
			want: problem{Kind: "Ingress", Name: "missing-service", Reason: "ServiceMissing", Field: "spec.rules[0].http.paths[0].backend.service", Message: "nothing-svc"},
			host: "missing-service.bad.test", status: missing,
		}, {
			name: "missing port", manifest: strings.Replace(ingress("missing-port", "missing-port.bad.test", "web-svc"), "number: 80", "number: 81", 1),
			want: problem{Kind: "Ingress", Name: "missing-port", Reason: "PortMissing", Field: "spec.rules[0].http.paths[0].backend.service.port", Message: "81"},
			host: "missing-port.bad.test", status: missing,
		}, {
			name: "missing port by name", manifest: strings.Replace(ingress("missing-name", "missing-name.bad.test", "web-svc"), "number: 80", "name: grpc", 1),
			want: problem{Kind: "Ingress", Name: "missing-name", Reason: "PortMissing", Field: "spec.rules[0].http.paths[0].backend.service.port", Message: "grpc"},
			host: "missing-name.bad.test", status: missing,
		}, {
			name: "missing Secret", manifest: tlsOf("missing-secret", "nothing-tls"),
			want: problem{Kind: "Ingress", Name: "missing-secret", Reason: "SecretMissing", Field: "spec.tls[0].secretName", Message: "nothing-tls"},
		}, {
			name: "broken certificate", manifest: secretOf("broken", "kubernetes.io/tls", []byte("no certificate"), key) + tlsOf("broken-secret", "broken"),
			want: problem{Kind: "Ingress", Name: "broken-secret", Reason: "SecretInvalid", Field: "spec.tls[0].secretName"},
		}, {
			name: "key of another certificate", manifest: secretOf("mismatch", "kubernetes.io/tls", cert, wrongKey) + tlsOf("mismatched-secret", "mismatch"),
			want: problem{Kind: "Ingress", Name: "mismatched-secret", Reason: "SecretInvalid", Field: "spec.tls[0].secretName"},
		}, {
			name: "Secret of another type", manifest: "apiVersion: v1\nkind: Secret\nmetadata: {name: opaque}\nstringData: {password: hunter2}\n---\n" + tlsOf("opaque-secret", "opaque"),
			want: problem{Kind: "Ingress", Name: "opaque-secret", Reason: "SecretInvalid", Field: "spec.tls[0].secretName"},
		}, {
			name: "Secret of another namespace", manifest: tlsOf("foreign-secret", "elsewhere"),
			want: problem{Kind: "Ingress", Name: "foreign-secret", Reason: "SecretMissing", Field: "spec.tls[0].secretName", Message: "elsewhere"},
		}, {
			name: "path of another Ingress", manifest: ingress("late", "good.bad.test", "nothing-else-svc"),
			want: problem{Kind: "Ingress", Name: "late", Reason: "PathConflict", Field: "spec.rules[0].http.paths[0]", Message: ns.Name + "/good"},
			host: "good.bad.test", status: ok,
		}, {
			// The API server refuses both at creation, but not later.
			name: "two classes", manifest: twoClasses(ns),
			want: problem{Kind: "Ingress", Name: "classes", Reason: "ClassConflict", Field: "spec.ingressClassName"},
			host: "classes.bad.test", status: ok,
		}, {
			name: "resource backend", manifest: strings.Replace(ingress("resource", "resource.bad.test", "web-svc"), "{service: {name: web-svc, port: {number: 80}}}", "{resource: {apiGroup: k8s.example.com, kind: StorageBucket, name: static}}", 1),
			want: problem{Kind: "Ingress", Name: "resource", Reason: "BackendResource", Field: "spec.rules[0].http.paths[0].backend"},
			host: "resource.bad.test", status: missing,
		}, {
			name: "ExternalName", manifest: "apiVersion: v1\nkind: Service\nmetadata: {name: outside-svc}\nspec: {type: ExternalName, externalName: www.example.com, ports: [{port: 80}]}\n---\n" + ingress("outside", "outside.bad.test", "outside-svc"),
			want: problem{Kind: "Ingress", Name: "outside", Reason: "ExternalNameRefused", Field: "spec.rules[0].http.paths[0].backend"},
			host: "outside.bad.test", status: missing,
		}, {
			name: "unknown annotation", manifest: strings.Replace(ingress("annotated", "annotated.bad.test", "web-svc"), "{name: annotated}", "{name: annotated, annotations: {podlane.dev/no-such-thing: x}}", 1),
			want: problem{Kind: "Ingress", Name: "annotated", Reason: "UnsupportedAnnotation", Field: "podlane.dev/no-such-thing"},
			host: "annotated.bad.test", status: ok,
		},
	} {
		ns.Apply(bad.manifest)
		tests = append(tests, bad)
	}
	for _, bad := range tests {
		t.Run(bad.name, func(t *testing.T) {
			want := bad.want
			want.Namespace = ns.Name
			found := waitProblem(t, lane, want)
			if bad.host != "" {
				lane.waitStatus(t, "http://"+bad.host+"/", bad.status)
			}
			if strings.Contains(found.Message, "hunter2") {
				t.Errorf("the message has the Secret's data: %s", found.Message)
			}
			waitEvent(t, c, found)
			t.Logf("%s: %s (%s): %s", found.Field, found.Reason, found.Effect, found.Message)
		})
	}
	// The certificate of the other namespace is not shown, and the route answers over HTTPS all the same.
	if shown, err := lane.shown("foreign-secret.bad.test"); err != nil || shown.SerialNumber.Int64() == 3 {
		t.Errorf("shown is %v, %v: the Secret of another namespace", shown, err)
	}
	// What was missing comes: the problem goes, the route works.
	ns.Apply(ca.secret("nothing-tls", 4, "missing-secret.bad.test") +
		"apiVersion: v1\nkind: Service\nmetadata: {name: nothing-svc}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 8000}]}\n")
	lane.waitStatus(t, "http://missing-service.bad.test/", http.StatusOK)
	lane.waitStatus(t, "https://missing-secret.bad.test/", http.StatusOK, "--cacert", ca.file)
	waitNoProblem(t, lane, problem{Namespace: ns.Name, Name: "missing-service"})
	waitNoProblem(t, lane, problem{Namespace: ns.Name, Name: "missing-secret"})
	stop()
}

// twoClasses makes an Ingress of another class and returns it with the old annotation of ours.
func twoClasses(ns *cluster.Namespace) string {
	theirs := ingressOf("nginx", "classes", "classes.bad.test", "web-svc")
	ns.Apply(theirs)
	return strings.Replace(theirs, "{name: classes}", "{name: classes, annotations: {kubernetes.io/ingress.class: podlane}}", 1)
}

// An Ingress of another class is nobody's problem here: no route, no Event, no status. One of a class that does not exist is its owner's.
func TestBadInputOtherClass(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply("apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: " + ns.Name + "}\nspec: {controller: example.com/other}\n---\n" +
		ingressOf(ns.Name, "theirs", "theirs.class.test", "nothing-svc") + ingressOf("no-such-class", "nobodys", "nobodys.class.test", "nothing-svc") +
		strings.Replace(ingress("none", "none.class.test", "nothing-svc"), "  ingressClassName: podlane\n", "", 1) +
		ingress("ours", "ours.class.test", "nothing-svc"))
	t.Cleanup(func() {
		if _, err := c.Kubectl(context.Background(), "", "delete", "ingressclass", ns.Name); err != nil {
			t.Error(err)
		}
	})
	ours := waitProblem(t, lane, problem{Kind: "Ingress", Namespace: ns.Name, Name: "ours", Reason: "ServiceMissing"})
	waitEvent(t, c, ours) // so the others' would be there too
	nobodys := waitProblem(t, lane, problem{Kind: "Ingress", Namespace: ns.Name, Name: "nobodys", Reason: "ClassNotFound"})
	waitEvent(t, c, nobodys)
	for _, host := range []string{"theirs.class.test", "nobodys.class.test", "none.class.test"} {
		if a := lane.curl(t, "http://"+host+"/"); a.Status != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", host, a.Status)
		}
	}
	all, err := lane.problems(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Namespace == ns.Name && p.Name != "ours" && p.Name != "nobodys" {
			t.Errorf("problem of an Ingress that is not ours: %+v", p)
		}
	}
	if out := ns.Kubectl("get", "events", "-o", "jsonpath={range .items[*]}{.involvedObject.name} {end}"); strings.Contains(out, "theirs") || strings.Contains(out, "none") {
		t.Errorf("there are Events for %s", out)
	}
}

// What the API server refuses never reaches Podlane; should a later version accept it, this test says so.
func TestBadInputRefusedByTheAPIServer(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	ns := namespace(t, c)
	good := ingress("bad", "www.refused.test", "web-svc")
	for name, manifest := range map[string]string{
		"wildcard in the middle":          strings.Replace(good, "www.refused.test", "'www.*.refused.test'", 1),
		"wildcard in part of a label":     strings.Replace(good, "www.refused.test", "'w*.refused.test'", 1),
		"two wildcards":                   strings.Replace(good, "www.refused.test", "'*.*.refused.test'", 1),
		"a wildcard alone":                strings.Replace(good, "www.refused.test", "'*'", 1),
		"host with a port":                strings.Replace(good, "www.refused.test", "'www.refused.test:80'", 1),
		"path without a slash":            strings.Replace(good, "path: /", "path: x", 1),
		"path with a dot segment":         strings.Replace(good, "path: /", "path: /a/../b", 1),
		"no path type":                    strings.Replace(good, "pathType: Prefix", "pathType: Suffix", 1),
		"Secret with a namespace":         strings.Replace(good, "  rules:", "  tls: [{hosts: [www.refused.test], secretName: other/secret}]\n  rules:", 1),
		"Service and resource":            strings.Replace(good, "backend: {", "backend: {resource: {kind: A, name: b}, ", 1),
		"kubernetes.io/tls without a key": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\nstringData: {tls.crt: x}\n",
	} {
		if out, err := c.Kubectl(t.Context(), manifest, "apply", "-n", ns.Name, "-f", "-"); err == nil {
			t.Errorf("%s is accepted now: %s", name, out)
		}
	}
}

// An Ingress of 10,000 rules is refused as a whole, with an Event, at no cost to the others.
func TestBadInputTenThousandRules(t *testing.T) {
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	stop := goodRoute(t, lane, ns, "good.huge.test")
	var b strings.Builder
	b.WriteString("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: huge}\nspec:\n  ingressClassName: podlane\n  rules:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "  - {host: h%d.huge.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web-svc, port: {number: 80}}}}]}}\n", i)
	}
	file := filepath.Join(t.TempDir(), "huge.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ns.Kubectl("create", "-f", file) // kubectl apply keeps a copy in an annotation, which would be too long
	began := time.Now()
	found := waitProblem(t, lane, problem{Kind: "Ingress", Namespace: ns.Name, Name: "huge", Reason: "TooLarge", Field: "spec.rules"})
	t.Logf("seen %s after kubectl had ended: %s (%s): %s", time.Since(began).Round(time.Millisecond), found.Reason, found.Effect, found.Message)
	waitEvent(t, c, found)
	if a := lane.curl(t, "http://h9999.huge.test/"); a.Status != http.StatusNotFound {
		t.Errorf("a rule of the Ingress that was refused: status %d, want 404", a.Status)
	}
	// The next change goes through as fast as ever.
	ns.Apply(ingress("next", "next.huge.test", "web-svc"))
	lane.waitStatus(t, "http://next.huge.test/", http.StatusOK)
	ns.Kubectl("delete", "ingress", "huge")
	waitNoProblem(t, lane, problem{Namespace: ns.Name, Name: "huge"})
	stop()
}
