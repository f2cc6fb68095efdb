package proxy_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// Shutdown whose context ends cuts a request that waits for a Pod, and does not repeat it on another connection or endpoint.
func TestShutdownCutsRequestOnReusedConnection(t *testing.T) {
	asked := make(chan struct{}, 10)
	pod := backend(t, func(_ http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			asked <- struct{}{}
			<-q.Context().Done()
		}
	})
	r := newRig(t, proxy.Options{})
	r.route("a.test", pod)
	r.do(http.MethodGet, "http://a.test/", nil) // leaves a connection to the Pod
	client := make(chan error, 1)
	go func() {
		res, err := r.client.Get("http://a.test/slow")
		if err == nil {
			err = res.Body.Close()
		}
		client <- err
	}()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.engine.Shutdown(ctx) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("shutdown: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("shutdown waits for the request that it cut")
	}
	if err := <-client; err == nil {
		t.Error("the request that was cut has an answer")
	}
	if len(asked) > 0 {
		t.Error("the request was repeated")
	}
}
