package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"podlane.dev/podlane/config"
)

// podlane runs a command line that ends by itself.
func podlane(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), &process{stdout: &out, stderr: &errs, signals: make(chan os.Signal), adoptLog: func(logr.Logger) {}}, args)
	return code, out.String(), errs.String()
}

func TestMistakesAreOneLine(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "a.yaml")
	write(t, file, "{}")
	for _, tc := range []struct {
		args string
		want []string
	}{
		{"serve", []string{"--from is missing", "write --from DIR"}},
		{"serve --from " + folder + "/nowhere", []string{"--from", "there is no folder", "nowhere"}},
		{"serve --from " + file, []string{"--from", "is a file", "write the folder"}},
		{"serve --from " + folder + " --no-such-flag", []string{"unknown flag: --no-such-flag", "see podlane serve --help"}},
		{"serve --from " + folder + " --drain-delay=soon", []string{`--drain-delay: "soon" is not a duration`, "write 10s"}},
		{"serve --from " + folder + " --profiling=maybe", []string{`--profiling: "maybe" is not a bool`, "write true or false"}},
		{"serve --from " + folder + " --http-address=:x", []string{"--http-address", `port "x"`}},
		{"serve --from " + folder + " --max-fails=some", []string{`--max-fails: "some" is not a whole number`, "write digits alone"}},
		{"serve --from", []string{"flag needs an argument", "--from"}},
		{"serve --from " + folder + " extra", []string{"podlane serve takes flags and no arguments", `"extra"`}},
		{"serv", []string{`unknown command "serv"`, "serve"}},
		{"completion tcsh", []string{`no completion for "tcsh"`, "write bash, zsh"}},
		{"wait", []string{"name what to wait for", "ingress/NAME"}},
		{"wait pod/x", []string{`"pod/x": Podlane does not serve objects of that kind`, "ingress/NAME"}},
		{"routes --kubeconfig " + file, []string{"no cluster found in " + file, "--kubeconfig FILE", "--from DIR"}},
		{"version -o yaml", []string{"--output", "json"}},
		{"controller --kubeconfig " + folder + "/nowhere", []string{"--kubeconfig", "nowhere"}},
		{"controller --kubeconfig " + file, []string{"--kubeconfig"}},
		{"controller --publish-service=web", []string{"--publish-service", "write default/web"}},
		{"controller --access-log=" + folder + "/no/such/folder/log --kubeconfig " + file, []string{"--"}},
	} {
		code, stdout, stderr := podlane(t, strings.Fields(tc.args)...)
		if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "podlane: ") || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "Usage") {
			t.Errorf("%s: exit %d, stdout %q, stderr %q; want exit 1 and one line on stderr", tc.args, code, stdout, stderr)
		}
		rest := stderr
		for _, want := range tc.want {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Errorf("%s: %q not in its place in %q", tc.args, want, stderr)
				break
			}
			rest = after
		}
	}
}

func TestHelp(t *testing.T) {
	for _, tc := range []struct {
		args string
		want []string
	}{
		{"", []string{"Kubernetes ingress controller", "controller", "serve", "version"}},
		{"--help", []string{"controller", "serve", "version"}},
		{"serve --help", []string{"Usage:\n  podlane serve --from DIR", "Examples:", "Manifests:\n", "--from", "Addresses:\n", "(default 127.0.0.1:8080)", "Shutdown:\n"}},
		{"controller --help", []string{"Usage:\n  podlane controller", "Examples:", "Cluster:\n", "--election-ttl", "Ingresses:\n", "(default \"podlane\")", "Addresses:\n", "(default :8080)", "--metrics-address"}},
	} {
		code, stdout, stderr := podlane(t, strings.Fields(tc.args)...)
		if code != 0 || stderr != "" {
			t.Errorf("%q: exit %d, stderr %q", tc.args, code, stderr)
		}
		rest := oneLine(stdout) // what is wrapped where is not the point
		for _, want := range tc.want {
			_, after, ok := strings.Cut(rest, oneLine(want))
			if !ok {
				t.Errorf("%q: %q not in its place in\n%s", tc.args, want, stdout)
				break
			}
			rest = after
		}
	}
}

// TestEveryFlagIsInAGroup: a flag that is bound outside of the groups would be missing in --help.
func TestEveryFlagIsInAGroup(t *testing.T) {
	for _, name := range []string{"serve", "controller"} {
		_, help, _ := podlane(t, name, "--help")
		cmd := commandOf(t, name)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(help, "--"+f.Name+" ") {
				t.Errorf("%s: --%s is not in --help", name, f.Name)
			}
		})
	}
}

func commandOf(t *testing.T, name string) *cobra.Command {
	t.Helper()
	for _, cmd := range newRoot(&process{}).Commands() {
		if cmd.Name() == name {
			return cmd
		}
	}
	t.Fatalf("no command %s", name)
	return nil
}

func TestShutdownGracePeriodIsTheDrainDelay(t *testing.T) {
	o := config.ControllerShutdown()
	cmd := new(cobra.Command)
	bind(cmd, o)
	must(t, cmd.ParseFlags([]string{"--shutdown-grace-period=25"})) // seconds, as there
	if o.DrainDelay != 25*time.Second {
		t.Errorf("drain delay %v, want 25s", o.DrainDelay)
	}
}

// TestFlagsOfIngressNginx: these are scripted against; COMPAT.md lists them.
func TestFlagsOfIngressNginx(t *testing.T) {
	flags := commandOf(t, "controller").Flags()
	for name := range strings.FieldsSeq(`ingress-class controller-class ingress-class-by-name watch-ingress-without-class watch-namespace
		publish-service publish-status-address report-node-internal-ip-address update-status update-status-on-shutdown
		default-backend-service default-ssl-certificate configmap annotations-prefix election-id election-ttl disable-leader-election
		kubeconfig profiling time-buckets shutdown-grace-period`) {
		if flags.Lookup(name) == nil {
			t.Errorf("there is no --%s", name)
		}
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := podlane(t, "version")
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "podlane ") || !strings.Contains(stdout, "go1.") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if code, again, _ := podlane(t, "--version"); code != 0 || again != stdout {
		t.Errorf("--version: exit %d, %q", code, again)
	}
	var b struct{ Version, Commit, GoVersion, Platform string }
	if code, out, _ := podlane(t, "version", "-o", "json"); code != 0 || json.Unmarshal([]byte(out), &b) != nil || !strings.Contains(stdout, b.Version+" (commit "+b.Commit+", "+b.GoVersion+", "+b.Platform+")") {
		t.Errorf("-o json: exit %d, %q", code, out)
	}
	settings := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abc"}, {Key: "vcs.modified", Value: "true"}}
	for _, tc := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{&debug.BuildInfo{}, "podlane devel (commit unknown, "},
		{&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "podlane devel (commit unknown, "},
		{&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: settings}, "podlane v1.2.3 (commit 0123abc+changes, "},
		{&debug.BuildInfo{Settings: settings[:1]}, "podlane devel (commit 0123abc, "},
	} {
		if got := buildOf(tc.info).String(); !strings.HasPrefix(got, tc.want) {
			t.Errorf("build of %+v = %q, want %q…", tc.info, got, tc.want)
		}
	}
}
