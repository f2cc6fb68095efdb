package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
	"podlane.dev/podlane/test/cluster/assets"
)

// A mover follows MOVING.md on a cluster. Its commands run as they are written, by bash, in a folder of the user's that has the
// chart and the manifests. What stands for something else:
//
//   - ingress-nginx is Debian's nginx with a configuration written by hand, with the names that ingress-nginx's own manifests have.
//   - The cloud that gives Services of type LoadBalancer an address is a balancer of this test, see balancer_test.go.
//   - helm has values more: where the Pods' credentials are, as the process kubelet mounts none, and short drains.
//   - kubectl port-forward, which the process kubelet cannot do, waits, and a server of this test has the page from within the Pod.
type mover struct {
	t        *testing.T
	c        *cluster.Cluster
	dir      string
	blocks   []block
	old, new *balancer
}

// block is a block of commands of the page, under the title of its section.
type block struct{ title, script string }

// parseBlocks returns the blocks of commands of a page.
func parseBlocks(page string) []block {
	var all []block
	for part := range strings.SplitSeq("\n"+page, "\n## ") {
		title, rest, _ := strings.Cut(part, "\n")
		parts := strings.Split(rest, "```")
		for i := 1; i < len(parts); i += 2 {
			if script, ok := strings.CutPrefix(parts[i], "sh\n"); ok {
				all = append(all, block{title, script})
			}
		}
	}
	return all
}

// follow runs the next block of commands, and returns what it printed. ok are the statuses, other than 0, that it may end with.
func (m *mover) follow(title string, ok ...int) string {
	m.t.Helper()
	if len(m.blocks) == 0 || m.blocks[0].title != title {
		m.t.Fatalf("the page goes on with %v, want %q", m.blocks, title)
	}
	b := m.blocks[0]
	m.blocks = m.blocks[1:]
	return m.run(b.script, ok)
}

func (m *mover) run(script string, ok []int) string {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "bash", "-e", "-u", "-o", "pipefail", "-c", script)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(m.dir, "bin")+":/usr/bin:/bin", "KUBECONFIG="+m.c.Kubeconfig(), "HOME="+m.dir, "no_proxy=*")
	out, err := cmd.CombinedOutput()
	m.t.Logf("%s\n%s", strings.TrimSpace(script), out)
	if err == nil {
		return string(out)
	}
	for _, status := range ok {
		if cmd.ProcessState.ExitCode() == status {
			return string(out)
		}
	}
	m.t.Fatalf("%v", err)
	return ""
}

// write writes a file of the user's folder.
func (m *mover) write(name, content string, mode os.FileMode) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// apply applies manifests.
func (m *mover) apply(manifests string) {
	m.t.Helper()
	if _, err := m.c.Kubectl(m.t.Context(), manifests, "apply", "-f", "-"); err != nil {
		m.t.Fatal(err)
	}
}

// prepare makes what the user has: the programs, the chart, the cluster with ingress-nginx in it, and a shop behind it.
func (m *mover) prepare() {
	m.t.Helper()
	m.t.Cleanup(func() { // a web server in it may run on for a moment
		_ = os.RemoveAll(m.dir)
	})
	root, err := assets.ModuleRoot()
	if err != nil {
		m.t.Fatal(err)
	}
	programs, err := assets.Find(os.Stderr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.programs(root, programs.Kubectl)
	pair := newKeyPair(m.t, "shop.example.com")
	m.apply(fmt.Sprintf(shop, "|\n    "+indent(pair.certificate), "|\n    "+indent(pair.key)))
	m.write("manifests/shop.yaml", strings.Replace(fmt.Sprintf(shop, "|\n    "+indent(pair.certificate), "|\n    "+indent(pair.key)), "---\n", "", 1), 0o644)
	m.waitRollout("default", "web")
	m.nginx(pair)
	// Helm takes over what has its marks: the account is there before the Pods that need its credentials.
	m.apply(account)
	kubeconfig, err := m.c.ServiceAccountKubeconfig(m.t.Context(), "podlane", "podlane")
	if err != nil {
		m.t.Fatal(err)
	}
	m.write("site.yaml", "controller: {extraEnvs: [{name: KUBECONFIG, value: "+kubeconfig+"}], drainDelaySeconds: 1, shutdownTimeoutSeconds: 5}\n", 0o644)
	m.new = balance(m.t, m.c, "podlane", "podlane", "127.0.2.2")
}

// programs makes the folder of programs, and the chart.
func (m *mover) programs(root, kubectl string) {
	m.t.Helper()
	m.write("bin/helm", fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" -f %s/site.yaml\n", tools.Helm(), m.dir), 0o755)
	m.write("bin/kubectl", fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *port-forward*) exec sleep 60;; esac\nexec %s \"$@\"\n", kubectl), 0o755)
	for from, to := range map[string]string{cluster.Program("podlane"): "bin/podlane", filepath.Join(root, "chart"): "chart"} {
		if err := os.Symlink(from, filepath.Join(m.dir, to)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// nginx starts the old controller, whose balancer is m.old.
func (m *mover) nginx(pair keyPair) {
	m.t.Helper()
	pods := m.pods("default", "app=web")
	files := m.write("nginx/tls.crt", pair.certificate, 0o644)
	m.write("nginx/tls.key", pair.key, 0o644)
	config := m.write("nginx/nginx.conf", strings.NewReplacer("DIR", filepath.Dir(files), "POD", pods[0].Status.PodIP).Replace(nginxText), 0o644)
	m.apply(fmt.Sprintf(oldController, config))
	m.waitRollout("ingress-nginx", "ingress-nginx-controller")
	m.old = balance(m.t, m.c, "ingress-nginx", "ingress-nginx-controller", "127.0.2.1")
	m.old.publish()
}

func (m *mover) pods(namespace, selector string) []corev1.Pod {
	m.t.Helper()
	list, err := m.c.Client.CoreV1().Pods(namespace).List(m.t.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		m.t.Fatal(err)
	}
	var pods []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			pods = append(pods, p)
		}
	}
	return pods
}

func (m *mover) waitRollout(namespace, deployment string) {
	m.t.Helper()
	if _, err := m.c.Kubectl(m.t.Context(), "", "-n", namespace, "rollout", "status", "--timeout=60s", "deployment/"+deployment); err != nil {
		m.t.Fatal(err)
	}
}

// forward does what `kubectl port-forward deployment/podlane 9091` does for one page at a time.
func (m *mover) forward() {
	m.t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list, err := m.c.Client.CoreV1().Pods("podlane").List(r.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) == 0 {
			http.Error(w, fmt.Sprint("no Pod: ", err), http.StatusBadGateway)
			return
		}
		page, err := m.c.Kubelet.Exec(r.Context(), "podlane", list.Items[0].Name, "curl", "-sS", "http://localhost:9091"+r.URL.RequestURI())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(page)
	}))
	server.Listener.Close()
	server.Listener = listen(m.t, "127.0.0.1:9091")
	server.Start()
	m.t.Cleanup(server.Close)
}

// waitStatus waits until the shop's Ingress has exactly this address.
func (m *mover) waitStatus(address string) {
	m.t.Helper()
	cluster.Until(m.t, "the Ingress's address "+address, func(ctx context.Context) error {
		out, err := m.c.Kubectl(ctx, "", "get", "ingress", "shop", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
		if err == nil && out != address {
			err = fmt.Errorf("it has %q", out)
		}
		return err
	})
}

// TestMoving follows MOVING.md: from ingress-nginx to Podlane and back again, while clients are served by both.
func TestMoving(t *testing.T) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is not installed (Debian: apt-get install nginx-light)")
	}
	for _, tool := range []string{"bash", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	dir, err := os.MkdirTemp("", "podlane-moving-") //nolint:usetesting // programs of the cluster outlive the test's own folder
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // Pods run as other users
		t.Fatal(err)
	}
	m := &mover{t: t, dir: dir, blocks: parseBlocks(readFile(t, "MOVING.md"))}
	m.c = cluster.New(t, cluster.Options{Images: map[string]string{
		"ghcr.io/podlane/podlane":    cluster.Program("podlane"),
		"registry.example.com/goweb": cluster.Program("backend"),
		"registry.example.com/nginx": program,
	}})
	m.prepare()

	checkReport(t, m.follow("1. What will work, and what will not"), filepath.Join(dir, "report.json"))

	m.forward()
	m.new.publishWhenThere()
	m.follow("2. Side by side")
	m.waitEvent()
	thoughts := m.follow("2. Side by side")
	for _, want := range []string{"ingress/shop", "proxy-send-timeout", "requests to /shop get 301"} {
		if !strings.Contains(thoughts, want) {
			t.Errorf("neither the Events nor the Problems tell of %s", want)
		}
	}
	m.waitStatus("") // Podlane writes none
	clients := m.clients()

	checkDifference(t, m.follow("3. Compare", 1))

	m.follow("4. Switch")
	m.waitStatus(m.new.address)
	cluster.Until(t, "the end of ingress-nginx's Pod", func(context.Context) error {
		if pods := m.pods("ingress-nginx", ""); len(pods) > 0 {
			return fmt.Errorf("there are %d", len(pods))
		}
		return nil
	})

	m.follow("5. Back again")
	m.waitRollout("podlane", "podlane")
	m.waitRollout("ingress-nginx", "ingress-nginx-controller")
	cluster.WaitOK(t, "https://"+m.old.address+"/")
	clients()

	lint := m.follow("Later: without surprises", 2) // of the mistake
	if strings.Contains(lint, "ingress-nginx answers") || !strings.Contains(lint, "proxy-send-timeout") {
		t.Errorf("without --compat there is still a surprise, or nothing is said: %s", lint)
	}
	if len(m.blocks) > 0 {
		t.Errorf("not followed: %v", m.blocks)
	}
}

// waitEvent waits until an Event tells of the shop's Ingress.
func (m *mover) waitEvent() {
	m.t.Helper()
	cluster.Until(m.t, "an Event on the Ingress", func(ctx context.Context) error {
		list, err := m.c.Client.EventsV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "regarding.name=shop"})
		if err == nil && len(list.Items) == 0 {
			err = errors.New("none yet")
		}
		return err
	})
}

// checkReport looks at what `podlane migrate` says about the cluster, as text and of the files, as JSON.
func checkReport(t *testing.T, text, file string) {
	t.Helper()
	if !strings.Contains(text, "default/shop") {
		t.Errorf("the report does not tell of the Ingress: %s", text)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report any
	if err := json.Unmarshal(content, &report); err != nil || !strings.Contains(string(content), "shop") {
		t.Errorf("%v: %s", err, content)
	}
}

// checkDifference holds the page to its word: only Server, Date and request identifiers differ.
func checkDifference(t *testing.T, diff string) {
	t.Helper()
	lines := 0
	for line := range strings.Lines(diff) {
		if !strings.HasPrefix(line, "<") && !strings.HasPrefix(line, ">") {
			continue
		}
		lines++
		name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(line[1:])), ":")
		switch name {
		case "server", "date", "x-request-id":
		default:
			t.Errorf("the answers differ in %q", line)
		}
	}
	if lines == 0 {
		t.Error("the answers do not differ at all: were there two controllers?")
	}
}
