package floods_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// pod is the Pod's process.
type pod struct {
	p    *program
	addr netip.AddrPort
}

func newPod(t *testing.T, role string) *pod {
	t.Helper()
	p := &pod{p: start(t, role, "")}
	p.p.ask("address", &p.addr)
	return p
}

// count is what a Pod says of the requests that it got.
type count struct{ Requests, Hanging int64 }

func (p *pod) count() (c count) {
	p.p.t.Helper()
	p.p.ask("count", &c)
	return c
}

// echo answers "/" with ok, "/hang" when the proxy gives up, "/N" with so many bytes, "/cookies" with the count of its cookies, and
// switches protocols for "/tunnel", through which it sends 1 MiB.
type echo struct{ requests, hanging atomic.Int64 }

// servePod is the process.
func servePod() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	e := new(echo)
	go func() { _ = (&http.Server{Handler: e}).Serve(l) }()
	obey(map[string]func() any{
		"address": func() any { return l.Addr().String() },
		"count":   func() any { return count{e.requests.Load(), e.hanging.Load()} },
	})
}

func (e *echo) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	e.requests.Add(1)
	switch path := q.URL.Path[1:]; path {
	case "":
		_, _ = io.WriteString(w, "ok")
	case "hang":
		e.hanging.Add(1)
		defer e.hanging.Add(-1)
		_, _ = io.Copy(io.Discard, q.Body) // net/http looks for the end of the connection behind the body
		<-q.Context().Done()
	case "cookies":
		fmt.Fprintf(w, "%d in %d", len(q.Cookies()), len(q.Header["Cookie"]))
	case "tunnel":
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = c.Write(make([]byte, 1<<20))
		_, _ = io.Copy(io.Discard, c)
	default:
		size, err := strconv.ParseInt(path, 10, 64)
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", path)
		for zeros := make([]byte, 32<<10); err == nil && size > 0; {
			var n int
			n, err = w.Write(zeros[:min(size, int64(len(zeros)))])
			size -= int64(n)
		}
	}
}
