package upstream_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/router"
)

// A plain pod is a pod that costs little: it knows just as much of HTTP as the proxy's own requests need, so that hundreds of thousands of
// them are no matter of minutes. It may begin and end to listen at any time; connections that it has accepted go on.
type plain struct {
	name string
	at   netip.AddrPort
	// host is the only one whose requests are the pod's. hold, where it is set before the first request, is told of each by its id.
	host string
	hold func(id string)

	listener *net.TCPListener
	accept   sync.WaitGroup
	tasks    sync.WaitGroup
	requests atomic.Int64
	foreign  atomic.Int64 // requests for another host

	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// newPlain makes a pod that does not listen yet.
func newPlain(t testing.TB, name, host string, n int) *plain {
	t.Helper()
	p := &plain{name: name, at: podAddress(n), host: host, open: map[net.Conn]struct{}{}}
	t.Cleanup(func() {
		if p.listener != nil {
			_ = p.listener.Close()
		}
		p.accept.Wait()
		p.mu.Lock()
		for c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.tasks.Wait()
	})
	return p
}

// address is the pod in an EndpointSlice.
func (p *plain) address(uid string) router.Address {
	a := ready(p.at)
	a.Pod, a.UID = p.name, uid
	return a
}

// listen begins to accept connections.
func (p *plain) listen(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", p.at.String())
	if err != nil {
		t.Fatal(err)
	}
	p.listener = l.(*net.TCPListener)
	p.accept.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.open[c] = struct{}{}
			p.mu.Unlock()
			p.tasks.Go(func() {
				p.serve(c)
				p.mu.Lock()
				delete(p.open, c)
				p.mu.Unlock()
				_ = c.Close()
			})
		}
	})
}

// refuse ends listening, after everything that the kernel has accepted for the pod has been taken over.
func (p *plain) refuse(t testing.TB) {
	t.Helper()
	await(t, "every connection in the kernel's queue is accepted", func() bool { return queued(t, p.listener) == 0 })
	_ = p.listener.Close()
	p.accept.Wait()
}

func (p *plain) serve(c net.Conn) {
	in := bufio.NewReaderSize(c, 4<<10)
	var answer []byte
	for {
		id, host, length, err := p.head(in)
		if err != nil {
			return
		}
		received := make([]byte, length)
		if _, err := io.ReadFull(in, received); err != nil {
			return
		}
		p.requests.Add(1)
		if host != p.host {
			p.foreign.Add(1)
		}
		if p.hold != nil {
			p.hold(id)
		}
		body := p.name + " " + id
		answer = fmt.Appendf(answer[:0], "HTTP/1.1 200 OK\r\nX-Pod: %s\r\nX-Id: %s\r\nX-Received-Sha256: %s\r\nX-Body-Sha256: %s\r\nContent-Length: %d\r\n\r\n%s",
			p.name, id, digest(received), digest([]byte(body)), len(body), body)
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// head reads the head of a request.
func (p *plain) head(in *bufio.Reader) (id, host string, length int, err error) {
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return "", "", 0, err
		}
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\r\n")), []byte(": "))
		switch {
		case first:
			_, rest, _ := bytes.Cut(line, []byte("?id="))
			if end := bytes.IndexAny(rest, "& "); end > 0 {
				id = string(rest[:end])
			}
		case len(name) == 0:
			return id, host, length, nil
		case bytes.EqualFold(name, []byte("Host")):
			host = string(value)
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return "", "", 0, err
			}
		}
	}
}

// A hurried client sends GET after GET on one connection, and checks that the answer is that of its own request, from a Pod of a tenant.
type hurried struct {
	conn   net.Conn
	in     *bufio.Reader
	host   string
	tenant string // the beginning of its Pods' names
	name   string

	sent   atomic.Int64
	lodged int64
}

func (r *rig) hurry(host, tenant, name string) *hurried {
	c := r.dial()
	return &hurried{conn: c.conn, in: c.in, host: host, tenant: tenant, name: name}
}

// run sends until stop is set, and returns what is wrong.
func (h *hurried) run(stop *atomic.Bool) error {
	defer h.conn.Close()
	var request []byte
	for !stop.Load() {
		id := h.name + "-" + strconv.FormatInt(h.sent.Load(), 10)
		request = append(append(append(request[:0], "GET /check?id="...), id...), " HTTP/1.1\r\nHost: "...)
		request = append(append(request, h.host...), "\r\n\r\n"...)
		if _, err := h.conn.Write(request); err != nil {
			return err
		}
		status, body, err := h.answer()
		if err != nil {
			return fmt.Errorf("request %s: %w", id, err)
		}
		pod, got, _ := bytes.Cut(body, []byte(" "))
		if status != http.StatusOK || string(got) != id || !bytes.HasPrefix(pod, []byte(h.tenant+"/")) {
			return fmt.Errorf("request %s got %d %q", id, status, body)
		}
		if bytes.Contains(pod, []byte("lodger")) {
			h.lodged++
		}
		h.sent.Add(1)
	}
	return nil
}

// answer reads one answer.
func (h *hurried) answer() (status int, body []byte, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := h.in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\r\n")), []byte(": "))
		switch {
		case first && len(line) > len("HTTP/1.1 200"):
			if status, err = strconv.Atoi(string(line[len("HTTP/1.1 "):len("HTTP/1.1 200")])); err != nil {
				return 0, nil, err
			}
		case len(name) == 0:
			body = make([]byte, length)
			_, err := io.ReadFull(h.in, body)
			return status, body, err
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, nil, err
			}
		}
	}
}
