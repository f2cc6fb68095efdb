package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestServeAnswers(t *testing.T) {
	s := serve(t, map[string]string{
		"web.yaml":   serviceOf("web", pod(t, "pod 1"), pod(t, "pod 2")),
		"empty.yaml": serviceOf("empty"),
		"ingress.yaml": ingressOf("web", "www.goweb.com", "/", "web") + "---\n" + ingressOf("empty", "empty.example", "/", "empty") +
			"---\n" + ingressOf("missing", "missing.example", "/", "nowhere"),
	})
	seen := map[string]int{}
	for range 20 {
		a := s.get("http://www.goweb.com/x")
		if a.status != 200 {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		seen[a.body]++
	}
	if seen["this is pod 1"] == 0 || seen["this is pod 2"] == 0 {
		t.Errorf("answers came from %v, want from both Pods", seen)
	}
	for url, want := range map[string]int{
		"http://unknown.example/": 404, "http://empty.example/": 503, "http://missing.example/": 503,
	} {
		if a := s.get(url); a.status != want {
			t.Errorf("%s: %d, want %d", url, a.status, want)
		}
	}
	s.says(`podlane \S+ serves 3 routes from`)
	s.says(`\+ http://www\.goweb\.com/ → default/web \(2 endpoints\)`)
	s.says(`\+ http://empty\.example/ → default/empty \(0 endpoints\)`)
	s.says(`\+ http://missing\.example/ → default/nowhere:80 \(503: ServiceNotFound\)`)
	s.says(`! \S*ingress\.yaml:\d+: Ingress default/missing`)
	if try := s.says(`try: (.*)`); try != "curl -H 'Host: www.goweb.com' http://"+s.http+"/" {
		t.Errorf("try %q", try)
	}
}

func TestServeFollowsChanges(t *testing.T) {
	one, two := pod(t, "one"), pod(t, "two")
	s := serve(t, map[string]string{
		"web.yaml":     serviceOf("web", one),
		"ingress.yaml": ingressOf("web", "a.example", "/", "web"),
	})
	s.write(t, "sub/new.yaml", ingressOf("new", "b.example", "/", "web"))
	eventually(t, "a new route is live", func() bool { return s.get("http://b.example/").status == 200 })
	s.says(`(?m)^\+ http://b\.example/ → default/web \(1 endpoint\)$`)
	s.says(`(?m)^= 2 routes, live \S+ after the change$`)

	s.write(t, "web.yaml", serviceOf("web", one, two))
	eventually(t, "a new endpoint answers", func() bool { return s.get("http://a.example/").body == "this is two" })
	s.says(fmt.Sprintf(`(?m)^~ default/web: 2 endpoints, was 1 \+127\.0\.0\.1:%d$`, two))

	s.write(t, "web.yaml", serviceOf("web", two))
	s.says(fmt.Sprintf(`(?m)^~ default/web: 1 endpoint, was 2 -127\.0\.0\.1:%d$`, one))
	for range 10 {
		if a := s.get("http://a.example/"); a.body != "this is two" {
			t.Errorf("after its removal an endpoint answered: %q", a.body)
		}
	}

	must(t, os.Remove(filepath.Join(s.dir, "sub", "new.yaml")))
	eventually(t, "a removed route is gone", func() bool { return s.get("http://b.example/").status == 404 })
	s.says(`(?m)^- http://b\.example/$`)
}

func TestServeKeepsTheTableWhenAFileBreaks(t *testing.T) {
	s := serve(t, map[string]string{
		"web.yaml":     serviceOf("web", pod(t, "one")),
		"ingress.yaml": ingressOf("web", "a.example", "/", "web"),
		"other.yaml":   ingressOf("other", "b.example", "/", "web"),
	})
	s.write(t, "ingress.yaml", "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web\nspec: [\n")
	s.says(`! \S*ingress\.yaml:\d+: .*ManifestInvalid`)
	s.says(`! what is live stays as it is`)
	if code, problems := s.page("/debug/problems"); code != 200 || !strings.Contains(problems, "ingress.yaml:") {
		t.Errorf("/debug/problems: %d %s", code, problems)
	}
	// Another file that changes meanwhile must not make the broken one's routes disappear.
	s.write(t, "other.yaml", ingressOf("other", "c.example", "/", "web"))
	if a := s.get("http://a.example/"); a.status != 200 {
		t.Errorf("the last good route answers %d", a.status)
	}
	s.write(t, "ingress.yaml", ingressOf("web", "a.example", "/mended", "web"))
	s.says(`(?m)^\+ http://a\.example/mended`)
	s.says(`1 problem solved`)
	for url, want := range map[string]int{"http://a.example/": 404, "http://a.example/mended": 200, "http://b.example/": 404, "http://c.example/": 200} {
		if a := s.get(url); a.status != want {
			t.Errorf("after it was mended %s answers %d, want %d", url, a.status, want)
		}
	}
}

func TestServeStartsWithABrokenFile(t *testing.T) {
	s := serve(t, map[string]string{
		"web.yaml":     serviceOf("web", pod(t, "one")),
		"ingress.yaml": ingressOf("web", "a.example", "/", "web"),
		"broken.yaml":  "kind: [",
	})
	s.says(`! \S*broken\.yaml:\d+: .*ManifestInvalid`)
	if a := s.get("http://a.example/"); a.status != 200 {
		t.Errorf("what can be read answers %d, want 200", a.status)
	}
}

func TestServeHTTPS(t *testing.T) {
	secret, serial := secretOf(t, "tls", "a.example")
	s := serve(t, map[string]string{
		"web.yaml":     serviceOf("web", pod(t, "one")),
		"secret.yaml":  secret,
		"ingress.yaml": withTLS("web", "a.example", "web", "tls") + "---\n" + ingressOf("plain", "plain.example", "/", "web"),
	})
	if a := s.get("http://a.example/x/?q"); a.status != 308 || a.header.Get("Location") != "https://a.example/x/?q" {
		t.Errorf("in clear: %d, Location %q", a.status, a.header.Get("Location"))
	}
	if a := s.get("https://a.example/x"); a.status != 200 || a.tls.PeerCertificates[0].SerialNumber.Cmp(serial) != 0 {
		t.Errorf("over TLS: %d, certificate %v, want %v", a.status, a.tls.PeerCertificates[0].SerialNumber, serial)
	}
	if a := s.get("https://plain.example/x"); a.status != 200 || len(a.tls.PeerCertificates[0].DNSNames) == 0 {
		t.Errorf("name without a certificate: %d, want the default one", a.status)
	}
	s.says(`\+ certificate default/tls for a\.example`)
	if try := s.says(`try: (.*)`); !strings.HasPrefix(try, "curl -k --resolve a.example:") {
		t.Errorf("try %q", try)
	}

	secret, serial = secretOf(t, "tls", "a.example")
	s.write(t, "secret.yaml", secret)
	eventually(t, "the new certificate is shown", func() bool {
		return s.get("https://a.example/").tls.PeerCertificates[0].SerialNumber.Cmp(serial) == 0
	})
	s.says(`~ certificate default/tls for a\.example: replaced`)

	s.write(t, "secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: tls, namespace: default}\ntype: kubernetes.io/tls\ndata: {tls.crt: AAAA, tls.key: AAAA}\n")
	s.says(`~ certificate default/tls for a\.example: unusable, the last good one stays`)
	if a := s.get("https://a.example/"); a.tls.PeerCertificates[0].SerialNumber.Cmp(serial) != 0 {
		t.Errorf("after its Secret broke the certificate is %v, want the last good one", a.tls.PeerCertificates[0].SerialNumber)
	}
}

// A certificate that expires is told of at that moment, and one that is renewed with an expired one stays as it was.
func TestServeExpiredCertificates(t *testing.T) {
	soon, _ := secretUntil(t, "soon", "soon.example", time.Now().Add(2*time.Second))
	good, serial := secretOf(t, "tls", "a.example")
	s := serve(t, map[string]string{
		"web.yaml":     serviceOf("web", pod(t, "one")),
		"soon.yaml":    soon,
		"tls.yaml":     good,
		"ingress.yaml": withTLS("soon", "soon.example", "web", "soon") + "---\n" + withTLS("web", "a.example", "web", "tls"),
	})
	s.says(`! \S*ingress\.yaml:\d+: Ingress default/soon spec\.tls\[0\]\.secretName: CertificateExpired \(Notice\)`)
	expired, _ := secretUntil(t, "tls", "a.example", time.Now().Add(-time.Minute))
	s.write(t, "tls.yaml", expired)
	s.says(`! \S*ingress\.yaml:\d+: Ingress default/web spec\.tls\[0\]\.secretName: CertificateExpired \(Notice\)`)
	if _, list := s.page("/debug/certs"); !strings.Contains(list, "expired") || !strings.Contains(list, "stale until") {
		t.Errorf("/debug/certs:\n%s", list)
	}
	if got := s.get("https://a.example/").tls.PeerCertificates[0].SerialNumber; got.Cmp(serial) != 0 {
		t.Errorf("serial %v, want the last good one's %v", got, serial)
	}
}

func TestServeAnnotations(t *testing.T) {
	secret, _ := secretOf(t, "tls", "a.example")
	annotated := func(name, host string, annotations string) string {
		return strings.Replace(withTLS(name, host, "web", "tls"), "  namespace: default\n", "  namespace: default\n  annotations: {"+annotations+"}\n", 1)
	}
	s := serve(t, map[string]string{
		"web.yaml":    serviceOf("web", pod(t, "one")),
		"secret.yaml": secret,
		"ingress.yaml": annotated("clear", "clear.example", `nginx.ingress.kubernetes.io/ssl-redirect: "false"`) +
			"---\n" + annotated("hsts", "hsts.example", `podlane.dev/hsts: "max-age=60"`) +
			"---\n" + annotated("bad", "bad.example", `podlane.dev/force-ssl-redirect: "yes"`),
	})
	if a := s.get("http://clear.example/"); a.status != 200 {
		t.Errorf("ssl-redirect false: %d in clear, want 200", a.status)
	}
	if a := s.get("https://hsts.example/"); a.status != 200 || a.header.Get("Strict-Transport-Security") != "max-age=60" {
		t.Errorf("hsts: %d with %q", a.status, a.header.Get("Strict-Transport-Security"))
	}
	if a := s.get("https://bad.example/"); a.status != 503 {
		t.Errorf("a security policy that does not parse: %d, want 503", a.status)
	}
	s.says(`InvalidAnnotation \(RouteDenied\).*force-ssl-redirect`)
}

func TestServeTakesOneClass(t *testing.T) {
	files := map[string]string{
		"web.yaml": serviceOf("web", pod(t, "one")),
		"ingress.yaml": strings.Replace(ingressOf("a", "a.example", "/", "web"), "spec:\n", "spec:\n  ingressClassName: mine\n", 1) +
			"---\n" + strings.Replace(ingressOf("b", "b.example", "/", "web"), "spec:\n", "spec:\n  ingressClassName: other\n", 1),
		"class.yaml": "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: mine}\nspec: {controller: podlane.dev/ingress-controller}\n",
	}
	for _, tc := range []struct {
		args []string
		b    int
	}{{nil, 200}, {[]string{"--ingress-class=mine"}, 404}} {
		s := serve(t, files, tc.args...)
		if a := s.get("http://a.example/"); a.status != 200 {
			t.Errorf("%v: a.example answers %d, want 200", tc.args, a.status)
		}
		if a := s.get("http://b.example/"); a.status != tc.b {
			t.Errorf("%v: b.example answers %d, want %d", tc.args, a.status, tc.b)
		}
	}
}

func TestServeAdminPages(t *testing.T) {
	port := pod(t, "one")
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", port) + "---\n" + ingressOf("web", "a.example", "/", "web")})
	s.get("http://a.example/")
	for path, want := range map[string]string{
		"/healthz": "ok\n", "/readyz": "ok\n", "/debug/problems": "no problems\n",
		"/debug/routes":    "host a.example\n  Prefix / -> default/web",
		"/debug/endpoints": fmt.Sprintf("default/web\n  127.0.0.1:%d  ready", port),
		"/metrics":         `podlane_requests_total{`,
	} {
		// A request is counted after its answer has left.
		eventually(t, path+" shows "+want, func() bool {
			code, body := s.page(path)
			return code == 200 && strings.Contains(body, want)
		})
	}
	var table tableJSON
	_, body := s.page("/debug/routes?format=json")
	if err := json.Unmarshal([]byte(body), &table); err != nil || len(table.Routes) != 1 || table.Routes[0].Host != "a.example" {
		t.Errorf("routes as JSON: %+v, %v", table, err)
	}
}

func TestServePortTaken(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	for _, flag := range []string{"http-address", "https-address", "admin-address"} {
		args := []string{"serve", "--from", t.TempDir()}
		for _, f := range []string{"http-address", "https-address", "admin-address"} {
			address := "127.0.0.1:0"
			if f == flag {
				address = l.Addr().String()
			}
			args = append(args, "--"+f+"="+address)
		}
		code, stdout, stderr := podlane(t, args...)
		want := fmt.Sprintf("podlane: --%s: %s is taken by another program: stop it, or write another port\n", flag, l.Addr())
		if code != 1 || stderr != want || stdout != "" {
			t.Errorf("exit %d, stdout %q, stderr %q, want %q", code, stdout, stderr, want)
		}
	}
}

func TestServeEmptyFolder(t *testing.T) {
	s := serve(t, nil)
	s.says(`serves 0 routes`)
	if a := s.get("http://a.example/"); a.status != 404 {
		t.Errorf("status %d, want 404", a.status)
	}
	s.write(t, "all.yaml", serviceOf("web", pod(t, "one"))+"---\n"+ingressOf("web", "a.example", "/", "web"))
	eventually(t, "the first route is live", func() bool { return s.get("http://a.example/").status == 200 })
}

// slowPod answers when it is told to, and tells of each request.
func slowPod(t *testing.T) (port int, asked chan struct{}, answer chan struct{}) {
	t.Helper()
	asked, answer = make(chan struct{}, 16), make(chan struct{})
	return podOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" {
			_, _ = io.WriteString(w, "fast")
			return
		}
		asked <- struct{}{}
		select {
		case <-answer:
			_, _ = io.WriteString(w, "slow")
		case <-r.Context().Done():
		}
	})), asked, answer
}

func TestServeDrains(t *testing.T) {
	port, asked, release := slowPod(t)
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", port) + "---\n" + ingressOf("web", "a.example", "/", "web")},
		"--drain-delay=1h", "--shutdown-timeout=1h")
	var slow errgroup.Group
	slow.Go(func() error {
		a, err := s.ask("http://a.example/slow")
		if err == nil && (a.status != 200 || a.body != "slow") {
			err = fmt.Errorf("got %d %q", a.status, a.body)
		}
		return err
	})
	<-asked
	s.signals <- syscall.SIGTERM
	eventually(t, "readiness is off", func() bool { code, _ := s.page("/readyz"); return code == 503 })
	if code, _ := s.page("/healthz"); code != 200 {
		t.Errorf("/healthz %d while draining, want 200", code)
	}
	// During the drain delay everything is as before.
	if a := s.get("http://a.example/fast"); a.status != 200 {
		t.Errorf("new connection during the drain delay: %d", a.status)
	}
	select {
	case code := <-s.exit:
		t.Fatalf("exit %d during the drain delay", code)
	default:
	}
	close(release)
	if err := slow.Wait(); err != nil {
		t.Errorf("request in flight: %v", err)
	}
	// An hour of delay is cut short by the second signal.
	s.signals <- syscall.SIGTERM
	if code := s.wait(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	if _, err := s.ask("http://a.example/fast"); err == nil {
		t.Error("still accepts after the end")
	}
}

func TestServeFinishesRequestsAfterTheDelay(t *testing.T) {
	port, asked, release := slowPod(t)
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", port) + "---\n" + ingressOf("web", "a.example", "/", "web")},
		"--drain-delay=0", "--shutdown-timeout=1h")
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.http)
	must(t, err)
	defer func() { _ = nc.Close() }()
	_, err = io.WriteString(nc, "GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n")
	must(t, err)
	<-asked
	s.signals <- syscall.SIGTERM
	eventually(t, "the listener is closed", func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.http)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(release)
	r, err := http.ReadResponse(bufio.NewReader(nc), nil)
	must(t, err)
	body, err := io.ReadAll(r.Body)
	must(t, err)
	if r.StatusCode != http.StatusOK || string(body) != "slow" || !r.Close {
		t.Errorf("request in flight got %d %q, close %v; want 200 slow with Connection: close", r.StatusCode, body, r.Close)
	}
	if code := s.wait(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
}

func TestServeSecondSignalCuts(t *testing.T) {
	port, asked, _ := slowPod(t)
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", port) + "---\n" + ingressOf("web", "a.example", "/", "web")},
		"--drain-delay=0", "--shutdown-timeout=1h")
	failed := make(chan error, 1)
	go func() {
		_, err := s.ask("http://a.example/slow")
		failed <- err
	}()
	<-asked
	s.signals <- syscall.SIGINT
	s.signals <- syscall.SIGINT
	if code := s.wait(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered, want it cut")
	}
}

func TestServeReopensTheAccessLog(t *testing.T) {
	logs := t.TempDir()
	path := filepath.Join(logs, "access.log")
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")},
		"--access-log="+path)
	has := func(name, text string) func() bool {
		return func() bool {
			log, err := os.ReadFile(filepath.Join(logs, name))
			return err == nil && strings.Contains(string(log), text)
		}
	}
	s.get("http://a.example/before")
	eventually(t, "the first request is logged", has("access.log", "/before"))
	must(t, os.Rename(path, path+".1"))
	s.signals <- syscall.SIGUSR1
	eventually(t, "the log is opened anew", has("access.log", ""))
	s.get("http://a.example/after")
	eventually(t, "the second request is in the new file", has("access.log", "/after"))
	if has("access.log.1", "/after")() {
		t.Error("the second request is in the old file too")
	}
}

func TestServeLosesItsFolder(t *testing.T) {
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")})
	must(t, os.Rename(s.dir, s.dir+".away"))
	s.says(`! .*; what is live stays`)
	if a := s.get("http://a.example/"); a.status != 200 {
		t.Errorf("without the folder: %d, want 200", a.status)
	}
	must(t, os.Rename(s.dir+".away", s.dir))
	s.write(t, "new.yaml", ingressOf("new", "b.example", "/", "web"))
	eventually(t, "the folder is followed again", func() bool { return s.get("http://b.example/").status == 200 })
}
