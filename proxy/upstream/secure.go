package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"podlane.dev/podlane/proxy/socket"
	"podlane.dev/podlane/router"
)

// TLS with Pods is a part of connecting to them: a handshake that fails is a connect that failed, and the next Endpoint gets the request.

// maxSessions bounds the sessions that are kept for resumption, for each set of TLS settings.
const maxSessions = 256

// podTLS is what hangs from a router.PodTLS.
type podTLS struct {
	*router.PodTLS
	roots    *x509.CertPool
	sessions tls.ClientSessionCache
}

// podTLSOf returns what hangs from p. Two that are made at the same moment are both good.
func podTLSOf(p *router.PodTLS) *podTLS {
	if t, ok := p.Attachment().(*podTLS); ok {
		return t
	}
	t := &podTLS{PodTLS: p, roots: x509.NewCertPool(), sessions: tls.NewLRUClientSessionCache(maxSessions)}
	for _, c := range p.Authorities {
		t.roots.AddCert(c)
	}
	p.Attach(t)
	return t
}

// untrusted is a certificate that does not pass.
type untrusted struct{ error }

// Unwrap returns what is wrong with it.
func (u untrusted) Unwrap() error { return u.error }

// errNoHTTP2 says that a Pod speaks TLS, and not HTTP/2 over it.
var errNoHTTP2 = errors.New("the pod did not choose h2 in the handshake (ALPN)")

// errTruncated is the end of a connection that its Pod has not announced in TLS: an answer that ends with it may be cut short.
var errTruncated = errors.New("the connection ended without close_notify")

// secure does the handshake on a socket. On error the socket is still the caller's.
func (e *Endpoint) secure(ctx context.Context, nc net.Conn, profile *Profile) (net.Conn, error) {
	carrier := nc
	under := socket.New(nc)
	if under != nil {
		under.End = errTruncated
		carrier = under
	}
	tc := tls.Client(carrier, podTLSOf(profile.TLS).config(e, profile))
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if profile.Protocol == HTTP2 && tc.ConnectionState().NegotiatedProtocol != "h2" {
		return nil, errNoHTTP2
	}
	return socket.NewTLS(tc, under), nil
}

// config returns the settings of one handshake.
func (t *podTLS) config(e *Endpoint, profile *Profile) *tls.Config {
	c := &tls.Config{
		MinVersion: t.Lowest, MaxVersion: t.Highest, CipherSuites: t.Ciphers,
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: podSessions{t.sessions, e.id.addr.String() + " " + e.id.uid + " "},
		// Where it is asked for, VerifyConnection does it, resumed sessions included: crypto/tls by itself would insist on sending the name.
		InsecureSkipVerify: true,
	}
	if profile.Protocol == HTTP2 {
		c.NextProtos[0] = "h2"
	}
	if t.SendName {
		c.ServerName = profile.ServerName
	}
	if t.Certificate != nil {
		// Whatever authorities the Pod names: it asked, and it judges.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.Certificate, nil }
	}
	if t.Verify {
		name := profile.ServerName
		c.VerifyConnection = func(s tls.ConnectionState) error { return t.verify(s.PeerCertificates, name) }
	}
	return c
}

// verify says what is wrong with what a Pod has shown.
func (t *podTLS) verify(shown []*x509.Certificate, name string) error {
	if len(shown) == 0 {
		return untrusted{errors.New("no certificate")}
	}
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	chains, err := shown[0].Verify(x509.VerifyOptions{
		Roots: t.roots, Intermediates: between, DNSName: name, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return untrusted{err}
	}
	for _, chain := range chains {
		if len(chain)-2 <= t.Depth { // neither the first nor the last is in between
			return nil
		}
	}
	return untrusted{fmt.Errorf("certificate chain longer than the %d in between that are allowed", t.Depth)}
}

// podSessions are the sessions with one Pod. Pods of one name have ticket keys of their own, and none is offered another's.
type podSessions struct {
	all tls.ClientSessionCache
	pod string
}

// Get implements tls.ClientSessionCache.
func (s podSessions) Get(key string) (*tls.ClientSessionState, bool) { return s.all.Get(s.pod + key) }

// Put implements tls.ClientSessionCache.
func (s podSessions) Put(key string, state *tls.ClientSessionState) { s.all.Put(s.pod+key, state) }
