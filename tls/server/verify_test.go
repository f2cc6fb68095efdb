package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// show runs a handshake with a.test under policy p in which the client shows pair, or nothing, and returns what was found out about it.
func show(t testing.TB, p *router.TLSPolicy, pair *tls.Certificate) *server.Credentials {
	t.Helper()
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{Table: tableWith(nil, map[string]*router.TLSPolicy{"a.test": p})})
	h := server.NewHandshaker(server.HandshakerOptions{})
	near, far := tcpPipe(t)
	c := tls.Client(far, client(func(c *tls.Config) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if pair == nil {
				return &tls.Certificate{}, nil
			}
			return pair, nil
		}
	}))
	clientErr := make(chan error, 1)
	go func() { clientErr <- c.Handshake() }()
	s := h.Server(near, config)
	if err := h.Handshake(t.Context(), s); err != nil {
		t.Fatalf("handshake: %v", err)
	}
	if err := <-clientErr; err != nil {
		t.Fatalf("client: %v", err)
	}
	return server.CredentialsOf(s)
}

// TestVerdicts: what a client shows, and what it is worth. The handshake completes in every case.
func TestVerdicts(t *testing.T) {
	root := issue(t, nil, "root", authority)
	link := issue(t, root, "link", authority)
	deep := issue(t, link, "deep", authority)
	short := issue(t, root, "short", func(c *x509.Certificate) { authority(c); c.MaxPathLenZero = true })
	other := issue(t, nil, "other", authority)
	impostor := issue(t, nil, "root", func(c *x509.Certificate) { authority(c); c.SubjectKeyId = root.SubjectKeyId })
	namesake := issue(t, nil, "root", authority)
	leaf := issue(t, root, "leaf", nil)
	self := issue(t, nil, "self", nil)
	over := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = c.NotBefore.Add(-time.Hour), c.NotBefore.Add(-time.Minute)
	}
	for _, c := range []struct {
		story string
		shown *identity
		links []*identity
		by    *router.Authority
		want  router.Verdict
	}{
		{"nothing", nil, nil, trust(nil, root), router.Verdict{}},
		{"signed by the root", leaf, nil, trust(nil, root), router.Verdict{Outcome: router.Verified}},
		{"the root comes along", leaf, []*identity{root}, trust(nil, root), router.Verdict{Outcome: router.Verified}},
		{"one of several", leaf, nil, trust(nil, other, root), router.Verdict{Outcome: router.Verified}},
		{"the link comes along", issue(t, link, "leaf", nil), []*identity{link}, trust(nil, root), router.Verdict{Outcome: router.Verified}},
		{"the link is in the Secret", issue(t, link, "leaf", nil), nil, trust(nil, root, link), router.Verdict{Outcome: router.Verified}},
		{"only the link is in the Secret", issue(t, link, "leaf", nil), nil, trust(nil, link), router.Verdict{Outcome: router.Verified}},
		{"the link is missing", issue(t, link, "leaf", nil), nil, trust(nil, root), router.Verdict{Outcome: router.Untrusted, Reason: "unable to verify the first certificate"}},
		{"two links are too many", issue(t, deep, "leaf", nil), []*identity{deep, link}, trust(nil, root), failed("certificate chain too long")},
		{"a link that may not sign links", issue(t, issue(t, short, "x", authority), "leaf", nil), nil, trust(nil, root), router.Verdict{Outcome: router.Untrusted, Reason: "unable to verify the first certificate"}},
		{"somebody else's", issue(t, other, "leaf", nil), nil, trust(nil, root), router.Verdict{Outcome: router.Untrusted, Reason: "unable to verify the first certificate"}},
		{"somebody else's with his root", issue(t, other, "leaf", nil), []*identity{other}, trust(nil, root), router.Verdict{Outcome: router.Untrusted, Reason: "self-signed certificate in certificate chain"}},
		{"its own", self, nil, trust(nil, root), router.Verdict{Outcome: router.Untrusted, Reason: "self-signed certificate"}},
		{"its own, and known", self, nil, trust(nil, self), router.Verdict{Outcome: router.Verified}},
		{"a forged signature", issue(t, impostor, "leaf", nil), nil, trust(nil, root), failed("certificate signature failure")},
		{"a namesake of the root", issue(t, namesake, "leaf", nil), nil, trust(nil, root), router.Verdict{Outcome: router.Untrusted, Reason: "unable to verify the first certificate"}},
		{"expired", issue(t, root, "leaf", over), nil, trust(nil, root), failed("certificate has expired")},
		{"expired, of somebody else", issue(t, other, "leaf", over), nil, trust(nil, root), failed("certificate has expired")},
		{"not yet valid", issue(t, root, "leaf", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }), nil, trust(nil, root), failed("certificate is not yet valid")},
		{"for servers", issue(t, root, "leaf", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), nil, trust(nil, root), failed("unsuitable certificate purpose")},
		{"for anything", issue(t, root, "leaf", func(c *x509.Certificate) { c.ExtKeyUsage = nil }), nil, trust(nil, root), router.Verdict{Outcome: router.Verified}},
		{"signed by one who may not", issue(t, leaf, "below", nil), []*identity{leaf}, trust(nil, root), router.Verdict{Outcome: router.Untrusted, Reason: "unable to verify the first certificate"}},
		{"a critical extension", issue(t, root, "leaf", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), nil, trust(nil, root), failed("unhandled critical extension")},
	} {
		t.Run(c.story, func(t *testing.T) {
			p := policyOf(router.VerifyOptionalNoCA, c.by)
			var pair *tls.Certificate
			if c.shown != nil {
				shown := c.shown.pair(c.links...)
				pair = &shown
			}
			got := show(t, p, pair)
			if v := got.Judge(p, time.Now()); v != c.want {
				t.Errorf("verdict %q, want %q", v, c.want)
			}
			if got.Policy() != p {
				t.Error("another policy")
			}
			switch cert := got.Certificate(); {
			case (cert == nil) != (c.shown == nil):
				t.Errorf("certificate %v", cert)
			case cert != nil:
				if subject, issuer := got.Names(); !cert.Equal(c.shown.Certificate) || subject != "CN="+cert.Subject.CommonName || issuer != "CN="+cert.Issuer.CommonName {
					t.Errorf("subject %q, issuer %q", subject, issuer)
				}
			}
		})
	}
}

func failed(reason string) router.Verdict {
	return router.Verdict{Outcome: router.Failed, Reason: reason}
}

func TestDepth(t *testing.T) {
	root := issue(t, nil, "root", authority)
	one := issue(t, root, "one", authority)
	two := issue(t, one, "two", authority)
	for _, c := range []struct {
		leaf  *identity
		links []*identity
		need  int
	}{
		{issue(t, root, "leaf", nil), nil, 0}, {issue(t, one, "leaf", nil), []*identity{one}, 1}, {issue(t, two, "leaf", nil), []*identity{two, one}, 2},
	} {
		shown := c.leaf.pair(c.links...)
		credentials := show(t, policyOf(router.VerifyOn, trust(nil, root)), &shown)
		for depth := range 4 {
			p := router.NewTLSPolicy(router.ClientAuth{Verify: router.VerifyOn, Depth: depth}, "default/web", trust(nil, root))
			if got := credentials.Judge(p, time.Now()).Outcome == router.Verified; got != (depth >= c.need) {
				t.Errorf("a chain with %d links at depth %d: verified is %v", c.need, depth, got)
			}
		}
	}
}

// TestRevocation: with a list of somebody there must be one of everybody who signed; what is not known is not good.
func TestRevocation(t *testing.T) {
	root := issue(t, nil, "root", authority)
	link := issue(t, root, "link", authority)
	silent := issue(t, root, "silent", func(c *x509.Certificate) { authority(c); c.KeyUsage = x509.KeyUsageCertSign })
	impostor := issue(t, nil, "root", authority)
	leaf, below, quiet := issue(t, root, "leaf", nil), issue(t, link, "leaf", nil), issue(t, silent, "leaf", nil)
	lists := func(l ...*x509.RevocationList) []*x509.RevocationList { return l }
	ok := router.Verdict{Outcome: router.Verified}
	older := func(l *x509.RevocationList) { l.ThisUpdate = l.ThisUpdate.Add(-time.Hour) }
	for _, c := range []struct {
		story string
		leaf  *identity
		links []*identity
		lists []*x509.RevocationList
		want  router.Verdict
	}{
		{"nobody is revoked", leaf, nil, lists(revoke(t, root, nil)), ok},
		{"another one is", leaf, nil, lists(revoke(t, root, nil, below)), ok},
		{"it is", leaf, nil, lists(revoke(t, root, nil, below, leaf)), failed("certificate revoked")},
		{"by the newest list", leaf, nil, lists(revoke(t, root, older), revoke(t, root, nil, leaf)), failed("certificate revoked")},
		{"not any more by the newest", leaf, nil, lists(revoke(t, root, nil), revoke(t, root, older, leaf)), ok},
		{"the list is old", leaf, nil, lists(revoke(t, root, func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Minute) })), failed("CRL has expired")},
		{"the list is of tomorrow", leaf, nil, lists(revoke(t, root, func(l *x509.RevocationList) { l.ThisUpdate = time.Now().Add(time.Minute) })), failed("CRL is not yet valid")},
		{"the list is somebody else's", leaf, nil, lists(revoke(t, link, nil)), failed("unable to get certificate CRL")},
		{"the list is forged", leaf, nil, lists(revoke(t, impostor, nil)), failed("unable to get certificate CRL")},
		{"beside a forged one", leaf, nil, lists(revoke(t, impostor, func(l *x509.RevocationList) { l.ThisUpdate = time.Now() }), revoke(t, root, nil, leaf)), failed("certificate revoked")},
		{"below a link", below, []*identity{link}, lists(revoke(t, root, nil), revoke(t, link, nil)), ok},
		{"revoked by the link", below, []*identity{link}, lists(revoke(t, root, nil), revoke(t, link, nil, below)), failed("certificate revoked")},
		{"the link is revoked", below, []*identity{link}, lists(revoke(t, root, nil, link), revoke(t, link, nil)), failed("certificate revoked")},
		{"the link has no list", below, []*identity{link}, lists(revoke(t, root, nil)), failed("unable to get certificate CRL")},
		{"the root has no list", below, []*identity{link}, lists(revoke(t, link, nil)), failed("unable to get certificate CRL")},
		{"a link that may not sign lists", quiet, []*identity{silent}, lists(revoke(t, root, nil), listOfSilent(t, silent)), failed("unable to get certificate CRL")},
	} {
		t.Run(c.story, func(t *testing.T) {
			shown := c.leaf.pair(c.links...)
			p := policyOf(router.VerifyOn, trust(c.lists, root))
			credentials := show(t, p, &shown)
			for range 2 { // what is remembered is the same
				if got := credentials.Judge(p, time.Now()); got != c.want {
					t.Errorf("verdict %q, want %q", got, c.want)
				}
			}
			again := policyOf(router.VerifyOptional, p.Authority)
			if got := credentials.Judge(again, time.Now()); got != c.want {
				t.Errorf("anew: verdict %q, want %q", got, c.want)
			}
		})
	}
	// A link in the Secret ends no chain, or nobody would look whether the root has revoked it.
	shown := below.pair()
	p := policyOf(router.VerifyOn, trust(lists(revoke(t, root, nil, link), revoke(t, link, nil)), link, root))
	if got := show(t, p, &shown).Judge(p, time.Now()); got != failed("certificate revoked") {
		t.Errorf("a revoked link in the Secret: verdict %q", got)
	}
}

// listOfSilent signs a list with the key of an authority that may not, which x509 refuses to do.
func listOfSilent(t testing.TB, i *identity) *x509.RevocationList {
	t.Helper()
	may := *i.Certificate
	may.KeyUsage |= x509.KeyUsageCRLSign
	return revoke(t, &identity{&may, i.key}, nil)
}

// TestVerdictsEnd: while a connection lives its certificate expires, and the list that said nothing about it gets old.
func TestVerdictsEnd(t *testing.T) {
	root := issue(t, nil, "root", authority)
	brief := issue(t, root, "brief", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(10 * time.Minute) })
	later := issue(t, root, "later", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(10 * time.Minute) })
	for _, c := range []struct {
		story         string
		shown         *identity
		lists         []*x509.RevocationList
		before, after string
	}{
		{"expires", brief, nil, "SUCCESS", "FAILED:certificate has expired"},
		{"the list gets old", issue(t, root, "leaf", nil), []*x509.RevocationList{revoke(t, root, func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(10 * time.Minute) })}, "SUCCESS", "FAILED:CRL has expired"},
		{"becomes valid", later, nil, "FAILED:certificate is not yet valid", "SUCCESS"},
	} {
		shown := c.shown.pair()
		p := policyOf(router.VerifyOn, trust(c.lists, root))
		credentials := show(t, p, &shown)
		now, then := time.Now().Add(9*time.Minute), time.Now().Add(11*time.Minute)
		if got := credentials.Judge(p, now).String(); got != c.before {
			t.Errorf("%s: before it is %q, want %q", c.story, got, c.before)
		}
		if got := credentials.Judge(p, then).String(); got != c.after {
			t.Errorf("%s: after it is %q, want %q", c.story, got, c.after)
		}
	}
}

func TestJudgeCostsNothing(t *testing.T) {
	root := issue(t, nil, "root", authority)
	shown := issue(t, root, "leaf", nil).pair()
	p := policyOf(router.VerifyOn, trust(nil, root))
	credentials, now := show(t, p, &shown), time.Now()
	if n := testing.AllocsPerRun(100, func() { credentials.Judge(p, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestShownTooMuch: crypto/tls would keep a quarter of a megabyte for each connection.
func TestShownTooMuch(t *testing.T) {
	root := issue(t, nil, "root", authority)
	p := policyOf(router.VerifyOptionalNoCA, trust(nil, root))
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{Table: tableWith(nil, map[string]*router.TLSPolicy{"a.test": p})})
	for _, c := range []struct {
		size int
		ok   bool
	}{{server.MaxShown - 2<<10, true}, {server.MaxShown, false}} {
		big := issue(t, root, "big", func(template *x509.Certificate) {
			template.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: make([]byte, c.size)}}
		})
		h := server.NewHandshaker(server.HandshakerOptions{})
		_, err, _ := connect(t, h, config, client(func(o *tls.Config) { o.Certificates = []tls.Certificate{big.pair()} }))
		if (err == nil) != c.ok {
			t.Errorf("an extension of %d bytes: %v", c.size, err)
		}
	}
}

// TestWhoIsNamed: clients with several certificates show one that is of use.
func TestWhoIsNamed(t *testing.T) {
	root, other := issue(t, nil, "root", authority), issue(t, nil, "other", authority)
	for verify, want := range map[router.Verify]int{router.VerifyOn: 2, router.VerifyOptional: 2, router.VerifyOptionalNoCA: 0} {
		p := policyOf(verify, trust(nil, root, other))
		config := newConfig(t, storeFor(t, certs.Options{}), server.Options{Table: tableWith(nil, map[string]*router.TLSPolicy{"a.test": p, "b.test": nil})})
		for name, asked := range map[string]bool{"a.test": true, "A.TEST": true, "b.test": false, "": false} {
			var request *tls.CertificateRequestInfo
			h := server.NewHandshaker(server.HandshakerOptions{})
			_, err, clientErr := connect(t, h, config, client(func(c *tls.Config) {
				c.ServerName = name
				c.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
					request = r
					return &tls.Certificate{}, nil
				}
			}))
			if err != nil || clientErr != nil {
				t.Fatalf("%s %s: %v, %v", verify, name, err, clientErr)
			}
			if (request != nil) != asked || asked && len(request.AcceptableCAs) != want {
				t.Errorf("%s: %q is asked by %+v, want %d names", verify, name, request, want)
			}
		}
	}
}

// TestForeignConnHasNoCredentials: what nobody kept nobody can vouch for.
func TestForeignConnHasNoCredentials(t *testing.T) {
	root := issue(t, nil, "root", authority)
	p := policyOf(router.VerifyOn, trust(nil, root))
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{Table: tableWith(nil, map[string]*router.TLSPolicy{"a.test": p})})
	near, far := tcpPipe(t)
	shown := issue(t, root, "leaf", nil).pair()
	c := tls.Client(far, client(func(c *tls.Config) { c.Certificates = []tls.Certificate{shown} }))
	clientErr := make(chan error, 1)
	go func() { clientErr <- c.Handshake() }()
	s := tls.Server(near, config)
	if err := server.NewHandshaker(server.HandshakerOptions{}).Handshake(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := <-clientErr; err != nil {
		t.Fatal(err)
	}
	if got := server.CredentialsOf(s); got != nil {
		t.Errorf("credentials %+v", got)
	}
}
