package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// answerFamilies are the families whose values govern changes.
func answerFamilies() []filters.Policy {
	return []filters.Policy{
		filters.HeaderNames(), filters.RedirectURLs(), filters.PodHeaders(), filters.AppRoot(), filters.CORS(), filters.CORSOrigin(), filters.Redirect(),
		filters.SSLRedirect(), filters.HSTS(), filters.RequestHeaders(), filters.UpstreamVhost(), filters.AccessLog(), filters.EnableAccessLog(),
		filters.ClientAddress(), filters.ClientConnections(), filters.UpstreamKeepAlive(), filters.AccessLogFormat(), filters.TracesSettings(), filters.OpenTelemetry(),
	}
}

// govern makes a.test reach a Pod, with what values say.
func (r *rig) govern(values policy.Values, pod string) {
	r.t.Helper()
	r.governScheme(values, pod, router.PodPlain)
}

// governScheme is govern for a Pod that speaks scheme.
func (r *rig) governScheme(values policy.Values, pod string, scheme router.PodScheme) {
	r.t.Helper()
	port := router.ServicePort{Namespace: "default", Name: "svc"}
	route := &router.Route{
		ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
		Backends: []router.Backend{{Service: port, Weight: 1, Scheme: scheme}},
	}
	var globals []policy.Value
	for _, f := range filters.Families(answerFamilies()) {
		own := policy.Values{}
		for _, key := range f.FamilyKeys() {
			if text, ok := values[key.Name]; ok {
				own[key.Name] = text
			}
		}
		if len(own) == 0 {
			continue
		}
		parsed, err := f.ParseValues(own, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		value := policy.Value{Family: f.FamilyName(), Parsed: parsed}
		if f.IsGlobal() {
			globals = append(globals, value)
			continue
		}
		route.Policies = append(route.Policies, value)
	}
	t := router.NewTable([]*router.Route{route}, nil).With(router.Change{Globals: globals})
	r.engine.Prepare(t)
	r.engine.SetAddresses(port.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(pod), UID: "u", Ready: true, Serving: true}}})
	r.engine.Publish(t)
}

// fetch makes a request with fields, which are names and values in turn.
func fetch(t *testing.T, c *http.Client, method, url string, fields ...string) *http.Response {
	t.Helper()
	q, err := http.NewRequest(method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		q.Header.Add(fields[i], fields[i+1])
	}
	client := *c
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(q)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestRedirectsOverSockets(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, "the Pod") })
	overClients(t, proxy.Options{Policies: answerFamilies(), HTTPSPort: 8443}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		for _, tc := range []struct {
			values   policy.Values
			uri      string
			status   int
			location string
		}{
			{nil, "/x", 200, ""},
			{policy.Values{"permanent-redirect": "https://new.test/y?z"}, "/x?q", 301, "https://new.test/y?z"},
			{policy.Values{"temporal-redirect": "https://new.test", "permanent-redirect": "https://old.test"}, "/x", 302, "https://new.test"},
			{policy.Values{"permanent-redirect": "/new"}, "/x", 301, base + "/new"},
			{policy.Values{"permanent-redirect": "/new", "relative-redirects": "true"}, "/x", 301, "/new"},
			{policy.Values{"app-root": "/app"}, "/", 302, base + "/app"},
			{policy.Values{"app-root": "/app"}, "/app", 200, ""},
		} {
			r.govern(tc.values, pod)
			res := fetch(t, c, "GET", base+tc.uri)
			if res.StatusCode != tc.status || res.Header.Get("Location") != tc.location {
				t.Errorf("%v: %s: %d to %q, want %d to %q", tc.values, tc.uri, res.StatusCode, res.Header.Get("Location"), tc.status, tc.location)
			}
		}
		if strings.HasPrefix(base, "http:") {
			r.govern(policy.Values{"force-ssl-redirect": "true", "use-port-in-redirects": "true", "http-redirect-code": "301"}, pod)
			if res := fetch(t, c, "GET", base+"/x/"); res.StatusCode != 301 || res.Header.Get("Location") != "https://a.test:8443/x" {
				t.Errorf("to HTTPS: %d to %q", res.StatusCode, res.Header.Get("Location"))
			}
		}
	})
}

// A redirect that says the port says the one that the client came by.
func TestRedirectsSayThePort(t *testing.T) {
	r := newRig(t, proxy.Options{Policies: answerFamilies()})
	r.govern(policy.Values{"permanent-redirect": "/new", "use-port-in-redirects": "true"}, "127.0.0.1:1")
	port := netip.MustParseAddrPort(r.addr).Port()
	if got, want := fetch(t, r.client, "GET", "http://a.test/").Header.Get("Location"), "http://a.test:"+strconv.Itoa(int(port))+"/new"; got != want {
		t.Errorf("Location %q, want %q", got, want)
	}
}

func TestCORSOverSockets(t *testing.T) {
	const mine, other = "https://app.test", "https://evil.test"
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "of the Pod")
		w.Header().Add("Access-Control-Expose-Headers", "of the Pod")
		if q.URL.Path == "/broken" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, "the Pod")
	})
	overClients(t, proxy.Options{Policies: answerFamilies()}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.govern(policy.Values{"enable-cors": "true", "cors-allow-origin": mine, "cors-max-age": "5"}, pod)
		for _, tc := range []struct {
			method, uri, origin string
			status              int
			allow, age          string
		}{
			{"OPTIONS", "/", mine, 204, mine, "5"},
			{"OPTIONS", "/", other, 200, "of the Pod", ""},
			{"GET", "/", mine, 200, mine, "5"},
			{"GET", "/", other, 200, "of the Pod", ""},
			{"GET", "/broken", mine, 500, mine, "5"},
		} {
			res := fetch(t, c, tc.method, base+tc.uri, "Origin", tc.origin)
			h := res.Header
			if res.StatusCode != tc.status || strings.Join(h.Values("Access-Control-Allow-Origin"), "|") != tc.allow || h.Get("Access-Control-Max-Age") != tc.age {
				t.Errorf("%s %s from %s: %d %v", tc.method, tc.uri, tc.origin, res.StatusCode, h)
			}
			if want := "of the Pod"; tc.status != 204 && h.Get("Access-Control-Expose-Headers") != want {
				t.Errorf("%s %s from %s: exposes %q, want %q: nothing was said of it", tc.method, tc.uri, tc.origin, h.Get("Access-Control-Expose-Headers"), want)
			}
			if tc.status == 204 && (h.Get("Content-Type") != "text/plain charset=UTF-8" || h.Get("Content-Length") != "") {
				t.Errorf("204 with %v", h)
			}
		}
		// The permission comes before the redirect, which the actual request then gets, with the fields that let the script see it.
		r.govern(policy.Values{"enable-cors": "true", "cors-allow-origin": mine, "temporal-redirect": "https://new.test"}, pod)
		if res := fetch(t, c, "OPTIONS", base+"/", "Origin", mine); res.StatusCode != 204 {
			t.Errorf("OPTIONS before a redirect: %d", res.StatusCode)
		}
		if res := fetch(t, c, "GET", base+"/", "Origin", mine); res.StatusCode != 302 || res.Header.Get("Access-Control-Allow-Origin") != mine {
			t.Errorf("GET: %d %v", res.StatusCode, res.Header)
		}
		// Without enable-cors nothing changes.
		r.govern(policy.Values{"cors-allow-origin": mine}, pod)
		if res := fetch(t, c, "OPTIONS", base+"/", "Origin", mine); res.StatusCode != 200 || res.Header.Get("Access-Control-Allow-Origin") != "of the Pod" {
			t.Errorf("without enable-cors: %d %v", res.StatusCode, res.Header)
		}
	})
}

// What Pods and clients see of each other's fields, over every protocol on both sides.
func TestHeadersOverSockets(t *testing.T) {
	for _, scheme := range []router.PodScheme{router.PodPlain, router.PodH2C} {
		t.Run(scheme.String(), func(t *testing.T) {
			pod := startPod(t, scheme, func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Server", "Pod/1")
				w.Header().Set("X-Powered-By", "PHP")
				fmt.Fprintf(w, "host %s, id %d, uri %s, forwarded host %s", q.Host, len(q.Header.Get("X-Request-Id")), q.Header.Get("X-Original-Uri"), q.Header.Get("X-Forwarded-Host"))
			}, nil)
			overClients(t, proxy.Options{Policies: answerFamilies()}, func(t *testing.T, r *rig, c *http.Client, base string) {
				t.Helper()
				for _, tc := range []struct {
					values policy.Values
					server []string
					php    string
					body   string
				}{
					{nil, []string{"Pod/1"}, "PHP", "host a.test, id 32, uri , forwarded host a.test"},
					{policy.Values{"allow-backend-server-header": "false", "hide-headers": "x-powered-by"}, []string{"podlane"}, "", "host a.test, id 32, uri , forwarded host a.test"},
					{policy.Values{"server-tokens": "false"}, nil, "PHP", "host a.test, id 32, uri , forwarded host a.test"},
					{
						policy.Values{
							"upstream-vhost": "b.internal:8080", "generate-request-id": "false", "proxy-add-original-uri-header": "true", "connection-proxy-header": "close",
						}, []string{"Pod/1"}, "PHP", "host b.internal:8080, id 0, uri /x?y, forwarded host a.test",
					},
				} {
					r.governScheme(tc.values, podAddr(pod), scheme)
					for range 2 {
						res := fetch(t, c, "GET", base+"/x?y")
						body, err := io.ReadAll(res.Body)
						if string(body) != tc.body || err != nil {
							t.Errorf("%v: the Pod saw %q %v, want %q", tc.values, body, err, tc.body)
						}
						if !slices.Equal(res.Header.Values("Server"), tc.server) || res.Header.Get("X-Powered-By") != tc.php {
							t.Errorf("%v: %v", tc.values, res.Header)
						}
					}
				}
				r.govern(policy.Values{"server-tokens": "false", "permanent-redirect": "/x"}, podAddr(pod))
				if res := fetch(t, c, "GET", base+"/"); res.StatusCode != 301 || res.Header.Values("Server") != nil {
					t.Errorf("an answer of the proxy's own: %d %v", res.StatusCode, res.Header)
				}
			})
		})
	}
}

// A client of HTTP/1.0 that names no host is asked for by the name that upstream-vhost says, where the Pod's address would stand else.
func TestUpstreamVhostWithoutHost(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.Host) })
	r := newRig(t, proxy.Options{Policies: answerFamilies()})
	port := router.ServicePort{Namespace: "default", Name: "svc"}
	vhost, err := filters.UpstreamVhost().ParseValues(policy.Values{"upstream-vhost": "b.internal"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		policies []policy.Value
		want     string
	}{{nil, pod}, {[]policy.Value{{Family: "upstream-vhost", Parsed: vhost}}, "b.internal"}} {
		table := router.NewTable([]*router.Route{{
			ID: router.RouteID{Namespace: "default", Ingress: "ing", Path: "/"}, Backends: []router.Backend{{Service: port, Weight: 1}}, Policies: tc.policies,
		}}, nil)
		r.engine.Prepare(table)
		r.engine.SetAddresses(port.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(pod), UID: "u", Ready: true, Serving: true}}})
		r.engine.Publish(table)
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		answer, err := io.ReadAll(c)
		if _, body, _ := strings.Cut(string(answer), "\r\n\r\n"); body != tc.want || err != nil {
			t.Errorf("the Pod was asked for %q, want %q (%v)", body, tc.want, err)
		}
	}
}

// What the ConfigMap says of underscores holds for new connections, and never lets a client speak for a proxy.
func TestUnderscoresOverSockets(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprint(w, q.Header["A_b"], q.Header["X_forwarded_for"], q.Header["X_real_ip"], q.Header["Content_length"])
	})
	for _, trusted := range []bool{false, true} {
		o := proxy.Options{Policies: answerFamilies()}
		if trusted {
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		overClients(t, o, func(t *testing.T, r *rig, c *http.Client, base string) {
			t.Helper()
			for _, tc := range []struct{ value, want string }{{"", "[] [] [] []"}, {"true", "[1] [] [] [2]"}, {"false", "[] [] [] []"}} {
				values := policy.Values{}
				if tc.value != "" {
					values["enable-underscores-in-headers"] = tc.value
				}
				r.govern(values, pod)
				// A connection of HTTP/2 is idle only a moment after its answer was read, and those that exist do not change.
				waitFor(t, fmt.Sprintf("%q, trusted %v: the Pod to get %s over a new connection", tc.value, trusted, tc.want), func() bool {
					c.CloseIdleConnections()
					res := fetch(t, c, "GET", base+"/", "a_b", "1", "X_Forwarded_For", "6.6.6.6", "X_Real_IP", "6.6.6.6", "Content_Length", "2")
					body, err := io.ReadAll(res.Body)
					return string(body) == tc.want && err == nil
				})
			}
		})
	}
}

// Which requests have a line in the access log, by annotation and by the operator's rules.
func TestAccessLogOverSockets(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {})
	path := filepath.Join(t.TempDir(), "access.log")
	access, err := observe.OpenAccessLog(observe.AccessLogOptions{Destination: path})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, proxy.Options{Policies: answerFamilies(), AccessLog: access})
	for i, values := range []policy.Values{
		nil, {"enable-access-log": "false"}, {"disable-access-log": "true"}, {"disable-http-access-log": "true"}, {"skip-access-log-urls": "/a?4,~^/b"},
		{"enable-access-log-for-default-backend": "false"},
	} {
		r.govern(values, pod)
		fetch(t, r.client, "GET", fmt.Sprint("http://a.test/a?", i))
		fetch(t, r.client, "GET", fmt.Sprint("http://a.test/b?", i))
		fetch(t, r.client, "GET", fmt.Sprint("http://nobody.test/c?", i))
	}
	waitFor(t, "all to be over", func() bool { return r.engine.Requests() == 0 }) // and so logged
	if err := access.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var logged []string
	for _, uri := range []string{"/a?", "/b?", "/c?"} {
		for i := range 6 {
			if n := strings.Count(string(b), fmt.Sprintf("%s%d\"", uri, i)); n == 1 {
				logged = append(logged, fmt.Sprint(uri, i))
			} else if n > 1 {
				t.Errorf("%s%d is logged %d times", uri, i, n)
			}
		}
	}
	if got, want := strings.Join(logged, " "), "/a?0 /a?5 /b?0 /b?5 /c?0 /c?1 /c?4"; got != want {
		t.Errorf("logged %s, want %s:\n%s", got, want, b)
	}
}
