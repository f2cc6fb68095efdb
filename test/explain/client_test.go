package explain_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/server"
)

// hello is what a client says in its handshake. The zero value is a client of today.
type hello struct {
	// shows is the certificate, "" for none.
	shows   string
	highest uint16
	cipher  uint16
}

// newHello returns a client at random: most are of today.
func newHello(d dice) hello {
	var h hello
	if d.one(2) {
		h.shows = pick(d, []string{"alice", "stranger"})
	}
	if d.one(3) {
		h.highest = pick(d, []uint16{tls.VersionTLS12, tls.VersionTLS12, tls.VersionTLS12, tls.VersionTLS11})
		h.cipher = pick(d, []uint16{0, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384})
	}
	return h
}

func (h hello) suites() []uint16 {
	if h.cipher == 0 {
		return nil
	}
	return []uint16{h.cipher}
}

// protocols are those of ALPN for a version of HTTP.
func protocols(v exchange.Version) []string {
	if v == exchange.HTTP2 {
		return []string{"h2"}
	}
	return []string{"http/1.1"}
}

// shake is what explains the handshake of q.
func (r *rig) shake(q *request) func(string) (proxy.Shaken, error) {
	return func(name string) (proxy.Shaken, error) {
		state, err := server.Rehearse(context.Background(), r.tls, &server.Hello{
			ServerName: name, MaxVersion: q.hello.highest, CipherSuites: q.hello.suites(), Protocols: protocols(q.version),
		})
		return proxy.Shaken{
			Version: state.Version, CipherSuite: state.CipherSuite, Protocol: state.NegotiatedProtocol,
			Credentials: func(p *router.TLSPolicy) exchange.Credentials {
				if shown, ok := r.shown[q.hello.shows]; ok {
					return server.Present(p, []*x509.Certificate{shown.Leaf})
				}
				return server.Present(p, nil)
			},
		}, err
	}
}

// secured makes the handshake of q over c.
func (r *rig) secured(c net.Conn, q *request) (net.Conn, error) {
	config := &tls.Config{
		ServerName: q.serverName, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, //nolint:gosec // any certificate and version will do
		MaxVersion: q.hello.highest, CipherSuites: q.hello.suites(), NextProtos: protocols(q.version),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			shown := r.shown[q.hello.shows] // the zero value shows nothing
			return &shown, nil
		},
	}
	secure := tls.Client(c, config)
	return secure, secure.Handshake()
}

// newShown returns what clients show: alice is of the authority's, and the stranger of nobody's.
func newShown(t testing.TB, m material) map[string]tls.Certificate {
	t.Helper()
	authority, err := tls.X509KeyPair(m.cert, m.key)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]tls.Certificate{}
	for name, signer := range map[string]*tls.Certificate{"alice": &authority, "stranger": nil} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		parent, with := template, any(key)
		if signer != nil {
			parent, with = signer.Leaf, signer.PrivateKey
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, with)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		shown[name] = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	}
	return shown
}

// streams are the requests of a connection of HTTP/2, one after the other.
type streams struct {
	framer *http2.Framer
	next   uint32
}

// newStreams begins a connection.
func newStreams(c io.ReadWriter) (*streams, error) {
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return nil, err
	}
	s := &streams{framer: http2.NewFramer(c, c), next: 1}
	s.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return s, s.framer.WriteSettings()
}

// block is the request as HTTP/2 writes it.
func (q *request) block() []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	write := func(name, value string) { _ = e.WriteField(hpack.HeaderField{Name: name, Value: value}) } // a Buffer never fails
	write(":method", q.method)
	write(":scheme", q.scheme)
	write(":authority", q.host)
	write(":path", q.target)
	for _, f := range q.fields {
		write(strings.ToLower(f.Name), f.Value)
	}
	return b.Bytes()
}

// send sends q, and returns its answer: one with status 0 where its stream was reset.
func (s *streams) send(q *request) (*http.Response, error) {
	id := s.next
	s.next += 2
	open := q.grpc || q.body != ""
	err := s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: q.block(), EndHeaders: true, EndStream: !open})
	if err == nil && open {
		err = s.framer.WriteData(id, true, []byte(q.body))
	}
	res := &http.Response{Header: http.Header{}}
	for done := false; err == nil && !done; {
		var f http2.Frame
		if f, err = s.framer.ReadFrame(); err == nil {
			done, err = s.take(f, id, res)
		}
	}
	return res, err
}

// take takes in a frame, and reports whether it is the last of the stream.
func (s *streams) take(f http2.Frame, id uint32, res *http.Response) (done bool, err error) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return false, s.framer.WriteSettingsAck()
		}
	case *http2.GoAwayFrame:
		res.Close = true
		return f.LastStreamID < id, nil
	case *http2.RSTStreamFrame:
		if f.StreamID == id && res.StatusCode != 0 {
			return true, nil // the answer came before the request's body
		}
		return f.StreamID == id, nil
	case *http2.DataFrame:
		if n := len(f.Data()); n > 0 {
			err = s.framer.WriteWindowUpdate(0, uint32(n))
		}
		return f.StreamEnded() && f.StreamID == id, err
	case *http2.MetaHeadersFrame:
		return f.StreamEnded() && f.StreamID == id, readHead(f, res)
	}
	return false, nil
}

// readHead takes in a header section of an answer.
func readHead(f *http2.MetaHeadersFrame, res *http.Response) error {
	for _, field := range f.Fields {
		switch {
		case field.Name == ":status":
			status, err := strconv.Atoi(field.Value)
			if err != nil {
				return fmt.Errorf("status %q: %w", field.Value, err)
			}
			res.StatusCode, res.Header = status, http.Header{}
		case strings.HasPrefix(field.Name, ":"):
			return errors.New("an answer with " + field.Name)
		default:
			res.Header.Add(field.Name, field.Value)
		}
	}
	return nil
}
