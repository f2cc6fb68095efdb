package proxy_test

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/filters"
)

// Compressed events come one by one, over every version of HTTP; an encoder is given back when its client leaves, or its Pod breaks off.
func TestCompressedEventsAreNotHeldBack(t *testing.T) {
	next := make(chan string)
	var serving atomic.Int64
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		serving.Add(1)
		defer serving.Add(-1)
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for {
			select {
			case event := <-next:
				if event == "break" {
					panic(http.ErrAbortHandler)
				}
				fmt.Fprint(w, event)
				w.(http.Flusher).Flush()
			case <-q.Context().Done():
				return
			}
		}
	})
	c, err := bodies.NewCompression(bodies.CompressionSettings{Gzip: &bodies.Coding{Level: 1, Types: []string{"text/event-stream"}}})
	if err != nil {
		t.Fatal(err)
	}
	o := proxy.Options{Policies: []filters.Policy{filtering("gzip", nil, c)}}
	listen := func(t *testing.T, r *rig, client *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		for _, breaks := range []bool{false, true} {
			req, err := http.NewRequest(http.MethodGet, base+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", "gzip")
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			next <- "data: 0\n"
			events, err := gzip.NewReader(res.Body)
			if err != nil || res.Header.Get("Content-Encoding") != "gzip" {
				t.Fatalf("%q %v", res.Header, err)
			}
			lines := bufio.NewReader(events)
			for i := range 20 {
				if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
					t.Fatalf("%d: %q %v", i, line, err)
				}
				next <- fmt.Sprintf("data: %d\n", i+1)
			}
			if breaks {
				next <- "break"
				if rest, err := io.ReadAll(lines); err == nil {
					t.Errorf("what the Pod broke off ends like a whole answer, after %q", rest)
				}
			}
			res.Body.Close()
			waitFor(t, "the encoder", func() bool {
				select {
				case next <- "data: more\n": // that a client has left is seen when something is written to it
				default:
				}
				return c.Active() == 0 && serving.Load() == 0
			})
		}
	}
	t.Run("http1", func(t *testing.T) {
		r := newRig(t, o)
		listen(t, r, r.client, "http://a.test")
	})
	overHTTP2(t, o, listen)
}

// A whole answer of known length leaves compressed, and its connection carries the next.
func TestCompressedAnswers(t *testing.T) {
	text := strings.Repeat("hello, compression ", 5000)
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"a\"\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
	c, err := bodies.NewCompression(bodies.CompressionSettings{Gzip: &bodies.Coding{Level: 1}, Brotli: &bodies.Coding{Level: 4}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, proxy.Options{Policies: []filters.Policy{filtering("gzip", nil, c)}})
	r.route("a.test", pod)
	for range 3 {
		// net/http asks for gzip and decodes it by itself.
		res, got := r.do("GET", "http://a.test/", nil)
		if got != text || !res.Uncompressed || res.Header.Get("ETag") != `W/"a"` || res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%d bytes, decoded %v, %q", len(got), res.Uncompressed, res.Header)
		}
	}
	// HTTP/1.0 cannot be told where a compressed body ends, and gets it as it is.
	raw := exchangeRaw(t, r.addr, "GET / HTTP/1.0\r\nHost: a.test\r\nAccept-Encoding: gzip\r\n\r\n")
	if !strings.HasSuffix(raw, text) || strings.Contains(raw, "Content-Encoding") || !strings.Contains(raw, "Vary: Accept-Encoding") {
		t.Errorf("HTTP/1.0 got %.300q", raw)
	}
	if c.Active() != 0 {
		t.Errorf("%d answers are still being compressed", c.Active())
	}
}
