package floods_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// patience is how long anything may take that will happen: it only tells a failure from a hang.
const patience = 90 * time.Second

// rig is an engine that serves HTTPS on loopback, and the Pods behind it.
type rig struct {
	t      *testing.T
	engine *proxy.Engine
	addr   string
	// pod is attacked. What it does for an attacker is its own affair, like what the attacker does, so the other client's Pod is another one.
	pod, quiet *pod
}

const host = "a.test"

// newRig starts an engine and its Pods. They end with the test.
func newRig(t *testing.T, o proxy.Options) *rig {
	t.Helper()
	r := &rig{t: t, pod: newPod(t, rolePod), quiet: newPod(t, roleQuiet), engine: proxy.New(o)}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.engine.Serve(&proxy.Listener{Listener: l, Handshake: handshake(t)}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.engine.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	r.publish()
	return r
}

// publish gives the engine its table: the other client asks for "/", and who asks for anything else asks the Pod that is attacked.
func (r *rig) publish() {
	var routes []*router.Route
	ports := map[*pod]router.ServicePort{}
	for p, kind := range map[*pod]router.PathType{r.pod: router.Prefix, r.quiet: router.Exact} {
		ports[p] = router.ServicePort{Namespace: "default", Name: kind.String()}
		routes = append(routes, &router.Route{
			ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: host, Path: "/", Type: kind},
			Backends: []router.Backend{{Service: ports[p], Weight: 1}},
		})
	}
	table := router.NewTable(routes, nil)
	r.engine.Prepare(table)
	for p, port := range ports {
		r.engine.SetAddresses(port.Service(), map[string][]router.Address{"": {{AddrPort: p.addr, UID: port.Name, Ready: true, Serving: true}}})
	}
	r.engine.Publish(table)
}

// handshake is the product's own, with the default certificate.
func handshake(t *testing.T) func(net.Conn) (*tls.Conn, error) {
	t.Helper()
	store, err := certs.NewStore(certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := server.NewConfig(store, server.Options{Protocols: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	h := server.NewHandshaker(server.HandshakerOptions{})
	return func(c net.Conn) (*tls.Conn, error) {
		tc := h.Server(c, config)
		return tc, h.Handshake(context.Background(), tc)
	}
}

// await waits for what must come true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// words are what a test says of a set of codes.
func words(codes map[string]int) string {
	var list []string
	for code, n := range codes {
		list = append(list, fmt.Sprintf("%d × %s", n, code))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
