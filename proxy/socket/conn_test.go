package socket_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/socket"
)

// pair returns the two ends of a TCP connection.
func pair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// overTLS returns a client's end and a server's.
func overTLS(t testing.TB) (*tls.Conn, *socket.TLS) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	a, b := pair(t)
	under := socket.New(b)
	server := tls.Server(under, &tls.Config{Certificates: s.TLS.Certificates})
	client := tls.Client(a, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	if err := errors.Join(server.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return client, socket.NewTLS(server, under)
}

func TestTryReadDoesNotWait(t *testing.T) {
	client, server := overTLS(t)
	buf := make([]byte, 64)
	if n := server.TryRead(buf); n != 0 {
		t.Fatalf("%d bytes from nowhere", n)
	}
	for _, text := range []string{"x", "hello", "and again"} {
		if _, err := client.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server, buf[:1]); err != nil {
			t.Fatal(err)
		}
		n := 1 + server.TryRead(buf[1:])
		if string(buf[:n]) != text {
			t.Errorf("%q, want %q", buf[:n], text)
		}
		if n := server.TryRead(buf); n != 0 {
			t.Errorf("%d bytes too many", n)
		}
	}
}

// What TryRead found of a record that has not come whole is not lost.
func TestTryReadOfHalfARecord(t *testing.T) {
	a, b := pair(t)
	under := socket.New(b)
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	halves := &splitter{Conn: a}
	client := tls.Client(halves, &tls.Config{InsecureSkipVerify: true})
	server := tls.Server(under, &tls.Config{Certificates: s.TLS.Certificates})
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	if err := errors.Join(server.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789"), 100)
	halves.rest = make(chan struct{})
	go func() { _, err := client.Write(want); done <- err }()
	c := socket.NewTLS(server, under)
	buf := make([]byte, len(want))
	for range 100 {
		if n := c.TryRead(buf); n != 0 {
			t.Fatalf("%d bytes of half a record", n)
		}
		time.Sleep(time.Millisecond)
	}
	close(halves.rest)
	if _, err := io.ReadFull(c, buf); err != nil || !bytes.Equal(buf, want) {
		t.Errorf("%v %q", err, buf)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// splitter holds the second half of each write back until rest is closed.
type splitter struct {
	net.Conn
	rest chan struct{}
}

func (s *splitter) Write(p []byte) (int, error) {
	if s.rest == nil {
		return s.Conn.Write(p)
	}
	n, err := s.Conn.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	<-s.rest
	m, err := s.Conn.Write(p[n:])
	return n + m, err
}

func TestConn(t *testing.T) {
	a, b := pair(t)
	c := socket.New(b)
	big := bytes.Repeat([]byte("x"), 8<<20)
	go func() { _, _ = a.Write([]byte("hi")); _, _ = io.Copy(io.Discard, a) }()
	buf := make([]byte, 10)
	if n, err := c.Read(buf); string(buf[:n]) != "hi" || err != nil {
		t.Errorf("%q %v", buf[:n], err)
	}
	if n, err := c.Write(big); n != len(big) || err != nil {
		t.Errorf("%d of %d: %v", n, len(big), err)
	}
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	_ = a.(*net.TCPConn).CloseWrite()
	if _, err := c.Read(buf); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if socket.New(&tls.Conn{}) != nil {
		t.Error("a TLS connection is taken for a socket")
	}
}

// What somebody has read before comes first, and waits for nothing; the socket follows.
func TestUnread(t *testing.T) {
	a, b := pair(t)
	c := socket.New(b)
	c.Unread([]byte("before"))
	buf := make([]byte, 4)
	var got []byte
	for len(got) < len("before") {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	if _, err := io.WriteString(a, " behind"); err != nil {
		t.Fatal(err)
	}
	_ = a.(*net.TCPConn).CloseWrite()
	rest, err := io.ReadAll(c)
	if got = append(got, rest...); string(got) != "before behind" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

// A handshake is done with bytes that were read before, however many of them.
func TestUnreadBeforeTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	for _, n := range []int{1, 5, 6, 200} {
		a, b := pair(t)
		client := tls.Client(a, &tls.Config{InsecureSkipVerify: true})
		done := make(chan error, 1)
		go func() { _, err := client.Write([]byte("hello")); done <- err }()
		first := make([]byte, n)
		if _, err := io.ReadFull(b, first); err != nil {
			t.Fatal(err)
		}
		under := socket.New(b)
		under.Unread(first)
		buf := make([]byte, 5)
		if _, err := io.ReadFull(tls.Server(under, &tls.Config{Certificates: s.TLS.Certificates}), buf); string(buf) != "hello" || err != nil {
			t.Errorf("after %d bytes: %q %v", n, buf, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
