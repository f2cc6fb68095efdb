package certs_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
)

func TestServerNames(t *testing.T) {
	exact := pairFor(t, "www.example.com")
	wild := pairFor(t, "*.example.com")
	deep := pairFor(t, "*.a.example.com")
	single := pairFor(t, "localhost")
	odd := pairFor(t)
	named := pairFor(t, "san1.test", "*.san2.test")
	fallback := pairFor(t, "default.test")
	long := strings.Repeat("a.", 126) + "a" // 253 bytes
	s := newStore(t, certs.Options{Default: fallback})
	s.Publish([]*router.Certificate{
		cert("exact", exact, "www.example.com"),
		cert("wild", wild, "*.example.com", "*.example.com"),
		cert("deep", deep, "*.A.Example.COM."),
		cert("single", single, "localhost", long),
		cert("odd", odd, "", ".", "*", "*.", "a*.test", "*.*.test", "x.*.test", long+".a"),
		cert("named", named),
		nil,
	}, nil)

	for _, c := range []struct {
		name string
		want *tls.Certificate
	}{
		{"www.example.com", exact},
		{"WWW.Example.Com", exact},
		{"www.example.com.", exact},
		{"WWW.EXAMPLE.COM.", exact},
		{"www.example.com..", fallback},
		{"api.example.com", wild},
		{"API.example.com.", wild},
		{"*.example.com", wild},
		{"example.com", fallback},
		{".example.com", fallback},
		{"b.www.example.com", fallback},
		{"b.a.example.com", deep},
		{"c.b.a.example.com", fallback},
		{"a.example.com", wild},
		{"localhost", single},
		{"LocalHost", single},
		{long, single},
		{long + ".", single},
		{long + ".a", fallback},
		{strings.Repeat("x", 70000), fallback},
		{"a*.test", fallback},
		{"ab.test", fallback},
		{"x.y.test", fallback},
		{"san1.test", named},
		{"q.san2.test", named},
		{"san2.test", fallback},
		{"ignored.example", fallback}, // a common name is not a name: RFC 9525 section 2
		{"podlane.invalid", fallback},
		{"", fallback},
		{".", fallback},
		{"www.exampl\u0212.com", fallback},
	} {
		if got := served(t, s, c.name); got != c.want {
			t.Errorf("%.40q: got the certificate of %v, want %v", c.name, got.Leaf.DNSNames, c.want.Leaf.DNSNames)
		}
	}
}

func TestExactWinsWhateverTheOrder(t *testing.T) {
	exact, wild := pairFor(t, "a.test"), pairFor(t, "*.test")
	s := newStore(t, certs.Options{})
	list := []*router.Certificate{cert("wild", wild, "*.test"), cert("exact", exact, "a.test")}
	s.Publish(list, nil)
	if served(t, s, "a.test") != exact {
		t.Error("the wildcard came first and won")
	}
	// Of another namespace, the wildcard's owner must not get a's traffic because a's Secret is gone.
	fallback := served(t, s, "nobody.else")
	list[0].Namespace = "other"
	s.Publish([]*router.Certificate{list[0], cert("missing", nil, "a.test")}, nil)
	if served(t, s, "a.test") != fallback {
		t.Error("a wildcard took over an exact host whose Secret is missing")
	}
}

func TestFirstOwnerDecides(t *testing.T) {
	first, second := pairFor(t, "a.test"), pairFor(t, "a.test")
	s := newStore(t, certs.Options{})
	mine := cert("first", first, "a.test")
	theirs := cert("second", second, "a.test", "b.test")
	theirs.Namespace, theirs.Owner = "evil", "evil/owner"
	s.Publish([]*router.Certificate{mine, theirs}, nil)
	if served(t, s, "a.test") != first || served(t, s, "b.test") != second {
		t.Error("the first in the list does not decide")
	}
	s.Publish([]*router.Certificate{theirs, mine}, nil)
	if served(t, s, "a.test") != second {
		t.Error("the order of the list does not count")
	}
	// An owner's missing Secret does not give the host away.
	fallback := served(t, s, "nobody.test")
	s.Publish([]*router.Certificate{cert("gone", nil, "a.test"), theirs}, nil)
	if served(t, s, "a.test") != fallback {
		t.Error("a missing Secret gave the host to another owner")
	}
}

func TestRejectUnknown(t *testing.T) {
	s := newStore(t, certs.Options{RejectUnknown: true})
	s.Publish([]*router.Certificate{cert("good", pairFor(t, "a.test"), "a.test"), cert("missing", nil, "b.test")}, nil)
	for _, name := range []string{"", "unknown.test", "x.a.test"} {
		if _, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); !errors.Is(err, certs.ErrUnknownName) {
			t.Errorf("%q: got error %v, want ErrUnknownName", name, err)
		}
	}
	served(t, s, "a.test")
	if got := served(t, s, "b.test"); got.Leaf.DNSNames[0] != "default.test" {
		t.Errorf("a host with a missing Secret got %v, want the default certificate", got.Leaf.DNSNames)
	}
}

// TestLookupTellsWhatIsServed: what Lookup says is what a handshake gets.
func TestLookupTellsWhatIsServed(t *testing.T) {
	s := newStore(t, certs.Options{})
	s.Publish([]*router.Certificate{
		cert("good", pairFor(t, "a.test"), "a.test"), cert("wild", pairFor(t, "*.b.test"), "*.b.test"), cert("missing", nil, "c.test"),
	}, nil)
	for _, name := range []string{"a.test", "A.TEST.", "x.b.test", "x.y.b.test", "c.test", "", "nobody.test"} {
		list := s.Lookup(name)
		if len(list) == 0 || list[len(list)-1].Serial != served(t, s, name).Leaf.SerialNumber.Text(16) {
			t.Errorf("%q: %+v", name, list)
		}
	}
	s.Treat(certs.RejectUnknown)
	if s.Lookup("nobody.test") != nil || s.Lookup("a.test") == nil {
		t.Error("a handshake that is refused has a certificate, or one that is not has none")
	}
}

func TestSelfSignedDefault(t *testing.T) {
	s, err := certs.NewStore(certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := certs.NewStore(certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	leaf := served(t, s, "any.test").Leaf
	if got := leaf.Subject.CommonName; got != "Podlane default certificate" {
		t.Errorf("common name %q", got)
	}
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("public key %T, want ECDSA P-256", leaf.PublicKey)
	}
	if leaf.IsCA || leaf.SerialNumber.BitLen() < 32 || leaf.NotAfter.Before(time.Now().AddDate(9, 0, 0)) {
		t.Errorf("unsuitable: CA %v, serial %v, until %v", leaf.IsCA, leaf.SerialNumber, leaf.NotAfter)
	}
	if leaf.SerialNumber.Cmp(served(t, other, "any.test").Leaf.SerialNumber) == 0 {
		t.Error("two processes share a serial number")
	}
	state := handshake(t, s, &tls.Config{ServerName: "any.test"})
	if len(state.PeerCertificates) != 1 || !state.PeerCertificates[0].Equal(leaf) {
		t.Error("the client saw another certificate")
	}
}

func TestUnusableDefault(t *testing.T) {
	good := pairFor(t, "a.test")
	for name, pair := range map[string]*tls.Certificate{
		"empty":    {},
		"no key":   {Certificate: good.Certificate},
		"no leaf":  {Certificate: [][]byte{{1, 2, 3}}, PrivateKey: good.PrivateKey},
		"mismatch": {Certificate: good.Certificate, PrivateKey: pairFor(t, "b.test").PrivateKey},
	} {
		if _, err := certs.NewStore(certs.Options{Default: pair}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A pair without a parsed leaf is usable, and the caller's value stays as it is.
	bare := &tls.Certificate{Certificate: good.Certificate, PrivateKey: good.PrivateKey}
	s := newStore(t, certs.Options{Default: bare})
	if served(t, s, "x.test").Leaf == nil || bare.Leaf != nil {
		t.Error("the leaf was not parsed into a copy")
	}
}

func TestRSAandECDSA(t *testing.T) {
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(time.Hour)
	rsaPair := signed(t, key, expires, []string{"a.test"})
	ecPair := pairFor(t, "a.test")
	misnamed := pairFor(t, "other.test")
	expired := signed(t, ecPair.PrivateKey.(*ecdsa.PrivateKey), time.Now().Add(-time.Minute), []string{"a.test"})
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPair := signed(t, ed, expires, []string{"a.test"})

	modern := &tls.Config{ServerName: "a.test"}
	old := &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	for _, c := range []struct {
		story  string
		pairs  []*tls.Certificate
		client *tls.Config
		want   *tls.Certificate
	}{
		{"modern client, RSA first", []*tls.Certificate{rsaPair, ecPair}, modern, ecPair},
		{"modern client, ECDSA first", []*tls.Certificate{ecPair, rsaPair}, modern, ecPair},
		{"RSA-only client, ECDSA first", []*tls.Certificate{ecPair, rsaPair}, old, rsaPair},
		{"RSA-only client, RSA first", []*tls.Certificate{rsaPair, ecPair}, old, rsaPair},
		{"the expired one comes last", []*tls.Certificate{expired, rsaPair}, modern, rsaPair},
		{"expired is better than unsupported", []*tls.Certificate{ecPair, signed(t, key, time.Now().Add(-time.Minute), []string{"a.test"})}, old, nil},
		{"a wrong name is its owner's decision", []*tls.Certificate{misnamed, rsaPair}, old, rsaPair},
		{"both wrong names", []*tls.Certificate{misnamed, signed(t, key, expires, []string{"other.test"})}, old, nil},
		{"the first of equals", []*tls.Certificate{ecPair, edPair}, modern, ecPair},
	} {
		t.Run(c.story, func(t *testing.T) {
			s := newStore(t, certs.Options{})
			var list []*router.Certificate
			for i, pair := range c.pairs {
				list = append(list, cert(fmt.Sprint("secret", i), pair, "a.test"))
			}
			s.Publish(list, nil)
			want := c.want
			if want == nil {
				want = c.pairs[len(c.pairs)-1]
			}
			state := handshake(t, s, c.client)
			if len(state.PeerCertificates) > 0 && !state.PeerCertificates[0].Equal(want.Leaf) {
				t.Errorf("got a %v certificate, want %v", state.PeerCertificates[0].PublicKeyAlgorithm, want.Leaf.PublicKeyAlgorithm)
			}
		})
	}
}

// TestSwapDuringHandshakes fails when a handshake sees half of one snapshot and half of another: the certificate of one
// with the key of the other does not verify.
func TestSwapDuringHandshakes(t *testing.T) {
	const clients, perClient = 4, 60
	var pairs []*tls.Certificate
	roots := x509.NewCertPool()
	for range 8 {
		pair := pairFor(t, "www.test", "*.wild.test")
		pairs = append(pairs, pair)
		roots.AddCert(pair.Leaf)
	}
	s := newStore(t, certs.Options{RejectUnknown: true})
	publish := func(i int) {
		s.Publish([]*router.Certificate{cert(fmt.Sprint("s", i%3), pairs[i%len(pairs)], "www.test", "*.wild.test")}, nil)
	}
	publish(0)

	stop := make(chan struct{})
	swaps := make(chan int, 1)
	go func() {
		n := 1
		for ; ; n++ {
			select {
			case <-stop:
				swaps <- n
				return
			default:
				publish(n)
				// A swap each 100 µs at most, so that handshakes get the processor too.
				time.Sleep(100 * time.Microsecond)
			}
		}
	}()
	var wait sync.WaitGroup
	for client := range clients {
		wait.Go(func() {
			for i := range perClient {
				name := "www.test"
				if i%2 == 1 {
					name = fmt.Sprintf("h%d.wild.test", client)
				}
				state := handshake(t, s, &tls.Config{ServerName: name})
				if len(state.PeerCertificates) == 0 {
					return
				}
				if _, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	close(stop)
	if n := <-swaps; n < 100 {
		t.Errorf("only %d swaps during %d handshakes: the test shows nothing", n, clients*perClient)
	}
}

func TestGetCertificateAllocatesNothing(t *testing.T) {
	s := newStore(t, certs.Options{})
	s.Publish([]*router.Certificate{cert("a", pairFor(t, "www.a.test"), "www.a.test", "*.b.test")}, nil)
	for _, name := range []string{"www.a.test", "WWW.A.TEST.", "x.b.test", "X.B.test", "unknown.test", ""} {
		hello := &tls.ClientHelloInfo{ServerName: name}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := s.GetCertificate(hello); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%q: %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkGetCertificate(b *testing.B) {
	s := newStore(b, certs.Options{})
	pair := pairFor(b, "x.test")
	var list []*router.Certificate
	for i := range 10_000 {
		list = append(list, cert(fmt.Sprint("s", i), pair, fmt.Sprintf("www.h%d.test", i), fmt.Sprintf("*.w%d.test", i)))
	}
	s.Publish(list, nil)
	for _, c := range []struct{ name, host string }{
		{"exact", "www.h5000.test"}, {"upper", "WWW.H5000.TEST"}, {"wildcard", "x.w5000.test"}, {"unknown", "a.b.c.test"},
	} {
		b.Run(c.name, func(b *testing.B) {
			hello := &tls.ClientHelloInfo{ServerName: c.host}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.GetCertificate(hello); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
