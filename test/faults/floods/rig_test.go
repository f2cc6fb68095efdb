package floods_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// patience is how long anything may take that will happen: it only tells a failure from a hang.
const patience = 30 * time.Second

// rig is an engine that serves HTTPS on loopback, and the Pod behind it.
type rig struct {
	t      *testing.T
	engine *proxy.Engine
	addr   string
	pod    pod
}

// pod answers "/" with ok, "/hang" when the proxy gives up, "/N" with so many bytes, and "/cookies" with the count of its cookies.
type pod struct {
	requests, hanging atomic.Int64
	all               http.Server
}

func (p *pod) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	p.requests.Add(1)
	switch path := q.URL.Path[1:]; path {
	case "":
		_, _ = io.WriteString(w, "ok")
	case "hang":
		p.hanging.Add(1)
		defer p.hanging.Add(-1)
		_, _ = io.Copy(io.Discard, q.Body) // net/http looks for the end of the connection behind the body
		<-q.Context().Done()
	case "cookies":
		fmt.Fprintf(w, "%d in %d", len(q.Cookies()), len(q.Header["Cookie"]))
	default:
		size, err := strconv.ParseInt(path, 10, 64)
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", path)
		for err == nil && size > 0 {
			var n int
			n, err = w.Write(zeros[:min(size, int64(len(zeros)))])
			size -= int64(n)
		}
	}
}

// zeros are what bodies are made of: all of the same, so that the Pod, which shares the heap that is measured, needs little of it.
var zeros = make([]byte, 32<<10)

const host = "a.test"

// newRig starts an engine and a Pod. Both end with the test.
func newRig(t *testing.T, o proxy.Options) *rig {
	t.Helper()
	r := &rig{t: t, engine: proxy.New(o)}
	at := listen(t)
	r.pod.all.Handler = &r.pod
	podDone := make(chan struct{})
	go func() {
		defer close(podDone)
		_ = r.pod.all.Serve(at)
	}()
	l := listen(t)
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
		_ = r.pod.all.Close()
		<-podDone
	})
	port := router.ServicePort{Namespace: "default", Name: "svc"}
	table := router.NewTable([]*router.Route{{
		ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: host, Path: "/"},
		Backends: []router.Backend{{Service: port, Weight: 1}},
	}}, nil)
	r.engine.Prepare(table)
	r.engine.SetAddresses(port.Service(), map[string][]router.Address{"": {
		{AddrPort: netip.MustParseAddrPort(at.Addr().String()), UID: "pod", Ready: true, Serving: true},
	}})
	r.engine.Publish(table)
	return r
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
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

// other is the client that attacks nobody: over HTTP/2, one connection, one request after the other.
type other struct {
	t       *testing.T
	c       *http.Client
	cookies int // in every request
}

func (r *rig) other() *other {
	r.t.Helper()
	tr := &http.Transport{
		Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the engine's own default certificate
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.addr)
		},
	}
	tr.Protocols.SetHTTP2(true)
	r.t.Cleanup(tr.CloseIdleConnections)
	return &other{t: r.t, c: &http.Client{Timeout: patience, Transport: tr}}
}

// get makes one request, which must succeed.
func (o *other) get(path string) string {
	o.t.Helper()
	q, err := http.NewRequestWithContext(o.t.Context(), http.MethodGet, "https://"+host+path, http.NoBody)
	if err != nil {
		o.t.Fatal(err)
	}
	for i := range o.cookies {
		q.AddCookie(&http.Cookie{Name: fmt.Sprint("name", i), Value: "v"})
	}
	res, err := o.c.Do(q)
	if err != nil {
		o.t.Fatalf("the other client: %v", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		o.t.Fatalf("the other client: %d %q %v", res.StatusCode, body, err)
	}
	return string(body)
}

// asks is how many requests the other client makes before an attack, and at least during it.
const asks = 200

// measure is how long requests of the other client take, one after the other: at least asks of them, and on until ended.
func (o *other) measure(ended <-chan struct{}) []time.Duration {
	o.t.Helper()
	var times []time.Duration
	for {
		began := time.Now()
		if body := o.get("/"); body != "ok" {
			o.t.Fatalf("the other client: %q", body)
		}
		times = append(times, time.Since(began))
		if len(times) < asks {
			continue
		}
		select {
		case <-ended:
			return times
		default:
		}
		if len(times) == 100*asks {
			return times
		}
	}
}

// at is the time within which that part of times lies.
func at(times []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

// heapInUse is what this process's heap holds after garbage was collected.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // empties what pools kept through the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
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
