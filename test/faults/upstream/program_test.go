package upstream_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/e2e/load"
)

// Where the command listens: nobody else is in this network.
const (
	programHTTP  = "127.0.0.1:18080"
	programAdmin = "127.0.0.1:18090"
)

// A program is `podlane serve` as a user runs it.
type program struct {
	t   testing.TB
	dir string
	cmd *exec.Cmd
}

// newProgram starts the command on an empty folder, and waits until it is ready. It is asked to end with the test, and must then end
// with status 0. Where prepare is not nil, it is called before the first instruction of the command runs.
func newProgram(t testing.TB, prepare func(pid int) error, args ...string) *program {
	t.Helper()
	noteSources(t)
	p := &program{t: t, dir: t.TempDir()}
	p.cmd = exec.Command(filepath.Join(os.Getenv(programsEnv), "podlane"), append([]string{
		"serve", "--from=" + p.dir, "--http-address=" + programHTTP, "--https-address=off", "--admin-address=" + programAdmin,
		"--access-log=off", "--drain-delay=0s",
	}, args...)...)
	var output bytes.Buffer
	p.cmd.Stdout, p.cmd.Stderr = &output, &output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: prepare != nil}
	if err := startStopped(p.cmd, prepare); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if err := p.cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("%v\n%s", err, output.String())
		}
	})
	await(t, "the command is ready", func() bool { status, _, err := fetch("/readyz"); return err == nil && status == http.StatusOK })
	return p
}

// noteSources opens the module's folders, so that go test, which remembers what a test opens, does not take the result of an older
// run for this one: the command is built from sources that the tests do not import.
func noteSources(t testing.TB) {
	t.Helper()
	root, err := assets.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// serve writes the manifests of a service and waits until they are live.
func (p *program) serve(s service, pods ...netip.AddrPort) {
	p.t.Helper()
	text := fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  rules:
  - host: %[3]s
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: %[2]s, port: {number: 80}}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec: {ports: [{port: 80, targetPort: %[4]d}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[2]s-1, namespace: %[1]s, labels: {kubernetes.io/service-name: %[2]s}}
addressType: IPv4
ports: [{name: "", port: %[4]d, protocol: TCP}]
endpoints:
`, s.namespace, s.name, s.host, podPort)
	for _, at := range pods {
		text += fmt.Sprintf("- {addresses: [%s], conditions: {ready: true}, targetRef: {kind: Pod, name: pod-%[1]s, uid: uid-%[1]s}}\n", at.Addr())
	}
	// As an editor saves: never half a file.
	file := filepath.Join(p.dir, s.name+".yaml")
	if err := errors.Join(os.WriteFile(file+".tmp", []byte(text), 0o600), os.Rename(file+".tmp", file)); err != nil {
		p.t.Fatal(err)
	}
	await(p.t, "the endpoints are live", func() bool {
		_, page, err := fetch("/debug/endpoints")
		for _, at := range pods {
			if !strings.Contains(page, at.String()) {
				return false
			}
		}
		return err == nil && strings.Contains(page, s.name)
	})
}

// fetch asks for an admin page.
func fetch(path string) (status int, page string, err error) {
	c, err := net.Dial("tcp", programAdmin)
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, programAdmin); err != nil {
		return 0, "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// metric is the sum of the series of /metrics whose line begins with prefix.
func (p *program) metric(prefix string) int {
	p.t.Helper()
	_, page, err := fetch("/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	sum := 0.0
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(prefix)+`.* (\S+)$`).FindAllStringSubmatch(page, -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			p.t.Fatal(err)
		}
		sum += v
	}
	return int(sum)
}

// rejected is rig.rejected.
func (p *program) rejected(reason string) int {
	p.t.Helper()
	return p.metric(fmt.Sprintf("podlane_requests_rejected_total{reason=%q}", reason))
}

// descriptors is how many descriptors the command has open.
func (p *program) descriptors() int {
	p.t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(all)
}

// The command as users run it meets F1, F3 and F6 at the same time, from a folder of manifests, and its pages tell of them.
func TestProgram(t *testing.T) {
	checkLeaks(t)
	p := newProgram(t, nil, "--proxy-header-timeout=300ms", "--upstream-keepalive-connections=0")
	r := &rig{t: t, address: programHTTP}
	var pods []netip.AddrPort
	for i := range 3 {
		web := newPlain(t, fmt.Sprint("web/", i), web().host, 1+i)
		web.listen(t)
		pods = append(pods, web.at)
	}
	hanging := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) { untilClosed(c, in) })
	cutting := newHostile(t, 10, func(_ int, c *net.TCPConn, in *bufio.Reader) {
		if _, _, _, err := request(in); err == nil {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n%s", strings.Repeat("x", 100_000))
		}
	})
	hangs, cuts := named("default", "hangs", "hangs.test"), named("default", "cuts", "cuts.test")
	p.serve(web(), pods...)
	p.serve(hangs, hanging.at)
	p.serve(cuts, cutting.at)
	f := newFirewall(t)
	before := p.descriptors()
	l := r.begin(load.Options{Method: http.MethodPost, Upload: 2000, Clients: 4, KeepAlive: true, Rate: 800})
	reach(t, l, 100)
	f.reset(podMatch(pods[0]).only())
	const each = 5
	for i := range each {
		if a := r.ask(http.MethodGet, hangs.host, fmt.Sprint(i)); a.status != http.StatusGatewayTimeout {
			t.Errorf("F3: %s, want 504", a)
		}
		if a := r.ask(http.MethodGet, cuts.host, fmt.Sprint(i)); a.status != http.StatusOK || a.whole() {
			t.Errorf("F6: %s, want a cut answer", a)
		}
	}
	reach(t, l, l.Sent()+200)
	sent := noneFailed(t, l.Stop())
	_, page, err := fetch("/debug/endpoints")
	if err != nil || !regexp.MustCompile(regexp.QuoteMeta(pods[0].String())+`.*ejected`).MatchString(page) {
		t.Errorf("/debug/endpoints does not show %s as ejected: %v\n%s", pods[0], err, page)
	}
	refused := p.metric(`podlane_upstream_connect_errors_total{reason="refused"}`)
	if n := p.metric("podlane_upstream_ejections_total"); n != 1 || refused == 0 {
		t.Errorf("/metrics: %d connects refused, %d ejections", refused, n)
	}
	for reason, want := range map[string]int{"upstream-timeout": each, "upstream-truncated": each, "connect-failed": 0} {
		await(t, reason, func() bool { return p.rejected(reason) >= want })
		if n := p.rejected(reason); n != want {
			t.Errorf("/metrics: %d requests rejected for %s, want %d", n, reason, want)
		}
	}
	await(t, "the command gives back its descriptors", func() bool { return p.descriptors() <= before })
	t.Logf("F1, F3, F6: podlane serve: %d POST, %d connects refused, 0 failed, 1 ejection; %d times 504, %d cut answers; descriptors back at %d",
		sent, refused, each, each, before)
}
