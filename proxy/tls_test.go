package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

func TestRequestsOverTLS(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%s %d", q.Header.Get("X-Forwarded-Proto"), len(b))
	})
	r := newRig(t, proxy.Options{})
	r.route("a.test", pod)
	store, err := certs.NewStore(certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := server.NewConfig(store, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := server.NewHandshaker(server.HandshakerOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- r.engine.Serve(&proxy.Listener{Listener: l, Handshake: func(c net.Conn) (*tls.Conn, error) {
			tc := h.Server(c, config)
			return tc, h.Handshake(t.Context(), tc)
		}})
	}()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		},
	}}
	defer client.CloseIdleConnections()
	for _, size := range []int{0, 10, 20_000, 300_000} {
		for range 3 {
			res, err := client.Post("https://a.test/", "", io.LimitReader(zeros{}, int64(size)))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if want := fmt.Sprint("https ", size); string(b) != want || err != nil {
				t.Errorf("got %q %v, want %q", b, err, want)
			}
		}
	}
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
