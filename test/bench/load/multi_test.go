package load

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/test/bench/backend"
	"podlane.dev/podlane/test/bench/secure"
)

// listenTLS returns a listener with a certificate for one protocol.
func listenTLS(t *testing.T, protocol string) (net.Listener, netip.AddrPort) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a"}}
	der, err := x509.CreateCertificate(rand.Reader, from, from, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{protocol},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, netip.MustParseAddrPort(l.Addr().String())
}

// withTLS returns the address of a TLS server on goroutines, which serves connections with serve.
func withTLS(t *testing.T, protocol string, serve func(c net.Conn)) netip.AddrPort {
	t.Helper()
	l, at := listenTLS(t, protocol)
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	return at
}

// withHTTP2 returns the address of net/http's server in HTTP/2, which answers as the backend does small requests.
func withHTTP2(t *testing.T, streams int, before func(w http.ResponseWriter, q *http.Request)) netip.AddrPort {
	t.Helper()
	l, at := listenTLS(t, "h2")
	server := &http.Server{
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streams},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			id, ok := strings.CutPrefix(q.RequestURI, backend.Small)
			if !ok || q.ProtoMajor != 2 {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			before(w, q)
			_, _ = io.WriteString(w, id+strings.Repeat("x", backend.SmallSize-len(id)))
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return at
}

// secured is a plan over TLS.
func secured(t *testing.T, at netip.AddrPort, protocol string) Plan {
	t.Helper()
	p := plan(at)
	var err error
	if p.Secure, err = secure.NewClient("a", protocol); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOverTLS: HTTP/1.1 over TLS, on kept connections and on one for each request, also idle ones.
func TestOverTLS(t *testing.T) {
	l := start(t)
	at := withTLS(t, "http/1.1", func(c net.Conn) {
		for {
			id, err := readHead(c)
			if err != nil {
				return
			}
			if _, err := io.WriteString(c, good(id)); err != nil {
				return
			}
		}
	})
	p := secured(t, at, "http/1.1")
	p.Connections = 5
	r, err := Run(t.Context(), l, p)
	if err != nil || r.Answers < 10 || r.Errors.Sum() != 0 {
		t.Errorf("%d answers, %+v, %v", r.Answers, r.Errors, err)
	}
	if r, err = Hold(t.Context(), l, p); err != nil || r.Answers != 5 || r.Total != 10 || r.Errors.Sum() != 0 {
		t.Errorf("idle: %d answers of %d, %+v, %v", r.Answers, r.Total, r.Errors, err)
	}
	closing := withTLS(t, "http/1.1", func(c net.Conn) {
		if id, err := readHead(c); err == nil {
			_, _ = io.WriteString(c, strings.Replace(good(id), "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
		}
	})
	p = secured(t, closing, "http/1.1")
	p.Fresh, p.Connections = true, 3
	if r, err = Run(t.Context(), l, p); err != nil || r.Answers < 5 || r.Errors.Sum() != 0 {
		t.Errorf("fresh: %d answers, %+v, %v", r.Answers, r.Errors, err)
	}
}

// TestNoTLS: a server that speaks no TLS is an error of connecting.
func TestNoTLS(t *testing.T) {
	l := start(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.Close()
		}
	}()
	r, err := Run(t.Context(), l, secured(t, netip.MustParseAddrPort(listener.Addr().String()), "http/1.1"))
	if err == nil || r.Errors.Connect == 0 {
		t.Errorf("Run = %+v, %v", r.Errors, err)
	}
}

// TestMulti: net/http's server has all requests at a time, each with the fields of the message, and every answer is its own.
func TestMulti(t *testing.T) {
	l := start(t)
	for name, streams := range map[string]int{"plain": 250, "few streams": 16} {
		t.Run(name, func(t *testing.T) {
			p := secured(t, withHTTP2(t, streams, func(w http.ResponseWriter, q *http.Request) {
				if q.Host != "a" || q.Header.Get("User-Agent") != "bench/1" {
					w.WriteHeader(http.StatusBadRequest)
				}
			}), "h2")
			p.Connections, p.Streams, p.Warmup = 3, 16, 20*time.Millisecond
			p.Message.Head = []byte("GET " + backend.Small + ID + " HTTP/1.1\r\nHost: a\r\nUser-Agent: bench/1\r\n\r\n")
			r, err := Run(t.Context(), l, p)
			if err != nil || r.Answers < 100 || r.Total <= r.Answers || r.Errors.Sum() != 0 {
				t.Errorf("%d answers of %d, %+v, %v", r.Answers, r.Total, r.Errors, err)
			}
			if n := r.Latency.Count(); n < r.Answers-48 || n > r.Answers+48 {
				t.Errorf("%d latencies of %d answers", n, r.Answers)
			}
		})
	}
	t.Run("too few", func(t *testing.T) {
		p := secured(t, withHTTP2(t, 15, func(http.ResponseWriter, *http.Request) {}), "h2")
		p.Streams = 16
		if r, err := Run(t.Context(), l, p); err == nil && r.Errors.Sum() == 0 {
			t.Errorf("%d answers of a server that allows less", r.Answers)
		}
	})
}

// scripted is a server of HTTP/2 that answers what a test says.
func scripted(t *testing.T, answer func(fr *http2.Framer, stream uint32, n int) error) netip.AddrPort {
	t.Helper()
	return withTLS(t, "h2", func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		fr := http2.NewFramer(c, c)
		if err := fr.WriteSettings(); err != nil {
			return
		}
		for n := 0; ; {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := f.(*http2.HeadersFrame); ok {
				if err := answer(fr, h.StreamID, n); err != nil {
					return
				}
				n++
			}
		}
	})
}

// headOf is the head of an answer.
func headOf(status, length string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	_ = e.WriteField(hpack.HeaderField{Name: ":status", Value: status})
	_ = e.WriteField(hpack.HeaderField{Name: "content-length", Value: length})
	return b.Bytes()
}

// TestMultiErrors: what is wrong with an answer, or with the connection, is counted as what it is, and the load goes on.
func TestMultiErrors(t *testing.T) {
	// Requests are counted from 1 on a connection, in the order in which they are sent: their ids are known.
	right := func(fr *http2.Framer, stream uint32, id int) error {
		head := headOf("200", "128")
		if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head, EndHeaders: true}); err != nil {
			return err
		}
		body := fmt.Sprintf("%08x%s", id, strings.Repeat("x", 120))
		return fr.WriteData(stream, true, []byte(body))
	}
	for _, c := range []struct {
		name  string
		wrong func(fr *http2.Framer, stream uint32) error
		count func(e Errors) uint64
	}{
		{"status", func(fr *http2.Framer, stream uint32) error {
			return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: headOf("503", "128"), EndHeaders: true, EndStream: true})
		}, func(e Errors) uint64 { return e.Status }},
		{"length", func(fr *http2.Framer, stream uint32) error {
			return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: headOf("200", "5"), EndHeaders: true, EndStream: true})
		}, func(e Errors) uint64 { return e.Length }},
		{"no body", func(fr *http2.Framer, stream uint32) error {
			return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: headOf("200", "128"), EndHeaders: true, EndStream: true})
		}, func(e Errors) uint64 { return e.Length }},
		{"another's", func(fr *http2.Framer, stream uint32) error { return right(fr, stream, 1<<30) }, func(e Errors) uint64 { return e.Mixed }},
		{"reset", func(fr *http2.Framer, stream uint32) error {
			return fr.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		}, func(e Errors) uint64 { return e.Closed }},
		{"calm", func(fr *http2.Framer, stream uint32) error {
			return errors.Join(fr.WriteGoAway(stream, http2.ErrCodeEnhanceYourCalm, nil), io.EOF)
		}, func(e Errors) uint64 { return e.Closed }},
		{"end", func(*http2.Framer, uint32) error { return io.EOF }, func(e Errors) uint64 { return e.Closed }},
		{"garbage", func(fr *http2.Framer, _ uint32) error {
			return fr.WriteRawFrame(http2.FrameContinuation, 0, 1, nil)
		}, func(e Errors) uint64 { return e.Length }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := start(t)
			id := 0
			at := scripted(t, func(fr *http2.Framer, stream uint32, _ int) error {
				if id++; id == 5 {
					return c.wrong(fr, stream)
				}
				return right(fr, stream, id)
			})
			p := secured(t, at, "h2")
			p.Streams = 1 // so that ids come in their order
			r, err := Run(t.Context(), l, p)
			if err != nil || c.count(r.Errors) != 1 || r.Errors.Sum() != 1 || r.Total < 10 {
				t.Errorf("%d answers, %+v, %v; want one error of its kind", r.Total, r.Errors, err)
			}
		})
	}
}

// TestGoAway: a connection that the proxy ends in order costs no request: what it has not begun is asked on the next one.
func TestGoAway(t *testing.T) {
	l := start(t)
	var asked atomic.Int64
	at := withHTTP2(t, 100, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%20 == 0 {
			w.Header().Set("Connection", "close") // net/http's server then says GOAWAY
		}
	})
	p := secured(t, at, "h2")
	p.Streams, p.Connections = 8, 2
	r, err := Run(t.Context(), l, p)
	if err != nil || r.Total < 60 || r.Errors.Sum() != 0 {
		t.Errorf("%d answers, %+v, %v", r.Total, r.Errors, err)
	}
}

// TestBlock: the second block of a connection refers to the first, and both say the same.
func TestBlock(t *testing.T) {
	t.Parallel()
	m := get(backend.Small, backend.SmallSize)
	m.Head = []byte("GET " + backend.Small + ID + " HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nX-Y: z\r\n\r\n")
	b, err := newBlock(&m)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	d := hpack.NewDecoder(4096, func(f hpack.HeaderField) { got = append(got, f.Name+" "+f.Value) })
	want := ":method GET|:scheme https|:authority a|:path " + backend.Small + ID + "|accept */*|x-y z"
	for _, text := range [][]byte{b.first, b.other} {
		got = nil
		if _, err := d.Write(text); err != nil || d.Close() != nil || strings.Join(got, "|") != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if len(b.other) >= len(b.first) {
		t.Errorf("%d bytes, and then %d", len(b.first), len(b.other))
	}
	for _, wrong := range []Message{post(1), webSocket(2), {Head: []byte("GET / HTTP/1.1\r\n\r\n")}, {Head: []byte("x")}} {
		if _, err := newBlock(&wrong); !errors.Is(err, errMessage) {
			t.Errorf("%q: %v", wrong.Head, err)
		}
	}
}
