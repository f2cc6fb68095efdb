package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster"
)

// S10: what the file promised that an nginx controller generated, as the text shows it, without an annotation or a setting:
//
//	upstream … { random two least_conn; server 10.244.2.52:80 max_fails=1 fail_timeout=10s max_conns=0; }
//	proxy_http_version 1.1; proxy_read_timeout 60s; proxy_send_timeout 60s; client_max_body_size 1m;
//	proxy_set_header Host $host; … X-Real-IP $remote_addr; … X-Forwarded-For, -Host, -Port, -Proto
//
// Only its proxy_connect_timeout of 60 s is 5 s here: a Pod that is there answers a SYN at once.
func TestS10NginxFile(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	l := i.start(t)
	ns.Apply(workload{Name: "demo", Replicas: 3}.yaml() + ingressOf(i.class, "demo", "demo.goweb.com", "demo-svc"))
	ns.WaitRollout("demo")
	var pods []string
	for _, ip := range ns.PodIPs("app=demo") {
		pods = append(pods, ip+":8000")
	}
	l.waitEndpoints(t, ns.Name, "demo-svc", pods...)
	t.Run("fields", func(t *testing.T) { nginxFields(t, l) })
	t.Run("body", func(t *testing.T) { nginxBody(t, l) })
	t.Run("reuse", func(t *testing.T) { nginxReuse(t, l, pods) })
	t.Run("least connections", func(t *testing.T) { nginxLeastConnections(t, l, ns) })
	t.Run("timeouts", nginxTimeouts)
	t.Run("endpoint changes", func(t *testing.T) { nginxChanges(t, l, i, ns) })
}

func nginxFields(t *testing.T, l *lane) {
	t.Helper()
	a := l.curl(t, "http://demo.goweb.com/echo/a?b=c", "--header", "X-Forwarded-Proto: https", "--header", "X-Real-IP: 6.6.6.6",
		"--header", "X-Forwarded-For: 6.6.6.6")
	e := a.echo(t)
	for name, want := range map[string]string{
		"Host": "demo.goweb.com", "X-Real-IP": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "demo.goweb.com",
		"X-Forwarded-Port": "80", "X-Forwarded-Proto": "http",
	} {
		if got := e.values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s came to the Pod as %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(a.Body, `"proto": "HTTP/1.1"`) || len(e.values("Connection")) > 0 {
		t.Errorf("the Pod was spoken to in another version, or with Connection: %q\n%s", e.values("Connection"), a.Body)
	}
}

func nginxBody(t *testing.T, l *lane) {
	t.Helper()
	for _, chunked := range []bool{false, true} {
		for size, want := range map[int]int{1 << 20: http.StatusOK, 1<<20 + 1: http.StatusRequestEntityTooLarge} {
			args := []string{"--data-binary", "@-", "--header", "Expect:"}
			if chunked {
				args = append(args, "--header", "Transfer-Encoding: chunked")
			}
			a, err := l.curlWith(t.Context(), bytes.Repeat([]byte("x"), size), "http://demo.goweb.com/sha", args...)
			if err != nil || a.Status != want {
				t.Errorf("a body of %d bytes, chunked %t: %v %v, want %d", size, chunked, a, err, want)
			}
		}
	}
}

// curlWith is tryCurl with an input.
func (l *lane) curlWith(ctx context.Context, input []byte, address string, args ...string) (*answer, error) {
	host, _, _ := strings.Cut(strings.TrimPrefix(address, "http://"), "/")
	args = append([]string{"--silent", "--show-error", "--include", "--max-time", "30", "--resolve", host + ":80:" + l.ip}, append(args, address)...)
	cmd := exec.CommandContext(ctx, "curl", args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	return parseAnswer(string(out))
}

// nginxReuse: HTTP/1.1 to the Pods means that connections are kept, which nginx's file did not even do.
func nginxReuse(t *testing.T, l *lane, pods []string) {
	t.Helper()
	const requests = 60
	before := connectionsOf(t, pods)
	for range requests {
		if a := l.curl(t, "http://demo.goweb.com/"); a.Status != http.StatusOK {
			t.Fatalf("status %d", a.Status)
		}
	}
	made := connectionsOf(t, pods) - before - len(pods) // what asks for the count makes one each
	t.Logf("S10: %d requests of clients without keep-alive over %d new connections to Pods", requests, made)
	if made > requests/4 {
		t.Errorf("%d requests made %d connections to Pods", requests, made)
	}
}

// connectionsOf is the number of connections that the Pods have seen.
func connectionsOf(t *testing.T, pods []string) int {
	t.Helper()
	sum := 0
	for _, address := range pods {
		text := cluster.Curl(t, "http://"+address+"/count")
		_, rest, found := strings.Cut(text, `"connections":`)
		digits := strings.TrimLeft(rest, " ")
		n, err := strconv.Atoi(digits[:len(digits)-len(strings.TrimLeft(digits, "0123456789"))])
		if !found || err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		sum += n
	}
	return sum
}

// nginxLeastConnections: requests that stay are spread by how many each Pod has. By chance alone three Pods would not have about the
// same number of them.
func nginxLeastConnections(t *testing.T, l *lane, ns *cluster.Namespace) {
	t.Helper()
	const waiting = 90
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range waiting {
		c, err := net.DialTimeout("tcp", l.address(80), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		fmt.Fprint(c, "GET /slow?ms=30000 HTTP/1.1\r\nHost: demo.goweb.com\r\n\r\n")
	}
	var counts []int
	cluster.Until(t, "requests in flight", func(ctx context.Context) error {
		var pools []struct {
			Namespace, Service string
			Endpoints          []struct{ InFlight int }
		}
		if err := l.debug(ctx, "endpoints", &pools); err != nil {
			return err
		}
		counts = nil
		sum := 0
		for _, p := range pools {
			for _, e := range p.Endpoints {
				if p.Namespace == ns.Name && p.Service == "demo-svc" {
					counts = append(counts, e.InFlight)
					sum += e.InFlight
				}
			}
		}
		if sum != waiting {
			return fmt.Errorf("%d of %d", sum, waiting)
		}
		return nil
	})
	t.Logf("S10: %d requests that stay, by Pod: %v", waiting, counts)
	if len(counts) != 3 || slices.Max(counts)-slices.Min(counts) > 4 {
		t.Errorf("requests in flight by Pod: %v", counts)
	}
}

// nginxTimeouts reads the defaults where a user does: nobody waits a minute for a test.
func nginxTimeouts(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), cluster.Program("podlane"), "controller", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for flag, want := range map[string]string{
		"--proxy-read-timeout": "1m", "--proxy-header-timeout": "1m", "--send-timeout": "1m", "--client-body-timeout": "1m",
		"--proxy-connect-timeout": "5s", "--proxy-body-size": "1m", "--max-fails": "1", "--fail-timeout": "10s",
	} {
		_, rest, _ := strings.Cut(string(out), "\n      "+flag+" ")
		_, value, _ := strings.Cut(rest, "(default ")
		value, _, _ = strings.Cut(value, ")")
		if value != want {
			t.Errorf("%s has the default %q, want %q", flag, value, want)
		}
	}
}

// nginxChanges: where the file needed a reload for each endpoint, and cut long connections with it, one client connection lives through
// changes of endpoints and routes, and so do an upgrade and a request in flight to a Pod that stays.
func nginxChanges(t *testing.T, l *lane, i *installation, ns *cluster.Namespace) {
	t.Helper()
	c, err := net.DialTimeout("tcp", l.address(80), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	ask := func(when string) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: demo.goweb.com\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK || res.Close {
			t.Fatalf("%s: %s, close %t, %v", when, res.Status, res.Close, err)
		}
	}
	slow := make(chan error, 1)
	go func() {
		a, err := l.tryCurl(t.Context(), "http://demo.goweb.com/slow?ms=3000")
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("status %d", a.Status)
		}
		slow <- err
	}()
	for round, replicas := range []int{4, 2, 3} {
		ask(fmt.Sprintf("before change %d", round))
		ns.Kubectl("scale", "deployment/demo", "--replicas="+strconv.Itoa(replicas))
		extra := fmt.Sprintf("extra-%d", round)
		ns.Apply(ingressOf(i.class, extra, extra+".goweb.com", "demo-svc"))
		cluster.Until(t, "endpoints", func(ctx context.Context) error {
			have, err := l.endpoints(ctx, ns.Name, "demo-svc")
			ask("while endpoints change")
			if err == nil && len(have) != replicas {
				err = fmt.Errorf("have %v", have)
			}
			return err
		})
		l.waitStatus(t, "http://"+extra+".goweb.com/", http.StatusOK)
		for range 20 {
			ask(fmt.Sprintf("after change %d", round))
		}
	}
	if err := <-slow; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
}

// S10, max_fails=1 fail_timeout=10s: an endpoint that refuses one connection is left alone for ten seconds, which no client notices; then
// it is tried again.
func TestS10MaxFails(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	l := i.start(t)
	ns.Apply(pod("one", "app: external", "--name=one") + pod("two", "app: external", "--name=two"))
	up := ns.WaitPods("app=external", 2)
	back := nextPodless(t)
	const address = "http://fails.goweb.com/"
	ns.Apply(externalService + externalEndpoints(up[0].Status.PodIP, up[1].Status.PodIP, back) +
		ingressOf(i.class, "fails", "fails.goweb.com", "external-svc"))
	l.waitEndpoints(t, ns.Name, "external-svc", up[0].Status.PodIP+":8000", up[1].Status.PodIP+":8000", back+":8000")
	for _, p := range up {
		cluster.WaitOK(t, "http://"+p.Status.PodIP+":8000/readyz")
	}
	state := func(ctx context.Context) string {
		all, err := l.pools(ctx)
		if err != nil {
			return err.Error()
		}
		for _, p := range all {
			for _, e := range p.Endpoints {
				if p.Namespace == ns.Name && e.Address == back+":8000" {
					return e.State
				}
			}
		}
		return "gone"
	}
	began := time.Now()
	for n := 0; state(t.Context()) != "ejected"; n++ {
		if l.pods(t, address, 1); n > 50 {
			t.Fatal("an endpoint that refuses connections is not ejected")
		}
	}
	failed := func() float64 {
		n, err := l.metric(t.Context(), "podlane_upstream_connect_errors_total")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := failed(); n != 1 {
		t.Errorf("%v connections failed before it was ejected, want 1", n)
	}
	seen := l.pods(t, address, 200)
	if n := failed(); n != 1 && time.Since(began) < 9*time.Second {
		t.Errorf("%v connections failed in %s, want the 1 that ejected it", n, time.Since(began))
	}
	t.Logf("S10: one failure ejects; then 200 requests in %s: %v, %v failed connections", time.Since(began).Round(time.Millisecond), seen, failed())
	c.Start(t, cluster.Command("backend", "--name=back", "--listen="+back+":8000", "--shutdown=abrupt"))
	l.waitPods(t, address, "back")
	t.Logf("S10: it is back in use %s after its failure (fail_timeout 10 s)", time.Since(began).Round(time.Millisecond))
	if state(t.Context()) == "ejected" {
		t.Error("it answers and is ejected")
	}
}

// nextPodless is an address of this machine, on which nothing listens yet, for as long as the test runs.
func nextPodless(t *testing.T) string {
	t.Helper()
	const address = "10.239.7.1"
	addAddress(t, address)
	return address
}
