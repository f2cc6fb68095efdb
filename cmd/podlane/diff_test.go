package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/router/ingress"
)

// folderWith writes files to a folder of its own.
func folderWith(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func TestDiffOfAFolder(t *testing.T) {
	secret, _ := secretOf(t, "tls", "a.example")
	another, _ := secretOf(t, "tls", "a.example")
	dir := folderWith(t, map[string]string{
		"web.yaml":    withTLS("site", "a.example", "web", "tls") + "---\n" + serviceOf("web", 8001) + "---\n" + secret,
		"broken.yaml": ingressOf("broken", "c.example", "/", "gone"),
	})
	annotated := func(text, annotation string) string {
		return strings.Replace(text, "  namespace: default\n", "  namespace: default\n  annotations: {"+annotation+"}\n", 1)
	}
	for name, tc := range map[string]struct {
		file string
		code int
		want []string
	}{
		"the same":    {withTLS("site", "a.example", "web", "tls"), 0, []string{"0 routes added, 0 removed, 0 changed; 0 problems new, 0 solved\n"}},
		"a new route": {ingressOf("more", "b.example", "/x", "web"), 1, []string{"+ http://b.example/x  Prefix /x -> default/web", "1 route added, 0 removed, 0 changed"}},
		"a route that moves": {
			withTLS("site", "a.example", "other", "tls"), 1,
			[]string{"~ https://a.example/\n", "  - Prefix / -> default/web\n", "  + Prefix / -> default/other:80", "! Ingress default/site", "ServiceMissing", "0 routes added, 0 removed, 1 changed; 1 problem new"},
		},
		"a policy": {
			annotated(withTLS("site", "a.example", "web", "tls"), "podlane.dev/permanent-redirect: 'https://x.example/'"), 1,
			[]string{"~ https://a.example/\n  + ", "x.example", "1 changed"},
		},
		"a host that leaves": {ingressOf("site", "z.example", "/", "web"), 1, []string{"+ http://z.example/", "- https://a.example/  Prefix / -> default/web", "- certificate default/tls for a.example"}},
		"a mistake mended":   {serviceOf("gone", 8009), 1, []string{"✓ solved: Ingress default/broken", "1 solved", "~ http://c.example/"}},
		"a certificate":      {another, 1, []string{"~ certificate default/tls for a.example: replaced", "~ Secret default/tls: another content"}},
		"a conflict": {
			ingressOf("zz", "a.example", "/", "web"), 1,
			[]string{"! Ingress default/zz", "PathConflict", "0 routes added"},
		},
	} {
		file := filepath.Join(t.TempDir(), "new.yaml")
		write(t, file, tc.file)
		code, stdout, stderr := podlane(t, "diff", "--from", dir, "-f", file)
		if code != tc.code || stderr != "" || strings.Contains(stdout, "\x1b") {
			t.Errorf("%s: exit %d, want %d, %s\n%s", name, code, tc.code, stderr, stdout)
		}
		rest := stdout
		for _, want := range tc.want {
			if !strings.Contains(rest, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, stdout)
			}
		}
		var d struct {
			Added, Removed, Changed, Other, NewProblems, GoneProblems []any
		}
		code, stdout, _ = podlane(t, "diff", "--from", dir, "-f", file, "-o", "json")
		if err := json.Unmarshal([]byte(stdout), &d); err != nil || code != tc.code {
			t.Errorf("%s -o json: exit %d, %v", name, code, err)
		}
		if n := len(d.Added) + len(d.Removed) + len(d.Changed) + len(d.Other) + len(d.NewProblems) + len(d.GoneProblems); (n == 0) != (tc.code == 0) {
			t.Errorf("%s -o json: %d differences\n%s", name, n, stdout)
		}
	}
}

func TestDiffMistakesHaveACodeOfTheirOwn(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "bad.yaml")
	write(t, file, "a: [")
	unreadable := filepath.Join(t.TempDir(), "ingress.yaml")
	write(t, unreadable, "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x}\nspec: {rules: 7}\n")
	for args, want := range map[string]string{
		"diff --from " + dir:                          "--filename is missing",
		"diff --from " + dir + " -f " + file:          "--filename " + file,
		"diff --from " + dir + " -f " + unreadable:    "--filename",
		"diff --from " + dir + " -f " + file + "x":    "no such file",
		"diff --from " + dir + "/none -f " + file:     "there is no folder",
		"diff --nonsense":                             "unknown flag",
		"diff -f x y":                                 "takes flags and no arguments",
		"diff --kubeconfig /no/such -f " + unreadable: "--kubeconfig",
	} {
		if code, stdout, stderr := podlane(t, strings.Fields(args)...); code != 2 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %q, %q, want 2 and %q", args, code, stdout, stderr, want)
		}
	}
}

// TestOverlay: what is laid over keeps the age of what it replaces, and what is new is the youngest.
func TestOverlay(t *testing.T) {
	old, now := metav1.NewTime(time.Unix(1000, 0)), metav1.NewTime(time.Unix(2000, 0))
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name} }
	aged := named("i")
	aged.UID, aged.CreationTimestamp = "u", old
	base := ingress.Snapshot{
		Ingresses: []*networkingv1.Ingress{{ObjectMeta: aged}},
		Services:  []*corev1.Service{{ObjectMeta: named("s"), Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1"}}},
	}
	over := ingress.Snapshot{
		Ingresses: []*networkingv1.Ingress{{ObjectMeta: named("i"), Spec: networkingv1.IngressSpec{Rules: make([]networkingv1.IngressRule, 1)}}, {ObjectMeta: named("j")}},
		Services:  []*corev1.Service{{ObjectMeta: named("s")}},
	}
	got := overlay(base, over, now)
	if len(got.Ingresses) != 2 || got.Ingresses[0].UID != "u" || !got.Ingresses[0].CreationTimestamp.Equal(&old) || len(got.Ingresses[0].Spec.Rules) != 1 ||
		!got.Ingresses[1].CreationTimestamp.Equal(&now) || got.Services[0].Spec.ClusterIP != "10.0.0.1" {
		t.Errorf("overlay %+v", got)
	}
	if len(base.Ingresses) != 1 || len(base.Ingresses[0].Spec.Rules) != 0 || over.Ingresses[1].CreationTimestamp == now {
		t.Error("what was laid on each other was changed")
	}
}

func TestNamespacesOfNewObjects(t *testing.T) {
	set, err := readNew([]string{"-"}, "web", strings.NewReader(`{"apiVersion":"v1","kind":"List","items":[
		{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"a"}},
		{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"b","namespace":"own"}},
		{"apiVersion":"networking.k8s.io/v1","kind":"IngressClass","metadata":{"name":"c"},"spec":{"controller":"x/y"}}]}`))
	must(t, err)
	if s := set.Snapshot; len(s.Ingresses) != 2 || s.Ingresses[0].Namespace != "web" || s.Ingresses[1].Namespace != "own" || s.Classes[0].Namespace != "" {
		t.Errorf("%+v", s)
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "podlane-diff-*"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
