package http2_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

// opener returns a function that connects to v.
func opener(t *testing.T, v *server) func() net.Conn {
	t.Helper()
	return func() net.Conn {
		a, b := pair(t)
		v.serve(b)
		return a
	}
}

// secureOpener is opener over TLS.
func secureOpener(t *testing.T, v *server) func() net.Conn {
	t.Helper()
	serverTLS, clientTLS := tlsConfigs(t)
	return func() net.Conn {
		a, b := pair(t)
		s, c := tls.Server(b, serverTLS), tls.Client(a, clientTLS)
		done := make(chan error, 1)
		go func() { done <- s.Handshake() }()
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		v.serve(s)
		return c
	}
}

func tlsConfigs(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"}},
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, ServerName: "a.test"}
}
