package http2_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/http2"
)

// transport is x/net's client over cleartext.
func transport(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestGoClient: Go's own client, many requests at a time, with bodies and trailers both ways.
func TestGoClient(t *testing.T) {
	t.Parallel()
	v := newServer(t, http2.Options{}, echo)
	addr := v.listen(t)
	client := transport(t)
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			for j := range 10 {
				body := bytes.Repeat([]byte{byte('a' + j)}, i*j*300)
				req, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("http://%s/%d", addr, i), io.NopCloser(bytes.NewReader(body)))
				if err != nil {
					t.Error(err)
					return
				}
				req.Trailer = http.Header{"X-Sum": []string{fmt.Sprint(len(body))}}
				res, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || !bytes.Equal(got, body) || res.Trailer.Get("X-Sum") != fmt.Sprint(len(body)) {
					t.Errorf("%d bytes of %d, trailers %v, %v", len(got), len(body), res.Trailer, err)
				}
			}
		})
	}
	all.Wait()
}

// TestGoClientUploadsAndCancels: a large upload is whole, and a request that is given up does no harm.
func TestGoClientUploadsAndCancels(t *testing.T) {
	t.Parallel()
	addr := newServer(t, http2.Options{}, echo).listen(t)
	client := transport(t)
	const size = 3 << 20
	ctx, cancel := context.WithCancel(t.Context())
	stuck, err := http.NewRequestWithContext(ctx, "POST", "http://"+addr+"/", neverEnding{})
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if res, err := client.Do(stuck); err == nil {
			res.Body.Close()
			t.Error("answered")
		}
	}()
	body := strings.Repeat("0123456789abcdef", size/16)
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(got) != body {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	cancel()
	<-stopped
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return copy(p, "never "), nil }

func TestCurl(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl")
	}
	addr := newServer(t, http2.Options{}, echo).listen(t)
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), curl, append([]string{"-sS", "--max-time", "20", "--http2-prior-knowledge"}, args...)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			if strings.Contains(stderr.String(), "not support") {
				t.Skip("curl without HTTP/2")
			}
			t.Fatalf("%v: %s", err, &stderr)
		}
		return string(out)
	}
	url := "http://" + addr + "/a?b"
	if got := run("-i", url); !strings.HasPrefix(got, "HTTP/2 200") || !strings.Contains(got, "echo-target: /a?b") {
		t.Errorf("%q", got)
	}
	if got := run("-d", "body", url); got != "body" {
		t.Errorf("%q", got)
	}
	if got := run("-I", url); !strings.HasPrefix(got, "HTTP/2 200") {
		t.Errorf("%q", got)
	}
	if got := run("-T", "-", "-H", "Expect: 100-continue", url); got != "" {
		t.Errorf("%q", got)
	}
}

// TestOverTLS: the codec on a connection that is no socket.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	v := newServer(t, http2.Options{}, echo)
	c := newRaw(t, secureOpener(t, v)())
	id := c.open(post...)
	body := bytes.Repeat([]byte("x"), 16<<10)
	for range 3 {
		c.do(c.fr.WriteData(id, false, body))
	}
	c.do(c.fr.WriteData(id, true, nil))
	if _, got, _ := c.answer(id); len(got) != 48<<10 {
		t.Errorf("%d bytes", len(got))
	}
}

// TestPriorKnowledge: bytes that were read to find out which protocol it is are not lost.
func TestPriorKnowledge(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 24, 30, 60, 40_000} {
		a, b := pair(t)
		v := newServer(t, http2.Options{}, echo)
		c := newSilent(t, a)
		var all bytes.Buffer
		all.WriteString(xhttp2.ClientPreface)
		fr := xhttp2.NewFramer(&all, nil)
		c.do(fr.WriteSettings())
		c.do(fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(post...), EndHeaders: true}))
		for range 3 {
			c.do(fr.WriteData(1, false, make([]byte, 16<<10)))
		}
		c.do(fr.WriteData(1, true, nil))
		first := all.Next(n)
		v.serveFrom(b, bytes.Clone(first))
		if _, err := a.Write(all.Bytes()); err != nil {
			t.Fatal(err)
		}
		if _, body, _ := c.answer(1); len(body) != 48<<10 {
			t.Errorf("first %d: %d bytes", n, len(body))
		}
	}
}

// goServer is x/net's server over cleartext. It echoes bodies as they come, with a trailer.
func goServer(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	srv.Protocols.SetUnencryptedHTTP2(true)
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Down")
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		buf := make([]byte, 8<<10)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("X-Down", "1")
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return l.Addr().String()
}
