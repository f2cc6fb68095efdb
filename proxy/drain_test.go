package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// lostAtClose is how many fresh connections one shutdown may lose: the kernel's queue can not be emptied and closed in one step, and
// closing cuts it down to one place. In a cluster nobody connects by then: the drain delay comes first (see test/e2e).
const lostAtClose = 1

// Clients that reconnect lose no request to a shutdown: what was accepted is answered, and a connection is either answered or
// refused, but for the one that may arrive in the very moment in which the listener closes.
func TestShutdownUnderLoadFailsNoRequest(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(2 * time.Millisecond)
		fmt.Fprint(w, "ok")
	})
	for _, keepAlive := range []bool{true, false} {
		t.Run(fmt.Sprint("keep-alive ", keepAlive), func(t *testing.T) {
			r := newRig(t, proxy.Options{})
			r.route("a.test", pod)
			tr := &http.Transport{DisableKeepAlives: !keepAlive, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, r.addr)
			}}
			defer tr.CloseIdleConnections()
			var served, lost atomic.Int64
			var clients sync.WaitGroup
			for range 16 {
				clients.Go(func() {
					for {
						err := getOK(tr)
						if unconnected(err) {
							return
						}
						if errors.Is(err, syscall.ECONNRESET) && lost.Add(1) <= lostAtClose {
							return
						}
						if err != nil {
							t.Errorf("after %d requests: %v", served.Load(), err)
							return
						}
						served.Add(1)
					}
				})
			}
			waitFor(t, "500 requests", func() bool { return served.Load() > 500 })
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := r.engine.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			clients.Wait()
		})
	}
}

// unconnected reports whether err says that no connection was made: the listener was closed before or during the handshake.
func unconnected(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET))
}

func getOK(rt http.RoundTripper) error {
	req, err := http.NewRequest(http.MethodGet, "http://a.test/", nil)
	if err != nil {
		return err
	}
	res, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || string(b) != "ok") {
		err = fmt.Errorf("%d %q", res.StatusCode, b)
	}
	return err
}
