package proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// signer is an authority for clients.
type signer struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

func newSigner(t testing.TB, name string) *signer {
	t.Helper()
	s := &signer{}
	s.Certificate, s.key = s.sign(t, name, true)
	return s
}

// sign makes a certificate; the first one of s is its own.
func (s *signer) sign(t testing.TB, name string, authority bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: authority, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	parent, by := s.Certificate, s.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// client returns what a client of s shows.
func (s *signer) client(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	cert, key := s.sign(t, name, false)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// policy returns what a host asks whose clients s signs. Each call is another Ingress, whose Secret was read anew.
func (s *signer) policy(v router.Verify) *router.TLSPolicy {
	by := router.NewAuthority("default", "ca", []*x509.Certificate{s.Certificate}, nil)
	return router.NewTLSPolicy(router.ClientAuth{Verify: v, Secret: "ca", Depth: 1}, "default/web", by)
}

// tlsRig is a rig that serves HTTPS, and hosts whose routes have policies.
type tlsRig struct {
	*rig
	addr string
	pod  string
}

func newTLSRig(t *testing.T) *tlsRig {
	t.Helper()
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "%s %s", q.Header.Get("ssl-client-verify"), q.Header.Get("ssl-client-subject-dn"))
	})
	r := &tlsRig{rig: newRig(t, proxy.Options{Policies: []filters.Policy{filters.ClientCertificate()}}), pod: pod}
	store, err := certs.NewStore(certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := server.NewConfig(store, server.Options{Protocols: []string{"h2", "http/1.1"}, Table: r.engine.Table})
	if err != nil {
		t.Fatal(err)
	}
	h := server.NewHandshaker(server.HandshakerOptions{Timeout: time.Minute, QueueTimeout: time.Minute})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	go func() {
		_ = r.engine.Serve(&proxy.Listener{
			Listener: l,
			Handshake: func(c net.Conn) (*tls.Conn, error) {
				tc := h.Server(c, config)
				return tc, h.Handshake(ctx, tc)
			},
			Credentials: func(c *tls.Conn) exchange.Credentials {
				if shown := server.CredentialsOf(c); shown != nil {
					return shown
				}
				return nil
			},
		})
	}()
	r.addr = l.Addr().String()
	return r
}

// publish makes hosts live, each with its policy.
func (r *tlsRig) publish(hosts map[string]*router.TLSPolicy) {
	r.t.Helper()
	sp := router.ServicePort{Namespace: "default", Name: "web"}
	var routes []*router.Route
	for name, p := range hosts {
		routes = append(routes, &router.Route{
			ID: router.RouteID{Namespace: "default", Ingress: "web", Host: name, Path: "/"}, TLS: p, Backends: []router.Backend{{Service: sp, Weight: 1}},
		})
	}
	t := router.NewTable(routes, nil)
	r.engine.Prepare(t)
	r.engine.SetAddresses(sp.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(r.pod), UID: "u", Ready: true, Serving: true}}})
	r.engine.Publish(t)
}

// browser is a client with one certificate, or none, and the sessions that it has kept.
type browser struct {
	rig      *tlsRig
	config   *tls.Config
	conn     *tls.Conn
	h1       *bufio.Reader
	h2       *http.ClientConn
	requests int
}

func (r *tlsRig) browser(protocol string, version uint16, shown *tls.Certificate) *browser {
	return &browser{rig: r, config: &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{protocol}, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(8),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if shown == nil {
				return &tls.Certificate{}, nil
			}
			return shown, nil
		},
	}}
}

// connect opens a connection for a server name.
func (b *browser) connect(name string) {
	t := b.rig.t
	t.Helper()
	b.close()
	config := b.config.Clone()
	config.ServerName = name
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	nc, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", b.rig.addr)
	if err != nil {
		t.Fatalf("connect to %q: %v", name, err)
	}
	b.conn, b.requests = nc.(*tls.Conn), 0
	if err := b.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if b.config.NextProtos[0] != "h2" {
		b.h1 = bufio.NewReader(b.conn)
		return
	}
	tr := &http.Transport{Protocols: new(http.Protocols), DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return b.conn, nil }}
	tr.Protocols.SetHTTP2(true)
	if b.h2, err = tr.NewClientConn(ctx, "https", b.rig.addr); err != nil {
		t.Fatal(err)
	}
}

func (b *browser) close() {
	if b.h2 != nil {
		_ = b.h2.Close()
	}
	if b.conn != nil {
		_ = b.conn.Close()
	}
	b.conn, b.h1, b.h2 = nil, nil, nil
}

// get asks for host over the connection, and reports whether another request may follow.
func (b *browser) get(host string) (status int, body string, again bool) {
	t := b.rig.t
	t.Helper()
	b.requests++
	req, err := http.NewRequest(http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("ssl-client-verify", "SUCCESS")
	req.Header.Set("ssl-client-subject-dn", "CN=forged")
	var res *http.Response
	if b.h2 != nil {
		res, err = b.h2.RoundTrip(req)
	} else if err = req.Write(b.conn); err == nil {
		res, err = http.ReadResponse(b.h1, req)
	}
	if err != nil {
		t.Fatalf("request %d, for %s: %v", b.requests, host, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if b.h2 != nil {
		return res.StatusCode, string(text), b.h2.Err() == nil && b.h2.Available() > 0
	}
	return res.StatusCode, string(text), !res.Close
}

// admitted says whether a host lets in a client that shows "ours", "theirs" or "none", by the names of the authorities alone.
func admitted(p *router.TLSPolicy, shown string) bool {
	switch {
	case p == nil:
		return true
	case shown == "none":
		return p.Verify == router.VerifyOptional
	}
	return p.Authority.Certificates[0].Subject.CommonName == shown
}

// TestServerNameHostCertificateResumption: all server names, hosts, certificates, both protocols and TLS versions, with new sessions and resumed
// ones. What is wanted comes from the names alone.
func TestServerNameHostCertificateResumption(t *testing.T) {
	ours, theirs := newSigner(t, "ours"), newSigner(t, "theirs")
	hosts := map[string]*router.TLSPolicy{
		"open.test": nil, "strict.test": ours.policy(router.VerifyOn), "twin.test": ours.policy(router.VerifyOn),
		"theirs.test": theirs.policy(router.VerifyOn), "optional.test": ours.policy(router.VerifyOptional),
		"*.wild.test": ours.policy(router.VerifyOn), "free.wild.test": nil,
	}
	names := []string{"open.test", "STRICT.test", "twin.test", "theirs.test", "optional.test", "x.wild.test", "free.wild.test", "unknown.test"}
	policyOf := func(name string) *router.TLSPolicy {
		name = strings.ToLower(name)
		if p, exact := hosts[name]; exact {
			return p
		}
		_, parent, _ := strings.Cut(name, ".")
		return hosts["*."+parent]
	}
	wanted := func(sni, host, shown string) (status int, body string) {
		p := policyOf(host)
		switch {
		case !p.Same(policyOf(sni)):
			return 421, ""
		case host == "unknown.test":
			return 404, ""
		case !admitted(p, shown):
			return 400, ""
		case p == nil:
			return 200, " "
		case shown == "none":
			return 200, "NONE "
		}
		return 200, "SUCCESS CN=" + shown
	}
	r := newTLSRig(t)
	r.publish(hosts)
	for _, mode := range []struct {
		protocol string
		version  uint16
	}{{"http/1.1", tls.VersionTLS12}, {"http/1.1", tls.VersionTLS13}, {"h2", tls.VersionTLS13}} {
		for shown, pair := range map[string]*tls.Certificate{"none": nil, "ours": ours.client(t, "ours"), "theirs": theirs.client(t, "theirs")} {
			t.Run(fmt.Sprint(mode.protocol, " ", tls.VersionName(mode.version), " ", shown), func(t *testing.T) {
				b := r.browser(mode.protocol, mode.version, pair)
				defer b.close()
				for _, sni := range append(names, "") {
					resumed := false
					for range 2 {
						b.connect(sni)
						for _, host := range names {
							status, body, again := b.get(host)
							wantStatus, wantBody := wanted(sni, host, shown)
							if status != wantStatus || status == 200 && body != wantBody {
								t.Errorf("SNI %q, Host %s, resumed %v: %d %q, want %d %q", sni, host, b.conn.ConnectionState().DidResume, status, body, wantStatus, wantBody)
							}
							if again != (status != 400) {
								t.Errorf("SNI %q, Host %s: after %d another request may follow: %v", sni, host, status, again)
							}
							resumed = resumed || b.conn.ConnectionState().DidResume
							if !again {
								b.connect(sni)
							}
						}
					}
					if may := admitted(policyOf(sni), shown); resumed != may {
						t.Errorf("SNI %q: sessions resumed: %v, want %v", sni, resumed, may)
					}
				}
			})
		}
	}
}

// TestPolicyChangesUnderConnections: connections that were there before go on where what their client showed will do; the others are told to come
// back, and do so with what is asked for now.
func TestPolicyChangesUnderConnections(t *testing.T) {
	ours, theirs := newSigner(t, "ours"), newSigner(t, "theirs")
	both := func() *router.TLSPolicy {
		by := router.NewAuthority("default", "ca", []*x509.Certificate{theirs.Certificate, ours.Certificate}, nil)
		return router.NewTLSPolicy(router.ClientAuth{Verify: router.VerifyOn, Depth: 1}, "default/web", by)
	}
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			r := newTLSRig(t)
			b := r.browser(protocol, tls.VersionTLS13, ours.client(t, "alice"))
			defer b.close()
			r.publish(map[string]*router.TLSPolicy{"a.test": nil})
			b.connect("a.test")
			for i, step := range []struct {
				story  string
				policy *router.TLSPolicy
				status int
				then   int // over a new connection, where the old one ends
			}{
				{"nothing is asked for", nil, 200, 0},
				{"a certificate is asked for", ours.policy(router.VerifyOn), 421, 200},
				{"the Secret is read anew", ours.policy(router.VerifyOn), 200, 0},
				{"another authority is added", both(), 200, 0},
				{"the old one is gone", theirs.policy(router.VerifyOn), 421, 400},
				{"it is back, but optional", ours.policy(router.VerifyOptional), 200, 0},
				{"nothing is asked for any more", nil, 200, 0},
			} {
				r.publish(map[string]*router.TLSPolicy{"a.test": step.policy})
				status, body, again := b.get("a.test")
				if status != step.status || again != (step.then == 0) {
					t.Fatalf("step %d, %s: %d %q, another request may follow: %v", i, step.story, status, body, again)
				}
				if step.then == 0 {
					continue
				}
				b.connect("a.test")
				status, body, again = b.get("a.test")
				if status != step.then {
					t.Fatalf("step %d, %s: over a new connection %d %q, want %d", i, step.story, status, body, step.then)
				}
				if !again {
					b.connect("a.test")
				}
			}
		})
	}
}

// TestRefusedClientsComeBack: who is refused is told to make another connection, on which another certificate can be shown.
func TestRefusedClientsComeBack(t *testing.T) {
	ours, theirs := newSigner(t, "ours"), newSigner(t, "theirs")
	r := newTLSRig(t)
	r.publish(map[string]*router.TLSPolicy{"a.test": ours.policy(router.VerifyOn)})
	for _, protocol := range []string{"http/1.1", "h2"} {
		b := r.browser(protocol, tls.VersionTLS13, nil)
		for i, pair := range []*tls.Certificate{nil, theirs.client(t, "bob"), ours.client(t, "alice")} {
			b.config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if pair == nil {
					return &tls.Certificate{}, nil
				}
				return pair, nil
			}
			b.connect("a.test")
			want, wantAgain := 400, false
			if i == 2 {
				want, wantAgain = 200, true
			}
			if status, body, again := b.get("a.test"); status != want || again != wantAgain {
				t.Errorf("%s, certificate %d: %d %q, another request may follow: %v", protocol, i, status, body, again)
			}
		}
		b.close()
	}
}
