package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"podlane.dev/podlane/router"
)

// Hello is what a client says at the beginning of a handshake. The zero value of a field means what is beside it.
type Hello struct {
	ServerName string
	// MaxVersion is TLS 1.3; lower ones are spoken too.
	MaxVersion uint16
	// CipherSuites are those of TLS 1.2 and below: all that can be offered, as in clients that are not picky.
	CipherSuites []uint16
	// Protocols are those of ALPN: none.
	Protocols []string
}

// rehearsalLimit bounds a handshake in memory, which computes and waits for nobody.
const rehearsalLimit = 10 * time.Second

// Rehearse makes a handshake with config, which NewConfig returned, in memory: nobody is connected, no limit counts it, and no certificate of the client's
// is shown. It returns what the two agreed on. The error is a *HandshakeError, with what the server says about it.
func Rehearse(ctx context.Context, config *tls.Config, h *Hello) (tls.ConnectionState, error) {
	client := &tls.Config{
		ServerName: h.ServerName, MinVersion: tls.VersionTLS10, MaxVersion: h.MaxVersion, CipherSuites: h.CipherSuites, NextProtos: h.Protocols,
		InsecureSkipVerify: true, //nolint:gosec // it is asked what is served, not whether it is trusted
	}
	if client.CipherSuites == nil {
		for _, s := range offered() {
			client.CipherSuites = append(client.CipherSuites, s.ID)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, rehearsalLimit)
	defer cancel()
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c := tls.Client(far, client)
		if c.HandshakeContext(ctx) == nil {
			_, _ = c.Read(make([]byte, 1)) // tickets come behind the handshake of TLS 1.3, and a pipe has no room
		}
		_ = far.Close()
	}()
	var n notes
	c := tls.Server(near, config)
	err := c.HandshakeContext(context.WithValue(ctx, notesKey{}, &n))
	_ = near.Close()
	<-ended
	if err != nil {
		return tls.ConnectionState{}, &HandshakeError{Reason: failureOf(err, &n), Err: err}
	}
	return c.ConnectionState(), nil
}

// Present returns the Credentials of a client that shows a chain, its own certificate first, where it is asked for one under p, without a handshake: that the
// client has the key is taken for granted. An empty chain is a client that shows nothing.
func Present(p *router.TLSPolicy, chain []*x509.Certificate) *Credentials {
	c := &Credentials{policy: p}
	c.settle(chain)
	return c
}
