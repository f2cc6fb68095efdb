package nginxcompat

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/subrequest"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// setup is one configuration of both sides.
type setup struct {
	// values are annotations and settings, by name.
	values policy.Values
	// users is the password file of the Secret that values name.
	users users
	// behind says that both sides believe what X-Real-IP says of the client.
	behind bool
	// http, server and location are nginx's directives around the server, in it, and in its location /, which passes requests on.
	http, server, location string
	// slash is a path that Build has sent to the same with a slash behind it, "" for none.
	slash string
	// pod is what the Pod answers after the status line: header lines and a body, with the request's X-Echo in the place of ECHO. It closes the
	// connection behind it.
	pod string
	// errors is the address of the Service that answers in the place of Pods, "" for none.
	errors string
	// status is the status line that the Pod answers with, "" for 200 OK.
	status string
}

// pair is nginx and Podlane, each in front of the same Pod.
type pair struct {
	nginx, podlane string // addresses: of a socket in a folder, and of TCP
	pod            *pod
}

// newPair starts both sides, and ends them with the test.
func newPair(t *testing.T, s setup) *pair {
	t.Helper()
	p := &pair{pod: newPod(t, s)}
	p.nginx = startNginx(t, s, p.pod.addr)
	p.podlane = startPodlane(t, s, p.pod.addr)
	return p
}

// users is a policy.Source with one Secret.
type users string

func (u users) Secret(string) (map[string][]byte, error) {
	return map[string][]byte{"auth": []byte(u)}, nil
}
func (users) ConfigMap(string) (map[string]string, error) { return nil, nil }
func (users) Compat() bool                                { return false }

// pod records requests, and answers all of them in the same way.
type pod struct {
	addr   string
	answer string

	mu       sync.Mutex
	requests []*http.Request
}

func newPod(t *testing.T, s setup) *pod {
	t.Helper()
	answer, status := cmp.Or(s.pod, "Content-Type: text/plain\r\n\r\nhello"), cmp.Or(s.status, "200 OK")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{addr: l.Addr().String(), answer: "HTTP/1.1 " + status + "\r\nConnection: close\r\n" + answer}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return p
}

func (p *pod) serve(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	q, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, q.Body)
	p.mu.Lock()
	p.requests = append(p.requests, q)
	p.mu.Unlock()
	_, _ = io.WriteString(c, strings.ReplaceAll(p.answer, "ECHO", q.Header.Get("X-Echo")))
}

// take returns the only request since the last call, nil where there was none.
func (p *pod) take(t *testing.T) *http.Request {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := p.requests
	p.requests = nil
	switch len(requests) {
	case 0:
		return nil
	case 1:
		return requests[0]
	}
	t.Fatalf("the Pod got %d requests, want one", len(requests))
	return nil
}

// nginxText is nginx's configuration: what ingress-nginx's template says everywhere, as far as these tests see it.
const nginxText = `daemon off;
master_process off;
pid DIR/pid;
error_log DIR/error.log;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	server_name_in_redirect off;
	port_in_redirect off;
	proxy_http_version 1.1;
	HTTP
	server {
		listen unix:DIR/front;
		SERVER
		location / {
			proxy_set_header Host $http_host;
			proxy_set_header Connection "";
			proxy_pass http://POD;
			LOCATION
		}
	}
}
`

func startNginx(t *testing.T, s setup, pod string) string {
	t.Helper()
	program := "/usr/sbin/nginx"
	if path, err := exec.LookPath("nginx"); err == nil {
		program = path
	} else if _, err := os.Stat(program); err != nil {
		t.Skip("nginx is not installed (Debian: apt-get install nginx-light)")
	}
	dir, err := os.MkdirTemp("", "podlane") //nolint:usetesting // the path of a socket has 107 bytes at most, which t.TempDir does not promise
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if s.behind {
		s.server += "set_real_ip_from unix:; real_ip_header X-Real-IP;"
	}
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte(s.users), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("\tHTTP\n", "\t"+s.http+"\n", "SERVER", s.server, "LOCATION", s.location).Replace(nginxText)
	text = strings.NewReplacer("DIR", dir, "POD", pod).Replace(text)
	file, front := filepath.Join(dir, "config"), filepath.Join(dir, "front")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.CommandContext(t.Context(), program, "-p", dir, "-c", file), front)
	return front
}

// run starts a program that serves at front, waits until it does, and ends it with the test.
func run(t *testing.T, cmd *exec.Cmd, front string) {
	t.Helper()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { <-ended }) // the test's context is done by then
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", front); err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("it ended: %v\n%s", cmd.ProcessState, output.Bytes())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not listen at %s", front)
		}
	}
}

// startPodlane starts an engine with one route, whose policies values are.
func startPodlane(t *testing.T, s setup, pod string) string {
	t.Helper()
	port := router.ServicePort{Namespace: "default", Name: "pod"}
	route := &router.Route{
		ID: router.RouteID{Namespace: "default", Ingress: "web", Host: "a.test", Path: "/"}, Backends: []router.Backend{{Service: port, Weight: 1}},
	}
	var globals []policy.Value
	route.Policies, globals = parse(t, s)
	failing := router.ServicePort{Namespace: "default", Name: "errors"}
	if s.errors != "" {
		route.ErrorBackend = &router.Backend{Service: failing, Weight: 1}
	}
	routes := []*router.Route{route}
	if s.slash != "" {
		routes = append(routes, &router.Route{
			ID:       router.RouteID{Namespace: "default", Ingress: "web", Host: "a.test", Path: s.slash, Type: router.Exact},
			Backends: route.Backends, Policies: route.Policies, AppendSlash: true,
		})
	}
	o := proxy.Options{Policies: config.Policies(), Subrequests: subrequest.Options{Refused: func(netip.Addr) string { return "" }}}
	if s.behind {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	e := proxy.New(o)
	table := new(router.Table).With(router.Change{Hosts: []*router.Host{router.NewHost("a.test", routes)}, Globals: globals})
	e.Prepare(table)
	addresses := func(at string) map[string][]router.Address {
		return map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(at), UID: "u", Ready: true, Serving: true}}}
	}
	e.SetAddresses(port.Service(), addresses(pod))
	if s.errors != "" {
		e.SetAddresses(failing.Service(), addresses(s.errors))
	}
	e.Publish(table)
	return serve(t, e)
}

// serve has e serve until the test ends, and returns where.
func serve(t *testing.T, e *proxy.Engine) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(&proxy.Listener{Listener: l}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(e.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// parse returns what values come to, for the route and for the whole proxy; every one must belong to a family.
func parse(t *testing.T, s setup) (parsed, globals []policy.Value) {
	t.Helper()
	known := 0
	for _, f := range filters.Families(config.Policies()) {
		own := policy.Values{}
		for _, key := range f.FamilyKeys() {
			if text, ok := s.values[key.Name]; ok {
				own[key.Name] = text
				known++
			}
		}
		if len(own) == 0 {
			continue
		}
		value, err := f.ParseValues(own, s.users)
		if err != nil {
			t.Fatal(err)
		}
		if v := (policy.Value{Family: f.FamilyName(), Parsed: value}); f.IsGlobal() {
			globals = append(globals, v)
		} else {
			parsed = append(parsed, v)
		}
	}
	if known != len(s.values) {
		t.Fatalf("%d of %v belong to a family", known, s.values)
	}
	return parsed, globals
}

// reply is an answer, or what a Pod got, as it is compared: a line, fields in order of their names, a body.
type reply struct {
	line   string
	fields []string
	body   string
}

func (r reply) String() string {
	return fmt.Sprintf("%s\n\t%s\n\t%q", r.line, strings.Join(r.fields, "\n\t"), r.body)
}

// ask sends a request over a connection of its own.
func ask(t *testing.T, network, addr, request string) *http.Response {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %q: %v", network, request, err)
	}
	return res
}

// replyOf returns what is compared of an answer. Fields in except are left out, and with "body" the body and what describes it.
func replyOf(t *testing.T, res *http.Response, except []string) reply {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{line: fmt.Sprint(res.StatusCode), body: string(b)}
	if slices.Contains(except, "body") {
		r.body, except = "", append(slices.Clone(except), "content-type", "content-length")
	}
	r.fields = fieldsOf(res.Header, append(slices.Clone(except), usual...))
	return r
}

// usual are the fields in which the two differ always: each says who it is, when it is, and how it frames.
var usual = []string{"server", "date", "connection", "keep-alive", "transfer-encoding", "content-length"}

func fieldsOf(h http.Header, except []string) []string {
	var fields []string
	for name, values := range h {
		if slices.Contains(except, strings.ToLower(name)) {
			continue
		}
		for _, v := range values {
			fields = append(fields, name+": "+v)
		}
	}
	slices.SortStableFunc(fields, func(a, b string) int {
		x, _, _ := strings.Cut(a, ":")
		y, _, _ := strings.Cut(b, ":")
		return strings.Compare(x, y)
	})
	return fields
}

// same sends a request to both sides and compares their answers, and whether the Pod got it. It returns Podlane's.
func (p *pair) same(t *testing.T, request string, except ...string) reply {
	t.Helper()
	theirs := replyOf(t, ask(t, "unix", p.nginx, request), except)
	reached := p.pod.take(t) != nil
	ours := replyOf(t, ask(t, "tcp", p.podlane, request), except)
	if (p.pod.take(t) != nil) != reached {
		t.Errorf("%q: nginx lets it through to the Pod: %v; Podlane does not agree", request, reached)
	}
	if theirs.String() != ours.String() {
		t.Errorf("%q\nnginx says\n%s\nPodlane says\n%s", request, theirs, ours)
	}
	return ours
}

// get is a request for uri of the host that both sides serve, with further header lines.
func get(uri string, lines ...string) string { return message("GET", uri, lines...) }

func message(method, uri string, lines ...string) string {
	head := append([]string{method + " " + uri + " HTTP/1.1", "Host: a.test"}, lines...)
	return strings.Join(head, "\r\n") + "\r\n\r\n"
}

// forget forgets the requests so far.
func (p *pod) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = nil
}
