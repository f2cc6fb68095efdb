package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// routeErrors makes a.test reach a Pod, whose errors another answers.
func (r *rig) routeErrors(values policy.Values, pod, errs router.Backend, addrs map[router.Service]string) {
	r.t.Helper()
	p := filters.CustomErrors()
	parsed, err := p.ParseValues(values, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	t := router.NewTable([]*router.Route{{
		ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
		Backends: []router.Backend{pod}, ErrorBackend: &errs,
		Policies: []policy.Value{{Family: p.FamilyName(), Parsed: parsed}},
	}}, nil)
	r.engine.Prepare(t)
	for s, addr := range addrs {
		r.engine.SetAddresses(s, map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(addr), UID: addr, Ready: true, Serving: true}}})
	}
	r.engine.Publish(t)
}

// The Services of these tests.
var (
	podBackend = router.Backend{Service: router.ServicePort{Namespace: "default", Name: "pod"}, Weight: 1, Written: "80"}
	errBackend = router.Backend{Service: router.ServicePort{Namespace: "default", Name: "errors"}, Weight: 1}
)

func errorOptions() proxy.Options {
	return proxy.Options{Policies: []filters.Policy{filters.CustomErrors()}}
}

// errorPage is an error service that says the code, and what it should not have got.
func errorPage(w http.ResponseWriter, q *http.Request) {
	code := 0
	_, _ = fmt.Sscan(q.Header.Get("X-Code"), &code)
	body, _ := io.ReadAll(q.Body)
	w.WriteHeader(code)
	fmt.Fprintf(w, "%s %s %d%s%s%s", q.Method, q.RequestURI, code, q.Header.Get("Authorization"), q.Header.Get("Cookie"), body)
}

// Over every version of HTTP, on both sides, errors are replaced, and the connection goes on.
func TestErrorsAreReplaced(t *testing.T) {
	errs := backend(t, errorPage)
	check := func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		overPods(t, func(t *testing.T, scheme router.PodScheme) {
			t.Helper()
			pod := startPod(t, scheme, func(w http.ResponseWriter, q *http.Request) {
				n, _ := io.Copy(io.Discard, q.Body)
				status, size := 200, 0
				_, _ = fmt.Sscan(q.Header.Get("Want"), &status, &size)
				w.WriteHeader(status)
				_, _ = w.Write(make([]byte, size))
				if n == 0 && status == 200 {
					fmt.Fprint(w, "pod")
				}
			}, nil)
			b := podBackend
			b.Scheme = scheme
			if scheme.Encrypted() {
				b.TLS = router.NewPodTLS(router.PodTLSOptions{}, nil, nil)
			}
			r.routeErrors(policy.Values{"custom-http-errors": "404,500"}, b, errBackend, map[router.Service]string{b.Service.Service(): podAddr(pod), errBackend.Service.Service(): errs})
			for _, tt := range []struct{ method, body, asks, want string }{
				{"GET", "", "200 0", "pod"},
				{"GET", "", "404 0", "GET /?y 404"},
				{"GET", "", "404 10000", "GET /?y 404"},
				{"GET", "", "500 1000000", "GET /?y 500"},
				{"POST", "short", "404 10", "GET /?y 404"},
				{"POST", strings.Repeat("long", 100_000), "500 10", "GET /?y 500"},
				{"HEAD", "", "404 0", ""},
				{"GET", "", "200 0", "pod"},
			} {
				req, err := http.NewRequest(tt.method, base+"/x?y", strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Want", tt.asks)
				req.Header.Set("Authorization", "secret")
				req.Header.Set("Cookie", "secret=1")
				res, err := c.Do(req)
				if err != nil {
					t.Fatalf("%s %s: %v", tt.method, tt.asks, err)
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(got) != tt.want || !strings.HasPrefix(tt.asks, fmt.Sprint(res.StatusCode)) {
					t.Errorf("%s %s: %d %q %v, want %q", tt.method, tt.asks, res.StatusCode, got, err, tt.want)
				}
			}
		})
	}
	t.Run("http1", func(t *testing.T) {
		r := newRig(t, errorOptions())
		check(t, r, r.client, "http://a.test")
	})
	overHTTP2(t, errorOptions(), check)
}

// A connection whose short answer was dropped carries the next request; one whose long answer was dropped does not.
func TestDroppedAnswersLeaveConnectionsUsable(t *testing.T) {
	var connections atomic.Int32
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		connections.Add(1)
		for {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nshort")
		}
	})
	r := newRig(t, errorOptions())
	r.routeErrors(policy.Values{"custom-http-errors": "404"}, podBackend, errBackend,
		map[router.Service]string{podBackend.Service.Service(): pod, errBackend.Service.Service(): backend(t, errorPage)})
	for range 5 {
		if res, body := r.do(http.MethodGet, "http://a.test/", nil); res.StatusCode != 404 || body != "GET / 404" {
			t.Errorf("%d %q", res.StatusCode, body)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Where the error service fails, the client gets the status of what happened.
func TestErrorServiceThatFails(t *testing.T) {
	gone := closedPort(t)
	mute := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			c.Close()
		}
	})
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
	})
	for name, errs := range map[string]string{"refuses": gone, "ends": mute} {
		r := newRig(t, errorOptions())
		r.routeErrors(policy.Values{"custom-http-errors": "401"}, podBackend, errBackend,
			map[router.Service]string{podBackend.Service.Service(): pod, errBackend.Service.Service(): errs})
		res, body := r.do(http.MethodGet, "http://a.test/", nil)
		if res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") != "Basic" || body == "" {
			t.Errorf("%s: %d %v %q", name, res.StatusCode, res.Header, body)
		}
	}
}

// What is wrong with Pods is told by the error service; what is wrong with the client's request too, where it is about the body.
func TestOwnErrorsAreReplaced(t *testing.T) {
	errs := backend(t, errorPage)
	broken := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			fmt.Fprint(c, "nonsense\r\n\r\n")
		}
	})
	o := errorOptions()
	o.MaxBody = 10
	r := newRig(t, o)
	addrs := map[router.Service]string{errBackend.Service.Service(): errs, podBackend.Service.Service(): broken}
	missing := podBackend
	missing.Unavailable = router.ServiceNotFound
	for _, tt := range []struct {
		statuses, body, want string
		pod                  router.Backend
		code                 int
	}{
		{"502", "", "GET / 502", podBackend, 502},
		{"413", strings.Repeat("a", 100), "GET / 413", podBackend, 413},
		{"503", "", "GET / 503", missing, 503},
		{"500", "", "the endpoint sent an invalid answer\n", podBackend, 502},
	} {
		r.routeErrors(policy.Values{"custom-http-errors": tt.statuses, "disable-proxy-intercept-errors": "true"}, tt.pod, errBackend, addrs)
		if res, body := r.do(http.MethodPost, "http://a.test/", strings.NewReader(tt.body)); res.StatusCode != tt.code || body != tt.want {
			t.Errorf("%s: %d %q", tt.statuses, res.StatusCode, body)
		}
	}
	r.routeErrors(policy.Values{"default-backend": "errors"}, missing, errBackend, addrs)
	if res, body := r.do(http.MethodPost, "http://a.test/x", strings.NewReader("body")); res.StatusCode != 503 || body != "POST /x 503body" {
		t.Errorf("a Service that is not there: %d %q", res.StatusCode, body)
	}
}

// Answers to gRPC are its own business.
func TestErrorsOfGRPCAreNotReplaced(t *testing.T) {
	errs := backend(t, errorPage)
	pod := startPod(t, router.PodH2C, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.WriteHeader(http.StatusNotFound)
	}, nil)
	b := podBackend
	b.Scheme = router.PodH2C
	overHTTP2(t, errorOptions(), func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.routeErrors(policy.Values{"custom-http-errors": "404"}, b, errBackend, map[router.Service]string{b.Service.Service(): podAddr(pod), errBackend.Service.Service(): errs})
		req, err := http.NewRequest(http.MethodPost, base+"/", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc")
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || len(body) > 0 || res.StatusCode != 404 {
			t.Errorf("%d %q %v", res.StatusCode, body, err)
		}
	})
}

// An answer that came before the Pod had the whole of a body that was read first is replaced as any other, and its cookie with it; the client keeps
// its connection. So it is where the body streams and the Pod breaks off, but for the connection.
func TestEarlyErrorsAreReplaced(t *testing.T) {
	errs := backend(t, errorPage)
	release := make(chan struct{})
	defer close(release)
	for _, breaks := range []bool{false, true} {
		pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
			q, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if breaks {
				_, _ = io.CopyN(io.Discard, q.Body, 100_000)
			}
			_, _ = io.WriteString(c, "HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\npod")
			if !breaks {
				<-release
			}
		})
		annotations := map[string]string{"custom-http-errors": "500", "affinity": "cookie"}
		if !breaks {
			annotations["proxy-request-buffering"] = "on"
		}
		r := policyRig(t, proxy.Options{MaxBody: -1})
		table := router.NewTable([]*router.Route{{
			ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
			Backends: []router.Backend{podBackend}, ErrorBackend: &errBackend, Policies: says(t, annotations),
		}}, nil)
		r.engine.Prepare(table)
		for s, addr := range map[router.Service]string{podBackend.Service.Service(): pod, errBackend.Service.Service(): errs} {
			r.engine.SetAddresses(s, map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(addr), UID: addr, Ready: true, Serving: true}}})
		}
		r.engine.Publish(table)
		for range 20 {
			res, body := r.post(http.MethodPut, make([]byte, 8<<20), false)
			// A Pod that breaks off may take its answer with it.
			if body != "GET / 500" && (!breaks || res.StatusCode != http.StatusBadGateway) || res.Header.Get("Set-Cookie") != "" {
				t.Fatalf("breaks %v: %d %q, cookie %q", breaks, res.StatusCode, body, res.Header.Get("Set-Cookie"))
			}
		}
	}
}
