package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
)

// An answer of gRPC that its Pod breaks in the middle ends with a status that says so, and not with a stream that is cut.
func TestBrokenGRPCAnswer(t *testing.T) {
	for _, row := range []struct {
		name   string
		status string
		end    func(p *rawPod, id uint32)
	}{
		{"lost", "14", func(p *rawPod, _ uint32) { _ = p.c.Close() }},
		{"internal", "13", func(p *rawPod, id uint32) { _ = p.fr.WriteRSTStream(id, xhttp2.ErrCodeInternal) }},
		{"cancel", "1", func(p *rawPod, id uint32) { _ = p.fr.WriteRSTStream(id, xhttp2.ErrCodeCancel) }},
		{"too much", "8", func(p *rawPod, id uint32) { _ = p.fr.WriteRSTStream(id, xhttp2.ErrCodeEnhanceYourCalm) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
				t.Helper()
				read := make(chan struct{})
				pod := rawPods(t, func(p *rawPod) {
					f := p.next()
					if f == nil {
						return
					}
					p.respond(f.StreamID, "message", false, "content-type", "application/grpc")
					<-read
					row.end(p, f.StreamID)
					p.drain()
				})
				r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, pod)
				res, err := c.Post(base+"/", "application/grpc", bytes.NewReader([]byte("ask")))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				got := make([]byte, len("message"))
				if _, err := io.ReadFull(res.Body, got); err != nil {
					t.Fatal(err)
				}
				close(read)
				if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 || res.Trailer.Get("Grpc-Status") != row.status {
					t.Errorf("%q, %v, trailers %v, want status %s", rest, err, res.Trailer, row.status)
				}
			})
		})
	}
}

// tlsPod is fakePod behind TLS.
func tlsPod(t *testing.T, serve func(raw net.Conn, c *tls.Conn, br *bufio.Reader)) string {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{newPKI(t).leaf("pod", nil)}}
	return fakePod(t, func(_ int, raw net.Conn, _ *bufio.Reader) {
		c := tls.Server(raw, config)
		serve(raw, c, bufio.NewReader(c))
	})
}

// An answer that ends with its connection is whole only if the Pod says so in TLS too: anybody can send a FIN.
func TestTruncatedTLSAnswer(t *testing.T) {
	pod := tlsPod(t, func(raw net.Conn, c *tls.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall there is")
		if q.URL.Path == "/whole" {
			_ = c.Close()
		}
		_ = raw.Close()
	})
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodSecure}, pod)
	if res, body := r.do("GET", "http://a.test/whole", nil); res.StatusCode != 200 || body != "all there is" {
		t.Errorf("%s %q", res.Status, body)
	}
	res, err := r.client.Get("http://a.test/cut")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err == nil && res.StatusCode == 200 {
		t.Errorf("a truncated answer came whole: %q", got)
	}
}

// A connection on which the Pod has said more than its answer is not used again, also where TLS has it and the socket no longer.
func TestUnsolicitedTLSBytes(t *testing.T) {
	pod := tlsPod(t, func(_ net.Conn, c *tls.Conn, br *bufio.Reader) {
		for n := 0; ; n++ {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\nX-N: " + fmt.Sprint(n) + "\r\n\r\n" + string(make([]byte, 20000))
			// What is behind the answer lies in the same record as its end, or in one of its own.
			_, _ = io.WriteString(c, answer+"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-N: 9\r\n\r\nevil")
		}
	})
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodSecure}, pod)
	for range 10 {
		if res, body := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 || len(body) != 20000 || res.Header.Get("X-N") != "0" {
			t.Fatalf("%s, %d bytes, answer %s of its connection", res.Status, len(body), res.Header.Get("X-N"))
		}
	}
}

// Nor is one on which the Pod has said something while it was idle.
func TestUnsolicitedTLSBytesWhileIdle(t *testing.T) {
	idle, said := make(chan struct{}, 1), make(chan struct{}, 1)
	pod := tlsPod(t, func(_ net.Conn, c *tls.Conn, br *bufio.Reader) {
		for n := 0; ; n++ {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-N: %d\r\n\r\nok", n)
			if _, ok := <-idle; !ok {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-N: 9\r\n\r\nevil")
			said <- struct{}{}
		}
	})
	r := newRig(t, proxy.Options{})
	defer close(idle)
	r.routeTo("a.test", router.Backend{Scheme: router.PodSecure}, pod)
	for range 5 {
		if res, body := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 || body != "ok" || res.Header.Get("X-N") != "0" {
			t.Fatalf("%s %q, answer %s of its connection", res.Status, body, res.Header.Get("X-N"))
		}
		waitFor(t, "the connection to be idle", func() bool { return r.engine.Endpoints()[0].Endpoints[0].Idle == 1 })
		idle <- struct{}{}
		<-said
	}
}

// WebSockets pass to Pods over TLS.
func TestUpgradeOverTLSToThePod(t *testing.T) {
	pod := tlsPod(t, func(_ net.Conn, c *tls.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello ")
		_, _ = io.Copy(c, br)
		_ = c.CloseWrite()
	})
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodSecure}, pod)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	fmt.Fprint(c, "world")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(br); err != nil || string(got) != "hello world" {
		t.Errorf("%q, %v", got, err)
	}
}
