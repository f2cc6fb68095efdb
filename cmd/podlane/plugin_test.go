package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
)

// podlaneAs runs a command line of the binary under another name.
func podlaneAs(t *testing.T, name string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), &process{name: calledAs([]string{name}), stdout: &out, stderr: &errs, signals: make(chan os.Signal), adoptLog: func(logr.Logger) {}}, args)
	return code, out.String(), errs.String()
}

func TestAsPluginOfKubectl(t *testing.T) {
	for _, cmd := range newRoot(&process{}).Commands() {
		name := cmd.Name()
		code, help, stderr := podlaneAs(t, "/usr/local/bin/kubectl-podlane", name, "--help")
		if code != 0 || stderr != "" || !strings.Contains(help, "\n  kubectl podlane "+name) || strings.Contains(help, "\n  podlane ") || strings.Contains(help, strings.Repeat("kubectl ", 2)) {
			t.Errorf("%s --help: exit %d %s\n%s", name, code, stderr, help)
		}
	}
	if _, _, stderr := podlaneAs(t, "kubectl-podlane.exe", "routes", "--nonsense"); stderr != "kubectl podlane: unknown flag: --nonsense: see kubectl podlane routes --help\n" {
		t.Errorf("a mistake: %q", stderr)
	}
	if _, help, _ := podlaneAs(t, "podlane", "wait", "--help"); !strings.Contains(help, "\n  podlane wait") || strings.Contains(help, "kubectl podlane") {
		t.Errorf("under its own name:\n%s", help)
	}
}

// ingressServer is an API server that knows two Ingresses in each namespace.
func ingressServer(t *testing.T) (kubeconfig string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		if parts[len(parts)-1] != "ingresses" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		in := parts[len(parts)-2]
		fmt.Fprintf(w, `{"kind":"IngressList","apiVersion":"networking.k8s.io/v1","items":[{"metadata":{"name":"b-%s"}},{"metadata":{"name":"a"}}]}`, in)
	}))
	t.Cleanup(s.Close)
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	write(t, kubeconfig, fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
		"clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","namespace":"ns"}}]}`, s.URL))
	return kubeconfig
}

func TestCompletion(t *testing.T) {
	kubeconfig := ingressServer(t)
	for args, want := range map[string]string{
		"wait ":                             "ingress/ service/ secret/ configmap/ :6",
		"wait ingress/":                     "ingress/a ingress/b-ns :4",
		"wait -n web ing/":                  "ing/a ing/b-web :4",
		"wait secret/":                      ":4",
		"wait --for ":                       "applied deleted :4",
		"routes --ingress ":                 "a b-ns :4",
		"routes -n x --ingress ":            "a b-x :4",
		"certs -o ":                         "table json :4",
		"routes --kubeconfig /x --ingress ": ":4",
	} {
		typed := append(strings.Split(args, " "), "")
		typed = typed[:len(typed)-1]
		line := append([]string{typed[0], "--kubeconfig", kubeconfig}, typed[1:]...)
		for name, line := range map[string][]string{"podlane": append([]string{"__complete"}, line...), completerName: line} {
			_, stdout, _ := podlaneAs(t, name, line...)
			if got := oneLine(stdout); got != want {
				t.Errorf("%s %v: %q, want %q", name, line, got, want)
			}
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, stdout, stderr := podlane(t, "completion", shell); code != 0 || stderr != "" || !strings.Contains(stdout, "podlane") {
			t.Errorf("completion %s: exit %d, %d bytes, %s", shell, code, len(stdout), stderr)
		}
	}
	if _, help, _ := podlane(t, "--help"); !strings.Contains(help, "completion") {
		t.Errorf("--help does not tell of completion:\n%s", help)
	}
}
