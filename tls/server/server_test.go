package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// storeFor returns a store with an ECDSA and an RSA certificate for a.test.
func storeFor(t testing.TB, o certs.Options) *certs.Store {
	t.Helper()
	store, err := certs.NewStore(o)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{"a.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
	publish := func(secret string, public, private any) *router.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
		if err != nil {
			t.Fatal(err)
		}
		return &router.Certificate{Hosts: []string{"a.test"}, Namespace: "ns", Secret: secret, Owner: "ns/i",
			KeyPair: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}}
	}
	store.Publish([]*router.Certificate{publish("ec", ec.Public(), ec), publish("rsa", rsa.Public(), rsa)}, nil)
	return store
}

func newConfig(t testing.TB, store *certs.Store, o server.Options) *tls.Config {
	t.Helper()
	config, err := server.NewConfig(store, o)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// client returns the tls.Config of a client of a.test that takes any certificate.
func client(change func(*tls.Config)) *tls.Config {
	config := &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	if change != nil {
		change(config)
	}
	return config
}

// tcpPipe returns the two ends of a loopback connection. net.Pipe has no buffer: where both sides write, as in a TLS 1.3
// handshake with a second ClientHello, it blocks both.
func tcpPipe(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// connect runs one handshake by h over loopback. The client reads a byte afterwards, so that it has seen session tickets.
func connect(t testing.TB, h *server.Handshaker, ours, theirs *tls.Config) (tls.ConnectionState, error, error) {
	t.Helper()
	near, far := tcpPipe(t)
	defer near.Close()
	c := tls.Client(far, theirs)
	clientErr := make(chan error, 1)
	go func() {
		defer far.Close()
		err := c.Handshake()
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		clientErr <- err
	}()
	s := h.Server(near, ours)
	err := h.Handshake(t.Context(), s)
	if err == nil {
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
	} else {
		near.Close()
	}
	return s.ConnectionState(), err, <-clientErr
}
