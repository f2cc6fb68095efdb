package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

func wantFailure(t *testing.T, err error, want server.Failure) {
	t.Helper()
	var failed *server.HandshakeError
	if !errors.As(err, &failed) || failed.Reason != want || failed.Err == nil {
		t.Errorf("got error %v, want reason %s", err, want)
	}
}

// clientHello returns what a client sends first.
func clientHello(t *testing.T) []byte {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		_ = tls.Client(far, client(nil)).Handshake() // ends when the pipe is closed
	}()
	defer near.Close()
	buffer := make([]byte, 16<<10)
	n, err := near.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}

// TestSlowClientsHoldNoSlot is the attack that a limit on whole handshakes would make easy: more clients than slots that
// stop in the middle.
func TestSlowClientsHoldNoSlot(t *testing.T) {
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{})
	hello := clientHello(t)
	for name, sent := range map[string][]byte{
		"silent":              nil,
		"half a record":       hello[:100],
		"half a record head":  hello[:3],
		"all but the ending":  hello, // and never a Finished
		"one byte and silent": hello[:1],
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := server.NewHandshaker(server.HandshakerOptions{Concurrency: 2})
				start := time.Now()
				var stalled sync.WaitGroup
				for range 10 {
					near, far := net.Pipe()
					go func() {
						if len(sent) > 0 {
							_, _ = far.Write(sent)
						}
						_, _ = io.Copy(io.Discard, far)
					}()
					stalled.Go(func() {
						defer near.Close()
						wantFailure(t, h.Handshake(t.Context(), h.Server(near, config)), server.Timeout)
						if took := time.Since(start); took != server.DefaultHandshakeTimeout {
							t.Errorf("given up after %v", took)
						}
					})
				}
				synctest.Wait() // all are stalled
				if err := pipeHandshake(t, h, config); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("an honest client waited %v for them", took)
				}
				stalled.Wait()
			})
		})
	}
}

// pipeHandshake runs one good handshake without a network, as synctest needs it.
func pipeHandshake(t *testing.T, h *server.Handshaker, config *tls.Config) error {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	config = config.Clone()
	config.SessionTicketsDisabled = true // their writes have no reader here
	clientErr := make(chan error, 1)
	go func() { clientErr <- tls.Client(far, client(nil)).Handshake() }()
	err := h.Handshake(t.Context(), h.Server(near, config))
	if err != nil {
		near.Close()
	}
	if clientErr := <-clientErr; err == nil && clientErr != nil {
		t.Error(clientErr)
	}
	return err
}

// TestQueue holds the only slot in the middle of a computation, and looks at what becomes of the others.
func TestQueue(t *testing.T) {
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{})
	synctest.Test(t, func(t *testing.T) {
		h := server.NewHandshaker(server.HandshakerOptions{Concurrency: 1})
		slow := config.Clone()
		signing, free := make(chan struct{}), make(chan struct{})
		getCertificate := slow.GetCertificate
		slow.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			close(signing)
			<-free
			return getCertificate(hello)
		}
		var first sync.WaitGroup
		first.Go(func() {
			if err := pipeHandshake(t, h, slow); err != nil {
				t.Error(err)
			}
		})
		<-signing

		start := time.Now()
		wantFailure(t, pipeHandshake(t, h, config), server.Overload)
		if took := time.Since(start); took != server.DefaultHandshakeQueueTimeout {
			t.Errorf("queued for %v", took)
		}

		// The slot that becomes free in time goes to who waits.
		var second sync.WaitGroup
		second.Go(func() {
			if err := pipeHandshake(t, h, config); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		close(free)
		first.Wait()
		second.Wait()
		// All slots were given back: the only one is free again.
		if err := pipeHandshake(t, h, config); err != nil {
			t.Error(err)
		}
	})
}

func TestQueueEndsWithTheHandshakesTime(t *testing.T) {
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{})
	synctest.Test(t, func(t *testing.T) {
		h := server.NewHandshaker(server.HandshakerOptions{Concurrency: 1, QueueTimeout: time.Minute, Timeout: 3 * time.Second})
		busy, free := config.Clone(), make(chan struct{})
		busy.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			<-free
			return nil, errors.New("over")
		}
		var first sync.WaitGroup
		first.Go(func() { wantFailure(t, pipeHandshake(t, h, busy), server.Protocol) })
		synctest.Wait()
		start := time.Now()
		wantFailure(t, pipeHandshake(t, h, config), server.Timeout)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("queued for %v", took)
		}
		close(free)
		first.Wait()
	})
}

// TestForeignConn: a connection that did not come from Handshaker.Server is limited too, from beginning to end.
func TestForeignConn(t *testing.T) {
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{})
	synctest.Test(t, func(t *testing.T) {
		h := server.NewHandshaker(server.HandshakerOptions{Concurrency: 1})
		near, far := net.Pipe()
		defer far.Close()
		var first sync.WaitGroup
		first.Go(func() {
			wantFailure(t, h.Handshake(t.Context(), tls.Server(near, config)), server.Timeout)
		})
		synctest.Wait()
		near2, far2 := net.Pipe()
		defer far2.Close()
		wantFailure(t, h.Handshake(t.Context(), tls.Server(near2, config)), server.Overload)
		first.Wait()
		if err := pipeHandshake(t, h, config); err != nil {
			t.Error(err)
		}
	})
}

func TestCanceled(t *testing.T) {
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{})
	for name, sent := range map[string][]byte{"before a byte": nil, "in the middle": clientHello(t)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := server.NewHandshaker(server.HandshakerOptions{Concurrency: 1})
				near, far := net.Pipe()
				go func() {
					if len(sent) > 0 {
						_, _ = far.Write(sent)
					}
					_, _ = io.Copy(io.Discard, far)
				}()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				err := h.Handshake(ctx, h.Server(near, config))
				wantFailure(t, err, server.Canceled)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%v does not wrap the cause", err)
				}
				if err := pipeHandshake(t, h, config); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestFailures has each reason that a client can cause.
func TestFailures(t *testing.T) {
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{})
	hello := clientHello(t)
	reset := func(c net.Conn) {
		if err := c.(*net.TCPConn).SetLinger(0); err != nil {
			t.Error(err)
		}
	}
	send := func(text string) func(net.Conn) {
		return func(c net.Conn) { _, _ = c.Write([]byte(text)) }
	}
	for _, c := range []struct {
		story  string
		client func(net.Conn) // closed when it returns
		want   server.Failure
	}{
		{"closed at once", func(net.Conn) {}, server.ClientClosed},
		{"reset at once", reset, server.ClientClosed},
		{"closed in the ClientHello", send(string(hello[:50])), server.ClientClosed},
		{"closed after the ClientHello", send(string(hello)), server.ClientClosed},
		{"HTTP", send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"), server.PlainHTTP},
		{"HTTP POST", send("POST / HTTP/1.1\r\n\r\n"), server.PlainHTTP},
		{"HTTP/2 preface", send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), server.PlainHTTP},
		{"SSH", send("SSH-2.0-OpenSSH_9.9\r\n"), server.NotTLS},
		{"SSLv2", send("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"), server.NotTLS},
		{"rubbish in a record", send("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), server.Protocol},
		{"untrusted", func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{ServerName: "a.test"}).Handshake()
		}, server.ClientAlert},
		{"no version in common", func(c net.Conn) {
			_ = tls.Client(c, client(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })).Handshake()
		}, server.Protocol},
	} {
		t.Run(c.story, func(t *testing.T) {
			near, far := tcpPipe(t)
			var wait sync.WaitGroup
			wait.Go(func() {
				c.client(far)
				far.Close()
			})
			h := server.NewHandshaker(server.HandshakerOptions{})
			wantFailure(t, h.Handshake(t.Context(), h.Server(near, config)), c.want)
			wait.Wait()
		})
	}

	near, _ := tcpPipe(t)
	near.Close()
	h := server.NewHandshaker(server.HandshakerOptions{})
	wantFailure(t, h.Handshake(t.Context(), h.Server(near, config)), server.ClientClosed)
}

func TestFailuresAreClosedSet(t *testing.T) {
	seen := map[server.Failure]bool{}
	for _, f := range server.Failures() {
		if f == "" || seen[f] {
			t.Errorf("%q twice or empty", f)
		}
		seen[f] = true
	}
}

// TestFragmentedClientHello is SECURITY.md B9: whatever the client cuts its ClientHello into, it gets its own host's
// certificate, and is asked for what its host asks for.
func TestFragmentedClientHello(t *testing.T) {
	p := policyOf(router.VerifyOn, trust(nil, issue(t, nil, "root", authority)))
	config := newConfig(t, storeFor(t, certs.Options{RejectUnknown: true}), server.Options{Table: tableWith(nil, map[string]*router.TLSPolicy{"a.test": p})})
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"one byte a segment": func(c net.Conn) net.Conn { return byteWriter{c} },
		"one byte a record":  func(c net.Conn) net.Conn { return &recordSplitter{Conn: c} },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := tcpPipe(t)
			h := server.NewHandshaker(server.HandshakerOptions{Concurrency: 1})
			clientErr := make(chan error, 1)
			go func() {
				clientErr <- tls.Client(wrap(far), client(nil)).Handshake()
			}()
			s := h.Server(near, config)
			if err := h.Handshake(t.Context(), s); err != nil {
				t.Error(err)
				near.Close()
			}
			if err := <-clientErr; err != nil {
				t.Error(err)
			}
			if got := s.ConnectionState().ServerName; got != "a.test" {
				t.Errorf("server name %q", got)
			}
			if got := server.CredentialsOf(s); got == nil || got.Policy() != p {
				t.Errorf("credentials %v", got)
			}
		})
	}
}

// byteWriter sends every byte on its own.
type byteWriter struct{ net.Conn }

func (c byteWriter) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// recordSplitter cuts the first record, the ClientHello, into records of one byte each.
type recordSplitter struct {
	net.Conn
	done bool
}

func (c *recordSplitter) Write(b []byte) (int, error) {
	if c.done {
		return c.Conn.Write(b)
	}
	c.done = true
	var records []byte
	for _, fragment := range b[5:] {
		records = append(records, b[0], b[1], b[2], 0, 1, fragment)
	}
	if _, err := c.Conn.Write(records); err != nil {
		return 0, err
	}
	return len(b), nil
}

// TestAfterHandshake: the connection is an ordinary one, without a deadline.
func TestAfterHandshake(t *testing.T) {
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{Tickets: server.TicketsOff})
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		h := server.NewHandshaker(server.HandshakerOptions{Concurrency: 1})
		theirs := tls.Client(far, client(nil))
		go func() {
			if err := theirs.Handshake(); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Hour)
			if _, err := theirs.Write([]byte("late")); err != nil {
				t.Error(err)
			}
		}()
		ours := h.Server(near, config)
		if err := h.Handshake(t.Context(), ours); err != nil {
			t.Fatal(err)
		}
		if raw := ours.NetConn().(interface{ NetConn() net.Conn }).NetConn(); raw != near {
			t.Errorf("NetConn is %v", raw)
		}
		buffer := make([]byte, 4)
		if n, err := ours.Read(buffer); err != nil || string(buffer[:n]) != "late" {
			t.Errorf("read %q, %v", buffer[:n], err)
		}
		// Its owner's deadlines work.
		if err := ours.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := ours.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read after the deadline: %v", err)
		}
	})
}

// BenchmarkHandshake is a full handshake of both sides over loopback, TLS 1.3, ECDSA P-256.
func BenchmarkHandshake(b *testing.B) {
	config := newConfig(b, storeFor(b, certs.Options{}), server.Options{Tickets: server.TicketsOff})
	h := server.NewHandshaker(server.HandshakerOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for b.Loop() {
		go func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			if err := tls.Client(c, client(nil)).Handshake(); err != nil {
				b.Error(err)
			}
		}()
		c, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Handshake(b.Context(), h.Server(c, config)); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
