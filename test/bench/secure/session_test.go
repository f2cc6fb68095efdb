package secure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// certificateOf returns a certificate of the kind that is asked for.
func certificateOf(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a.test"}}
	der, err := x509.CreateCertificate(rand.Reader, from, from, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// peer is a session with crypto/tls behind a pipe.
type peer struct {
	t  *testing.T
	s  *Session
	nc net.Conn
	// step is how many bytes of what comes are taken at a time.
	step int
}

// dial returns a session with a server that sends back what it gets.
func dial(t *testing.T, config *tls.Config, step int) *peer {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer b.Close()
		server := tls.Server(b, config)
		_, _ = io.Copy(server, server)
		_ = server.Close()
	}()
	t.Cleanup(func() {
		a.Close()
		<-done
	})
	c, err := NewClient("a.test", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, s: c.Session(), nc: a, step: step}
}

// read takes what comes next.
func (p *peer) read() ([]byte, error) {
	in := make([]byte, p.step)
	n, err := p.nc.Read(in)
	if err != nil {
		return nil, err
	}
	return p.s.Take(in[:n])
}

// up makes the handshake.
func (p *peer) up() error {
	for {
		if f := p.s.Flight(); len(f) > 0 {
			if _, err := p.nc.Write(f); err != nil {
				return err
			}
		}
		if p.s.Up() {
			return nil
		}
		if said, err := p.read(); err != nil || len(said) > 0 {
			return errors.Join(err, errRecord)
		}
	}
}

// TestSession: crypto/tls understands what is sent, and is understood, in any pieces.
func TestSession(t *testing.T) {
	t.Parallel()
	for _, step := range []int{1, 7, 1000, 100_000} {
		var state tls.ConnectionState
		config := &tls.Config{
			Certificates: []tls.Certificate{certificateOf(t)}, NextProtos: []string{"http/1.1"},
			VerifyConnection: func(s tls.ConnectionState) error { state = s; return nil },
		}
		p := dial(t, config, step)
		if err := p.up(); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, 100, maxPlain, 3*maxPlain + 1} {
			head, tail := bytes.Repeat([]byte("h"), size/3), bytes.Repeat([]byte("t"), size-size/3)
			wrote := make(chan error, 1)
			go func() {
				_, err := p.nc.Write(bytes.Clone(p.s.Seal(head, tail)))
				wrote <- err
			}()
			var got []byte
			for len(got) < size {
				said, err := p.read()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, said...)
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, append(head, tail...)) {
				t.Errorf("%d bytes came back otherwise, in steps of %d", size, step)
			}
		}
		if state.Version != tls.VersionTLS13 || state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 || state.CurveID != tls.X25519 ||
			state.NegotiatedProtocol != "http/1.1" || state.ServerName != "a.test" || state.DidResume {
			t.Errorf("%+v", state)
		}
	}
}

// TestRefused: a server that does not do what was asked is an error, and its alert is one.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]*tls.Config{
		"version":  {MaxVersion: tls.VersionTLS12},
		"protocol": {NextProtos: []string{"x"}},
		"curve":    {CurvePreferences: []tls.CurveID{tls.CurveP384}},
		"client":   {ClientAuth: tls.RequireAnyClientCert},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config.Certificates = []tls.Certificate{certificateOf(t)}
			if err := dial(t, config, 1000).up(); !errors.Is(err, errAlert) && !errors.Is(err, errMessage) {
				t.Errorf("up = %v", err)
			}
		})
	}
}

// TestBroken: a changed byte anywhere in what the server sends is an error and no panic.
func TestBroken(t *testing.T) {
	t.Parallel()
	p := dial(t, &tls.Config{Certificates: []tls.Certificate{certificateOf(t)}, NextProtos: []string{"http/1.1"}}, 100_000)
	hello := p.s.Flight()
	if _, err := p.nc.Write(hello); err != nil {
		t.Fatal(err)
	}
	again := func() *Session {
		s := p.s.c.Session()
		s.transcript.Reset()
		s.transcript.Write(hello[recordHead:])
		return s
	}
	var all []byte
	in := make([]byte, 100_000)
	for !p.s.Up() {
		n, err := p.nc.Read(in)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, in[:n]...)
		if _, err := p.s.Take(in[:n]); err != nil {
			t.Fatal(err)
		}
	}
	same := again()
	if _, err := same.Take(bytes.Clone(all)); err != nil || !same.Up() {
		t.Fatalf("what came is not understood again: %v", err)
	}
	matter := 0
	for i := range all {
		changed := bytes.Clone(all)
		changed[i] ^= 0x55
		s := again()
		if _, err := s.Take(changed); err != nil || !s.Up() {
			matter++
		}
	}
	// Of a record in the clear the version does not, nor does what the one without meaning carries.
	if idle := len(all) - matter; idle > 8 {
		t.Errorf("%d of %d bytes do not matter", idle, len(all))
	}
}

// FuzzTake: nothing that a server sends in the clear is a panic.
func FuzzTake(f *testing.F) {
	c, err := NewClient("a.test", "h2")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{recordAlert, 3, 3, 0, 2, 2, 40})
	f.Add(record(recordHandshake, message(serverHello, append(number(version12), make([]byte, 60)...))))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := c.Session()
		if plain, err := s.Take(bytes.Clone(in)); err == nil && len(plain) > 0 {
			t.Errorf("%q said before the handshake", plain)
		}
	})
}

func BenchmarkHandshake(b *testing.B) {
	// What the client alone needs for a handshake is this without the key of the server.
	c, err := NewClient("a.test", "h2")
	if err != nil {
		b.Fatal(err)
	}
	share := c.key.PublicKey().Bytes()
	extensions := append(append(number(extVersions), sized16(number(version13))...),
		append(number(extKeyShare), sized16(append(number(groupX25519), sized16(share)...))...)...)
	body := append(number(version12), make([]byte, randomSize+1)...)
	body = append(append(body, number(suiteAES128GCM)...), 0)
	hello := record(recordHandshake, message(serverHello, append(body, sized16(extensions)...)))
	for b.Loop() {
		s := c.Session()
		if _, err := s.Take(bytes.Clone(hello)); err != nil {
			b.Fatal(err)
		}
	}
}
