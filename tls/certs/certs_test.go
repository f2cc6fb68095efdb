package certs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
)

// rsaKey is shared: making one takes longer than all else in these tests.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// pairFor makes a self-signed key pair for names that is valid for 1,000 hours of the test's clock.
func pairFor(t testing.TB, names ...string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signed(t, key, time.Now().Add(1000*time.Hour), names)
}

func signed(t testing.TB, key crypto.Signer, notAfter time.Time, names []string) *tls.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "ignored.example"},
		DNSNames:     names,
		NotBefore:    notAfter.Add(-2000 * time.Hour),
		NotAfter:     notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// cert is a certificate of Ingress ns/owner and Secret ns/secret.
func cert(secret string, pair *tls.Certificate, hosts ...string) *router.Certificate {
	return &router.Certificate{Hosts: hosts, Namespace: "ns", Secret: secret, Owner: "ns/owner", KeyPair: pair}
}

func newStore(t testing.TB, o certs.Options) *certs.Store {
	t.Helper()
	if o.Default == nil {
		o.Default = pairFor(t, "default.test")
	}
	s, err := certs.NewStore(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// served returns the certificate that s has for a server name.
func served(t testing.TB, s *certs.Store, name string) *tls.Certificate {
	t.Helper()
	got, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		t.Fatalf("GetCertificate(%q): %v", name, err)
	}
	return got
}

// handshake makes a connection from a client with config to s and returns what the client saw.
func handshake(t testing.TB, s *certs.Store, config *tls.Config) tls.ConnectionState {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	server := tls.Server(ours, &tls.Config{GetCertificate: s.GetCertificate, SessionTicketsDisabled: true})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	config = config.Clone()
	config.InsecureSkipVerify = true // which certificate it is, is what the tests compare
	client := tls.Client(theirs, config)
	if err := client.Handshake(); err != nil {
		t.Errorf("client: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("server: %v", err)
	}
	return client.ConnectionState()
}
