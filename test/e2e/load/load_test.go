package load

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answerer is a page like the backend's /check, with one way to be wrong.
type answerer struct {
	wrong       atomic.Value // string
	connections atomic.Int64
	requests    atomic.Int64
}

func (a *answerer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got, _ := io.ReadAll(r.Body)
	id := r.FormValue("id")
	body := content(id, 1000)
	h := w.Header()
	h.Set("X-Pod", "pod-1")
	h.Set("X-Id", id)
	h.Set("X-Received-Sha256", digest(got))
	h.Set("X-Body-Sha256", digest(body))
	switch a.wrong.Load() {
	case "status":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "id":
		h.Set("X-Id", "other")
	case "upload":
		h.Set("X-Received-Sha256", digest(body))
	case "download":
		body[17]++
	case "short":
		h.Set("Content-Length", "1001")
	case "every other":
		if a.requests.Add(1)%2 == 1 {
			panic(http.ErrAbortHandler)
		}
	case "drop":
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

func run(t *testing.T, wrong string, o Options) (*Result, int64) {
	t.Helper()
	a := &answerer{}
	a.wrong.Store(wrong)
	s := httptest.NewUnstartedServer(a)
	s.Config.ConnState = connections(&a.connections)
	s.Start()
	defer s.Close()
	o.Name, o.Host, o.Rate, o.Clients = "t", "h", 1000, 4
	o.Address = Fixed(s.Listener.Addr().String())
	l := Start(o)
	for deadline := time.Now().Add(time.Minute); l.Sent() < 40 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	return l.Stop(), a.connections.Load()
}

func TestGoodAnswers(t *testing.T) {
	for _, keep := range []bool{true, false} {
		for _, method := range []string{"GET", "POST"} {
			r, connections := run(t, "", Options{Method: method, KeepAlive: keep, Upload: 5000})
			if r.Sent < 40 || r.Failed > 0 || r.Pods["pod-1"] != r.Sent || len(r.Took) != r.Sent {
				t.Errorf("%s keep-alive %t: %s", method, keep, r)
			}
			if keep && connections != 4 || !keep && connections != int64(r.Sent) {
				t.Errorf("%s keep-alive %t: %d connections for %d requests", method, keep, connections, r.Sent)
			}
		}
	}
}

func TestEveryFaultIsSeen(t *testing.T) {
	for wrong, corrupt := range map[string]bool{"status": false, "id": true, "upload": true, "download": true, "short": false, "drop": false} {
		r, _ := run(t, wrong, Options{KeepAlive: true, Upload: 100, Method: "POST"})
		if r.Failed != r.Sent || r.Failed == 0 || corrupt != (r.Corrupt > 0) || len(r.Examples) != maxExamples {
			t.Errorf("%s: %s", wrong, r)
		}
	}
}

// A client that reconnects gets its answer where a connection breaks, and takes an answer as it is.
func TestReconnect(t *testing.T) {
	for _, keep := range []bool{true, false} {
		if r, _ := run(t, "every other", Options{KeepAlive: keep, Reconnects: 10}); r.Failed > 0 || r.Reconnected == 0 {
			t.Errorf("keep-alive %t: %s", keep, r)
		}
	}
	if r, _ := run(t, "status", Options{Reconnects: 10}); r.Failed != r.Sent || r.Reconnected > 0 {
		t.Errorf("an error was asked for again: %s", r)
	}
	if r, _ := run(t, "drop", Options{Reconnects: 2}); r.Failed != r.Sent || r.Reconnected != 2*r.Sent {
		t.Errorf("all tries fail: %s", r)
	}
}

func TestRefusedConnection(t *testing.T) {
	l := Start(Options{Address: Fixed("127.0.0.1:1"), Host: "h", Rate: 1000})
	for l.Sent() < 20 {
		time.Sleep(time.Millisecond)
	}
	if r := l.Stop(); r.Failed != r.Sent || len(r.Failures) != 1 || !strings.Contains(r.String(), "connection refused") {
		t.Errorf("got %s", r)
	}
}

func TestAdd(t *testing.T) {
	var all Result
	for i := range 3 {
		all.Add(&Result{Sent: 10, Failed: i, Failures: map[string]int{"x": i}, Pods: map[string]int{fmt.Sprint(i): 1}, Took: []time.Duration{time.Duration(i)}})
	}
	if all.Sent != 30 || all.Failed != 3 || all.Failures["x"] != 3 || len(all.Pods) != 3 || all.Quantile(1) != 2 || all.Quantile(0) != 0 {
		t.Errorf("got %+v", all)
	}
}

// connections counts the connections that a server accepts.
func connections(n *atomic.Int64) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.Add(1)
		}
	}
}
