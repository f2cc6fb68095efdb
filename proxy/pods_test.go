package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
)

// routeTo makes host reach Pods at addrs that speak as the Backend says.
func (r *rig) routeTo(host string, b router.Backend, addrs ...string) {
	r.t.Helper()
	if b.Scheme.Encrypted() && b.TLS == nil {
		b.TLS = router.NewPodTLS(router.PodTLSOptions{}, nil, nil)
	}
	b.Service, b.Weight = router.ServicePort{Namespace: "default", Name: "svc"}, 1
	t := router.NewTable([]*router.Route{{
		ID: router.RouteID{Namespace: "default", Ingress: "ing", Host: host, Path: "/"}, Backends: []router.Backend{b},
	}}, nil)
	r.engine.Prepare(t)
	r.addresses(addrs...)
	r.engine.Publish(t)
}

// addresses makes addrs those of routeTo's Service.
func (r *rig) addresses(addrs ...string) {
	var as []router.Address
	for _, a := range addrs {
		as = append(as, router.Address{AddrPort: netip.MustParseAddrPort(a), UID: a, Ready: true, Serving: true})
	}
	r.engine.SetAddresses(router.Service{Namespace: "default", Name: "svc"}, map[string][]router.Address{"": as})
}

// startPod starts a Pod that speaks scheme; configure may change it before.
func startPod(t testing.TB, scheme router.PodScheme, h http.HandlerFunc, configure func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	switch scheme {
	case router.PodH2C:
		s.Config.Protocols.SetUnencryptedHTTP2(true)
	case router.PodH2:
		s.Config.Protocols.SetHTTP2(true)
		s.EnableHTTP2 = true
	default:
		s.Config.Protocols.SetHTTP1(true)
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if configure != nil {
		configure(s)
	}
	if scheme.Encrypted() {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func podAddr(s *httptest.Server) string { return s.Listener.Addr().String() }

// overPods runs f for Pods of every scheme.
func overPods(t *testing.T, f func(t *testing.T, scheme router.PodScheme)) {
	t.Helper()
	for _, scheme := range []router.PodScheme{router.PodPlain, router.PodSecure, router.PodH2C, router.PodH2} {
		t.Run(scheme.String(), func(t *testing.T) { f(t, scheme) })
	}
}

// overClients runs f with a client of each kind.
func overClients(t *testing.T, o proxy.Options, f func(t *testing.T, r *rig, c *http.Client, base string)) {
	t.Helper()
	t.Run("http1", func(t *testing.T) {
		r := newRig(t, o)
		f(t, r, r.client, "http://a.test")
	})
	overHTTP2(t, o, f)
}

// Requests and answers of all sizes pass whole, many at a time, each to its own, with their trailers, whatever either side speaks.
func TestPodsExchanges(t *testing.T) {
	overPods(t, func(t *testing.T, scheme router.PodScheme) {
		t.Helper()
		pod := startPod(t, scheme, func(w http.ResponseWriter, q *http.Request) {
			b, _ := io.ReadAll(q.Body)
			w.Header().Set("X-Id", q.Header.Get("X-Id"))
			w.Header().Set("X-Seen", fmt.Sprint(q.Proto, " ", q.Host, " ", q.URL.RequestURI(), " ", q.TLS != nil))
			w.Header().Set("Trailer", "X-Sum")
			_, _ = w.Write(b)
			w.Header().Set("X-Sum", fmt.Sprintf("%x", sha256.Sum256(b)))
		}, nil)
		overClients(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
			t.Helper()
			r.routeTo("a.test", router.Backend{Scheme: scheme}, podAddr(pod))
			proto := "HTTP/1.1"
			if scheme.Protocol() == router.PodHTTP2 {
				proto = "HTTP/2.0"
			}
			var all sync.WaitGroup
			for i := range 48 {
				all.Go(func() {
					body := bytes.Repeat([]byte{byte(i)}, []int{0, 1, 100, 5_000, 20_000, 70_000, 400_000}[i%7])
					req, err := http.NewRequest(http.MethodPost, base+"/x%2Fy?z", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					if i%2 == 1 {
						req.ContentLength = -1
					}
					req.Header.Set("X-Id", fmt.Sprint(i))
					req.Header.Set("TE", "trailers")
					res, err := c.Do(req)
					if err != nil {
						t.Errorf("%d: %v", i, err)
						return
					}
					defer res.Body.Close()
					got, err := io.ReadAll(res.Body)
					if err != nil || res.StatusCode != 200 || res.Header.Get("X-Id") != fmt.Sprint(i) || !bytes.Equal(got, body) {
						t.Errorf("%d: %v, %s, id %s, %d bytes of %d: %.100s", i, err, res.Status, res.Header.Get("X-Id"), len(got), len(body), got)
						return
					}
					if want := fmt.Sprint(proto, " a.test /x%2Fy?z ", scheme.Encrypted()); res.Header.Get("X-Seen") != want {
						t.Errorf("the Pod saw %q, want %q", res.Header.Get("X-Seen"), want)
					}
					// An answer whose length is said has no place for trailers in HTTP/1.1.
					if want := fmt.Sprintf("%x", sha256.Sum256(body)); res.Trailer.Get("X-Sum") != want && (res.ProtoMajor == 2 || res.ContentLength < 0) {
						t.Errorf("%d: trailer %q", i, res.Trailer.Get("X-Sum"))
					}
				})
			}
			all.Wait()
		})
	})
}

// A Pod that speaks HTTP/2 gets the trailers of requests too, and few connections for many requests.
func TestHTTP2PodsShareConnections(t *testing.T) {
	for _, scheme := range []router.PodScheme{router.PodH2C, router.PodH2} {
		t.Run(scheme.String(), func(t *testing.T) {
			var conns atomic.Int64
			all := make(chan struct{})
			var arrived atomic.Int64
			const requests = 60
			pod := startPod(t, scheme, func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body)
				fmt.Fprint(w, q.Trailer.Get("X-End"))
				if arrived.Add(1) == requests {
					close(all)
				}
				select {
				case <-all:
				case <-q.Context().Done():
				}
			}, func(s *httptest.Server) {
				s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
					if state == http.StateNew {
						conns.Add(1)
					}
				}
			})
			overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
				t.Helper()
				conns.Store(0)
				arrived.Store(0)
				all = make(chan struct{})
				r.routeTo("a.test", router.Backend{Scheme: scheme}, podAddr(pod))
				var wait sync.WaitGroup
				for i := range requests {
					wait.Go(func() {
						req, _ := http.NewRequest(http.MethodPost, base+"/", io.MultiReader(strings.NewReader("body")))
						req.Trailer = http.Header{"X-End": {fmt.Sprint(i)}}
						res, err := c.Do(req)
						if err != nil {
							t.Error(err)
							return
						}
						defer res.Body.Close()
						if got, err := io.ReadAll(res.Body); err != nil || string(got) != fmt.Sprint(i) {
							t.Errorf("%d: %q, %v", i, got, err)
						}
					})
				}
				wait.Wait()
				if n := conns.Load(); n != 1 {
					t.Errorf("%d connections for %d requests at a time, want 1", n, requests)
				}
			})
		})
	}
}

// Where the Pod allows one stream, every request at a time has a connection, and they are used again.
func TestHTTP2PodWithOneStream(t *testing.T) {
	var conns, most, now atomic.Int64
	gate := make(chan struct{})
	pod := startPod(t, router.PodH2C, func(w http.ResponseWriter, q *http.Request) {
		n := now.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-gate
		now.Add(-1)
		fmt.Fprint(w, "ok")
	}, func(s *httptest.Server) {
		s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1}
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		}
	})
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, podAddr(pod))
	const requests = 12
	var wait sync.WaitGroup
	ask := func() {
		wait.Go(func() {
			if res, body := r.do("POST", "http://a.test/", strings.NewReader("x")); res.StatusCode != 200 || body != "ok" {
				t.Errorf("%s %q", res.Status, body)
			}
		})
	}
	for range requests {
		ask()
	}
	waitFor(t, "all to arrive", func() bool { return now.Load() == requests })
	close(gate)
	wait.Wait()
	if n := conns.Load(); n != requests {
		t.Errorf("%d connections for %d requests at a time", n, requests)
	}
	for range 50 {
		ask()
		wait.Wait()
	}
	if n := conns.Load(); n != requests {
		t.Errorf("%d connections in the end, want the same %d", n, requests)
	}
}

// An upgrade has no place on a stream, and AUTO_HTTP follows the client.
func TestPodSchemes(t *testing.T) {
	h2 := startPod(t, router.PodH2C, func(http.ResponseWriter, *http.Request) {}, nil)
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, podAddr(h2))
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	got, _ := io.ReadAll(c)
	if !bytes.HasPrefix(got, []byte("HTTP/1.1 501 ")) {
		t.Errorf("an upgrade to HTTP/2 Pods got %q", got)
	}

	plain := startPod(t, router.PodPlain, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.TLS != nil) }, nil)
	r.routeTo("a.test", router.Backend{Scheme: router.PodLikeClient}, podAddr(plain))
	if res, body := r.do("GET", "http://a.test/", nil); body != "false" {
		t.Errorf("AUTO_HTTP in clear: %s %q", res.Status, body)
	}
	secure := startPod(t, router.PodSecure, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.TLS != nil) }, nil)
	addr := listenTLS(t, r)
	r.routeTo("a.test", router.Backend{Scheme: router.PodLikeClient}, podAddr(secure))
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get("https://a.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != "true" {
		t.Errorf("AUTO_HTTP over TLS: %s %q", res.Status, body)
	}

	r.routeTo("a.test", router.Backend{Scheme: router.PodSecure, Unavailable: router.PodTLSUnusable}, podAddr(secure))
	if res, _ := r.do("GET", "http://a.test/", nil); res.StatusCode != 503 {
		t.Errorf("a backend whose Secret is missing: %s", res.Status)
	}
}

// pki is an authority for Pods.
type pki struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	p := &pki{t: t}
	c, key := p.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "pods"}, IsCA: true, BasicConstraintsValid: true}, nil)
	p.cert, p.key = c, key
	return p
}

func (p *pki) sign(template *x509.Certificate, parent *pki) (*x509.Certificate, *ecdsa.PrivateKey) {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	issuer, by := template, key
	if parent != nil {
		issuer, by = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), by)
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return c, key
}

// between returns an authority that p has signed.
func (p *pki) between() *pki {
	c, key := p.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "between"}, IsCA: true, BasicConstraintsValid: true}, p)
	return &pki{p.t, c, key}
}

// leaf returns a certificate for a name, with those given behind it; change may spoil it.
func (p *pki) leaf(name string, change func(*x509.Certificate), behind ...*pki) tls.Certificate {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(template)
	}
	c, key := p.sign(template, p)
	pair := tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}
	for _, b := range behind {
		pair.Certificate = append(pair.Certificate, b.cert.Raw)
	}
	return pair
}

// A Pod is spoken to only if its certificate passes where it has to: nothing of the request goes to another.
func TestPodCertificates(t *testing.T) {
	authority, stranger := newPKI(t), newPKI(t)
	middle := authority.between()
	verify := router.PodTLSOptions{Verify: true, Depth: 1}
	for _, row := range []struct {
		name    string
		options router.PodTLSOptions
		pair    tls.Certificate
		want    int
	}{
		{"good", verify, authority.leaf("svc.default.svc", nil), 200},
		{"not verified", router.PodTLSOptions{}, stranger.leaf("x", nil), 200},
		{"other authority", verify, stranger.leaf("svc.default.svc", nil), 502},
		{"other name", verify, authority.leaf("other.default.svc", nil), 502},
		{"asked name", router.PodTLSOptions{Verify: true, Name: "app.example"}, authority.leaf("app.example", nil), 200},
		{"not the asked name", router.PodTLSOptions{Verify: true, Name: "app.example"}, authority.leaf("svc.default.svc", nil), 502},
		{"expired", verify, authority.leaf("svc.default.svc", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}), 502},
		{"for clients only", verify, authority.leaf("svc.default.svc", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), 502},
		{"one between", verify, middle.leaf("svc.default.svc", nil, middle), 200},
		{"too many between", router.PodTLSOptions{Verify: true}, middle.leaf("svc.default.svc", nil, middle), 502},
		{"address", router.PodTLSOptions{Verify: true, Name: "127.0.0.1"}, authority.leaf("x", func(c *x509.Certificate) {
			c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		}), 200},
	} {
		for _, scheme := range []router.PodScheme{router.PodSecure, router.PodH2} {
			t.Run(row.name+" "+scheme.String(), func(t *testing.T) {
				var seen atomic.Int64
				pod := startPod(t, scheme, func(http.ResponseWriter, *http.Request) { seen.Add(1) }, func(s *httptest.Server) {
					s.TLS = &tls.Config{Certificates: []tls.Certificate{row.pair}}
				})
				r := newRig(t, proxy.Options{})
				settings := router.NewPodTLS(row.options, []*x509.Certificate{authority.cert}, nil)
				r.routeTo("a.test", router.Backend{Scheme: scheme, TLS: settings}, podAddr(pod))
				for range 2 { // resumed sessions are no way around it
					res, body := r.do("GET", "http://a.test/", nil)
					if res.StatusCode != row.want {
						t.Errorf("%s %q, want %d", res.Status, body, row.want)
					}
					if row.want != 200 && body != "the certificate of no endpoint is valid\n" {
						t.Errorf("the client is told %q", body)
					}
				}
				if row.want != 200 && seen.Load() != 0 {
					t.Error("the Pod saw a request")
				}
			})
		}
	}
}

// What Pods see of a handshake: our certificate where they ask for one, the name where they are told, the versions, and sessions resumed.
func TestPodHandshakes(t *testing.T) {
	authority := newPKI(t)
	ours := authority.leaf("podlane", nil)
	clients := x509.NewCertPool()
	clients.AddCert(authority.cert)
	var state atomic.Pointer[tls.ConnectionState]
	pod := startPod(t, router.PodSecure, func(w http.ResponseWriter, q *http.Request) {
		state.Store(q.TLS)
		w.Header().Set("Connection", "close")
	}, func(s *httptest.Server) {
		s.TLS = &tls.Config{
			Certificates: []tls.Certificate{authority.leaf("app.example", nil)},
			ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients,
		}
	})
	r := newRig(t, proxy.Options{})
	options := router.PodTLSOptions{Verify: true, Name: "app.example", SendName: true, Lowest: tls.VersionTLS12, Highest: tls.VersionTLS12}
	shown := []*x509.Certificate{authority.cert}
	r.routeTo("a.test", router.Backend{Scheme: router.PodSecure, TLS: router.NewPodTLS(options, shown, &ours)}, podAddr(pod))
	for i := range 2 {
		if res, _ := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
		switch s := state.Load(); {
		case s.ServerName != "app.example", s.Version != tls.VersionTLS12, s.NegotiatedProtocol != "http/1.1", len(s.PeerCertificates) != 1:
			t.Errorf("the Pod saw %q, %x, %q, %d certificates", s.ServerName, s.Version, s.NegotiatedProtocol, len(s.PeerCertificates))
		case s.DidResume != (i == 1):
			t.Errorf("handshake %d: resumed is %v", i, s.DidResume)
		}
	}
	options.SendName, options.Lowest, options.Highest = false, 0, 0
	r.routeTo("a.test", router.Backend{Scheme: router.PodSecure, TLS: router.NewPodTLS(options, shown, &ours)}, podAddr(pod))
	if res, _ := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	if s := state.Load(); s.ServerName != "" || s.Version != tls.VersionTLS13 {
		t.Errorf("by default the Pod saw %q, %x", s.ServerName, s.Version)
	}
	r.routeTo("a.test", router.Backend{Scheme: router.PodSecure, TLS: router.NewPodTLS(options, shown, nil)}, podAddr(pod))
	if res, _ := r.do("GET", "http://a.test/", nil); res.StatusCode != 502 {
		t.Errorf("without the certificate that the Pod wants: %s", res.Status)
	}
}

// A connection is used for one set of TLS settings only, and kept like one in clear.
func TestPodConnectionsByTLS(t *testing.T) {
	authority := newPKI(t)
	var conns atomic.Int64
	pod := startPod(t, router.PodSecure, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, "x") }, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{authority.leaf("svc.default.svc", nil)}}
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		}
	})
	r := newRig(t, proxy.Options{})
	get := func(settings *router.PodTLS, want int64) {
		t.Helper()
		r.routeTo("a.test", router.Backend{Scheme: router.PodSecure, TLS: settings}, podAddr(pod))
		for range 20 {
			if res, body := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 || body != "x" {
				t.Fatalf("%s %q", res.Status, body)
			}
		}
		if n := conns.Load(); n != want {
			t.Errorf("%d connections, want %d", n, want)
		}
	}
	get(router.NewPodTLS(router.PodTLSOptions{}, nil, nil), 1)
	get(router.NewPodTLS(router.PodTLSOptions{}, nil, nil), 1) // the same settings of another Ingress
	get(router.NewPodTLS(router.PodTLSOptions{Verify: true}, []*x509.Certificate{authority.cert}, nil), 2)
}

// Pods that do not speak what is expected, or not in time, count as Pods that cannot be connected to: the next one answers.
func TestPodsThatSpeakOtherwise(t *testing.T) {
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }
	plain := podAddr(startPod(t, router.PodPlain, ok, nil))
	secure := podAddr(startPod(t, router.PodSecure, ok, nil))
	silent := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) })
	closing := fakePod(t, func(int, net.Conn, *bufio.Reader) {})
	for _, row := range []struct {
		scheme router.PodScheme
		wrong  string
		want   int
	}{
		{router.PodSecure, plain, 502},
		{router.PodH2C, plain, 502},
		{router.PodH2, secure, 502},
		{router.PodH2, plain, 502},
		{router.PodH2C, closing, 502},
		{router.PodSecure, closing, 502},
		{router.PodH2C, silent, 504},
		{router.PodH2, silent, 504},
		{router.PodSecure, silent, 504},
	} {
		o := proxy.Options{}
		o.Upstream.ConnectTimeout = time.Second
		r := newRig(t, o)
		r.routeTo("a.test", router.Backend{Scheme: row.scheme}, row.wrong)
		if res, body := r.do("POST", "http://a.test/", strings.NewReader("x")); res.StatusCode != row.want {
			t.Errorf("%s to %s: %s %q, want %d", row.scheme, row.wrong, res.Status, body, row.want)
		}
		good := podAddr(startPod(t, row.scheme, ok, nil))
		r.routeTo("a.test", router.Backend{Scheme: row.scheme}, row.wrong, good)
		for range 4 {
			if res, body := r.do("POST", "http://a.test/", strings.NewReader("x")); res.StatusCode != 200 {
				t.Errorf("%s to %s and a good one: %s %q", row.scheme, row.wrong, res.Status, body)
			}
		}
	}
}
