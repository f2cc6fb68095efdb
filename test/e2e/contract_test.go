package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"podlane.dev/podlane/test/cluster"
)

// Each way in which a request can end without a Pod's answer has its status, a short body and a reason in the access log; what
// a Pod answers is passed on.
func TestStatusContract(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	log := filepath.Join(t.TempDir(), "access.log")
	l := i.start(t, "--access-log="+log, "--proxy-header-timeout=1s")
	refusing := workload{Name: "refusing", Args: []string{"'--listen=:9999'"}, Probe: "none"}
	unready := workload{Name: "unready", Probe: "{exec: {command: [ls, /var/ready]}}"}
	ns.Apply(workload{Name: "web"}.yaml() + refusing.yaml() + unready.yaml() +
		ingressOf(i.class, "web", "web.contract.test", "web-svc") + ingressOf(i.class, "refusing", "refusing.contract.test", "refusing-svc") +
		ingressOf(i.class, "unready", "unready.contract.test", "unready-svc") + ingressOf(i.class, "missing", "missing.contract.test", "missing-svc"))
	for _, name := range []string{"web", "refusing"} {
		ns.WaitRollout(name)
	}
	l.waitStatus(t, "http://web.contract.test/", http.StatusOK)
	l.waitStatus(t, "http://refusing.contract.test/", http.StatusBadGateway)
	for n, test := range []struct {
		address string
		args    []string
		status  int
		reason  bool // that podlane answers by itself
	}{
		{address: "web.contract.test/", status: 200},
		{address: "web.contract.test/status?code=503", status: 503},
		{address: "web.contract.test/status?code=204", status: 204},
		{address: "web.contract.test/status?code=304", status: 304},
		{address: "web.contract.test/bytes?n=100000", args: []string{"--head"}, status: 200},
		{address: "unknown.contract.test/", status: 404, reason: true},
		{address: "missing.contract.test/", status: 503, reason: true},
		{address: "unready.contract.test/", status: 503, reason: true},
		{address: "refusing.contract.test/", status: 502, reason: true},
		{address: "web.contract.test/drop", status: 502, reason: true},
		{address: "web.contract.test/slow?ms=20000", status: 504, reason: true},
		{address: "web.contract.test/", args: []string{"--header", "Content-Length: 1", "--header", "Transfer-Encoding: chunked"}, status: 400, reason: true},
	} {
		id := fmt.Sprintf("contract-%d", n)
		a := l.curl(t, "http://"+test.address, append(test.args, "--user-agent", id)...)
		if a.Status != test.status {
			t.Errorf("%s: status %d, want %d", test.address, a.Status, test.status)
		}
		if test.reason && (len(a.Body) == 0 || len(a.Body) > 200) {
			t.Errorf("%s: the body is %q", test.address, a.Body)
		}
		if a.Header.Get("Date") == "" {
			t.Errorf("%s: no Date", test.address)
		}
		line := waitLine(t, log, id)
		if line.Status != test.status || (line.Reason != "") != test.reason {
			t.Errorf("%s: the access log says %+v", test.address, line)
		}
		t.Logf("%s: %d %q", test.address, line.Status, line.Reason)
	}
}

type logLine struct {
	Status    int
	Reason    string
	UserAgent string `json:"user_agent"`
}

// waitLine waits for the line of a request in an access log. A request that is refused for its form may be logged without its fields: then
// it is the last line.
func waitLine(t *testing.T, path, agent string) logLine {
	t.Helper()
	var found logLine
	cluster.Until(t, "line of "+agent, func(context.Context) error {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for text := range strings.Lines(string(content)) {
			var line logLine
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
			if line.UserAgent == agent || line.UserAgent == "" && line.Status == http.StatusBadRequest {
				found = line
				return nil
			}
		}
		return fmt.Errorf("not in %d bytes", len(content))
	})
	return found
}

// --watch-namespace hides the others; --default-backend-service answers for what has no route.
func TestWatchNamespaceAndDefaultBackend(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	watched, hidden := namespace(t, c), namespace(t, c)
	l := i.start(t, "--watch-namespace="+watched.Name, "--default-backend-service="+watched.Name+"/fallback-svc")
	hidden.Apply(workload{Name: "web"}.yaml() + ingressOf(i.class, "web", "hidden.watch.test", "web-svc"))
	watched.Apply(workload{Name: "web"}.yaml() + workload{Name: "fallback"}.yaml() + ingressOf(i.class, "web", "watched.watch.test", "web-svc"))
	hidden.WaitRollout("web")
	watched.WaitRollout("web")
	watched.WaitRollout("fallback")
	l.waitPods(t, "http://watched.watch.test/", watched.Pods("app=web")[0].Name)
	fallback := watched.Pods("app=fallback")[0].Name
	l.waitPods(t, "http://unknown.watch.test/", fallback)
	if a := l.curl(t, "http://hidden.watch.test/"); a.pod() != fallback {
		t.Errorf("a host of a namespace that is not watched was answered by %q", a.pod())
	}
}
