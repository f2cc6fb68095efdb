package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"podlane.dev/podlane/test/cluster/assets"
)

// An operator is who asks Podlane with its own command line, over the port-forward of the API server.
type operator struct {
	*place
	podlane string
	// kubeconfig is "" for that of the tests.
	kubeconfig string
}

// newOperator builds the command, and its name as a plugin of kubectl's.
func newOperator(p *place) *operator {
	p.t.Helper()
	dir := p.t.TempDir()
	programs, err := assets.Programs(os.Stderr, dir, []string{"cmd/podlane"})
	if err != nil {
		p.t.Fatal(err)
	}
	plugin := filepath.Join(dir, "plugin")
	if err := errors.Join(os.Mkdir(plugin, 0o750), os.Symlink(programs["podlane"], filepath.Join(plugin, "kubectl-podlane"))); err != nil {
		p.t.Fatal(err)
	}
	p.t.Setenv("PATH", plugin+":"+os.Getenv("PATH"))
	return &operator{place: p, podlane: programs["podlane"]}
}

// ask runs podlane for the lane's replicas, and returns its exit code and what it prints.
func (o *operator) ask(words ...string) (code int, out, problems string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.podlane, append(words, "--podlane-namespace", o.lane.name)...)
	if o.kubeconfig != "" {
		cmd.Env = append(os.Environ(), "KUBECONFIG="+o.kubeconfig)
	}
	var printed, said strings.Builder
	cmd.Stdout, cmd.Stderr = &printed, &said
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		o.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), printed.String(), said.String()
}

// wants asks, and wants an exit code and parts of what is printed, to either.
func (o *operator) wants(code int, parts []string, words ...string) string {
	o.t.Helper()
	got, out, problems := o.ask(words...)
	for _, part := range parts {
		if !strings.Contains(out+problems, part) {
			o.t.Errorf("podlane %s: no %q in\n%s%s", strings.Join(words, " "), part, out, problems)
		}
	}
	if got != code {
		o.t.Errorf("podlane %s: exit %d, want %d\n%s%s", strings.Join(words, " "), got, code, out, problems)
	}
	return out
}

// lesser returns the operator as a user who may list Podlane's Pods and read Ingresses, and forward no port.
func (o *operator) lesser() *operator {
	o.t.Helper()
	o.kubectl("create", "serviceaccount", "viewer")
	o.kubectl("create", "rolebinding", "viewer", "--clusterrole=view", "--serviceaccount="+o.ns+":viewer")
	must(o.t, "kubectl", "-n", o.lane.name, "create", "role", o.ns, "--verb=list", "--resource=pods")
	must(o.t, "kubectl", "-n", o.lane.name, "create", "rolebinding", o.ns, "--role="+o.ns, "--serviceaccount="+o.ns+":viewer")
	token := strings.TrimSpace(o.kubectl("create", "token", "viewer"))
	text := o.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
	var config map[string]any
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		o.t.Fatal(err)
	}
	for _, user := range config["users"].([]any) {
		user.(map[string]any)["user"] = map[string]string{"token": token}
	}
	lesser := *o
	lesser.kubeconfig = filepath.Join(o.t.TempDir(), "kubeconfig")
	changed, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(lesser.kubeconfig, changed, 0o600)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return &lesser
}

// TestAsk: every command that asks replicas finds them behind a real API server and a real kubelet, and says which right is missing.
func TestAsk(t *testing.T) {
	p := newPlace(t, world.lane)
	o := newOperator(p)
	p.apply("s01-goweb.yaml")
	applied := o.wants(0, []string{"Ingress " + p.ns + "/goweb-ingress", "applied"}, "wait", "--for=applied", "ingress/goweb-ingress", "-n", p.ns, "--timeout", "80s")
	ready := strings.Fields(must(t, "kubectl", "-n", p.lane.name, "get", "pods", "-l", "app.kubernetes.io/name=podlane", "-o", "jsonpath={.items[*].metadata.name}"))
	for _, replica := range ready {
		if !strings.Contains(applied, p.lane.name+"/"+replica) {
			t.Errorf("wait has not asked %s:\n%s", replica, applied)
		}
	}
	p.rollout("goweb")
	pods := p.pods("app=goweb", 2)
	p.lane.waitPods(t, "http://www.goweb.com/", names(pods)...)
	o.wants(0, []string{"www.goweb.com", p.ns + "/goweb-svc"}, "routes", "-n", p.ns)
	o.wants(0, []string{"www.goweb.com", fmt.Sprintf("%d replicas asked", len(ready)), " all\n"}, "routes", "-n", p.ns, "--all-replicas")
	o.wants(0, []string{pods[0].Name, pods[1].Name, pods[0].Status.PodIP + ":8000", "ready"}, "endpoints", "-n", p.ns, "--service", "goweb-svc")
	o.wants(0, []string{"(default)"}, "certs", "-A")
	o.wants(0, []string{"nothing here"}, "problems", "-n", p.ns)
	o.wants(0, []string{"=> proxied to one of 2 Pods of " + p.ns + "/goweb-svc", "Ingress " + p.ns + "/goweb-ingress, Prefix /", "pod " + pods[0].Name}, "explain", "http://www.goweb.com/x")
	if out := must(t, "kubectl", "podlane", "routes", "-n", p.ns, "--podlane-namespace", p.lane.name); !strings.Contains(out, "www.goweb.com") {
		t.Errorf("kubectl podlane routes prints\n%s", out)
	}
	lesser := o.lesser()
	until(t, "the rights of another user", func(context.Context) error { // the API server learns of them a little later
		if _, _, problems := lesser.ask("routes"); strings.Contains(problems, "the verb list") {
			return errors.New(problems)
		}
		return nil
	})
	for _, words := range [][]string{{"routes", "-n", p.ns}, {"explain", "http://www.goweb.com/"}} {
		lesser.wants(1, []string{"your RBAC rights lack the verb create on pods/portforward in namespace " + p.lane.name}, words...)
	}
	p.kubectl("delete", "ingress", "goweb-ingress")
	o.wants(0, []string{"gone"}, "wait", "--for=deleted", "ingress/goweb-ingress", "-n", p.ns, "--timeout", "80s")
	o.wants(0, []string{"=> 404: no route"}, "explain", "http://www.goweb.com/x")
}
