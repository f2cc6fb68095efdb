package upstream_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/router"
)

// podAddress is the n-th address of podNetwork, with the port that Pods listen on.
func podAddress(n int) netip.AddrPort {
	b := podNetwork.Addr().As4()
	b[2], b[3] = byte(n>>8), byte(n)
	return netip.AddrPortFrom(netip.AddrFrom4(b), podPort)
}

// podPort is what Pods listen on.
const podPort = 8000

// A pod is an honest HTTP server with an address of its own. It answers the page /check of test/backend, which is the other
// end of the oracle for bodies, and counts what it got.
type pod struct {
	name   string
	at     netip.AddrPort
	server *http.Server
	// hold, where it is set before the first request, is called before each answer.
	hold func(r *http.Request)

	listener *net.TCPListener
	serving  sync.WaitGroup

	mu   sync.Mutex
	seen map[string]int // requests by id
}

// newPod starts a pod at the n-th address. It ends with the test.
func newPod(t testing.TB, name string, n int) *pod {
	t.Helper()
	p := &pod{name: name, at: podAddress(n), seen: map[string]int{}}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: patience}
	l, err := net.Listen("tcp", p.at.String())
	if err != nil {
		t.Fatal(err)
	}
	p.listener = l.(*net.TCPListener)
	p.serving.Go(func() { _ = p.server.Serve(l) })
	t.Cleanup(func() {
		_ = p.server.Close()
		p.serving.Wait()
	})
	return p
}

// refuse ends listening, after everything that the kernel has accepted for the pod has been taken over. Its connections go on. New ones
// must have been refused before.
func (p *pod) refuse(t testing.TB) {
	t.Helper()
	await(t, "no connection is half open", func() bool {
		return !slices.ContainsFunc(sockets(t, stateOpening), func(s socket) bool { return s.local == p.at })
	})
	await(t, "every connection in the kernel's queue is accepted", func() bool { return queued(t, p.listener) == 0 })
	_ = p.listener.Close()
	p.serving.Wait()
}

// queued is how many connections wait to be accepted.
func queued(t testing.TB, l *net.TCPListener) uint32 {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	failed := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err := errors.Join(failed, err); err != nil {
		t.Fatal(err)
	}
	return info.Unacked // of a socket that listens: the length of its queue
}

// address is the pod in an EndpointSlice.
func (p *pod) address() router.Address {
	a := ready(p.at)
	a.Pod, a.UID = p.name, "uid-"+p.name
	return a
}

// ServeHTTP is the page /check.
func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	p.mu.Lock()
	p.seen[id]++
	p.mu.Unlock()
	if p.hold != nil {
		p.hold(r)
	}
	received, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if want := r.Header.Get("X-Body-Sha256"); want != "" && want != digest(received) {
		http.Error(w, "the body has digest "+digest(received)+", want "+want, http.StatusUnprocessableEntity)
		return
	}
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	fields, body := checked(p.name, id, n, received)
	for name, v := range fields {
		w.Header().Set(name, v)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// checked is the answer of the page /check to a request with an id and a body, of n bytes.
func checked(name, id string, n int, received []byte) (fields map[string]string, body []byte) {
	body = make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte("answer to " + id))).Read(body) // never fails
	return map[string]string{"X-Pod": name, "X-Id": id, "X-Received-Sha256": digest(received), "X-Body-Sha256": digest(body)}, body
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// requests is how many requests the pod got.
func (p *pod) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, times := range p.seen {
		n += times
	}
	return n
}

// A hostile Pod is a listener whose connections are handled byte by byte.
type hostile struct {
	at netip.AddrPort

	mu    sync.Mutex
	open  map[*net.TCPConn]struct{}
	conns int
}

// newHostile starts a hostile Pod at the n-th address. serve gets each connection, with its number from 0; it is closed afterwards.
func newHostile(t testing.TB, n int, serve func(i int, c *net.TCPConn, in *bufio.Reader)) *hostile {
	t.Helper()
	h := &hostile{at: podAddress(n), open: map[*net.TCPConn]struct{}{}}
	l, err := net.Listen("tcp", h.at.String())
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for i := 0; ; i++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c := nc.(*net.TCPConn)
			h.mu.Lock()
			h.open[c] = struct{}{}
			h.conns++
			h.mu.Unlock()
			tasks.Go(func() {
				serve(i, c, bufio.NewReader(c))
				h.mu.Lock()
				delete(h.open, c)
				h.mu.Unlock()
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		h.mu.Lock()
		for c := range h.open {
			_ = c.Close()
		}
		h.mu.Unlock()
		tasks.Wait()
	})
	return h
}

// connections is how many connections were accepted, and how many of them are open.
func (h *hostile) connections() (all, open int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns, len(h.open)
}

// request reads one whole request, or fails. It returns the id, the method and the body.
func request(in *bufio.Reader) (id, method string, body []byte, err error) {
	q, err := http.ReadRequest(in)
	if err != nil {
		return "", "", nil, err
	}
	body, err = io.ReadAll(q.Body)
	return q.URL.Query().Get("id"), q.Method, body, err
}

// respond writes a whole answer of the page /check, in one piece.
func respond(c net.Conn, name, id string, received []byte) error {
	fields, _ := checked(name, id, 0, received)
	head := "HTTP/1.1 200 OK\r\n"
	for name, v := range fields {
		head += name + ": " + v + "\r\n"
	}
	_, err := fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(id), id)
	return err
}

// cut ends a connection by RST.
func cut(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// untilClosed waits until the proxy has ended a connection, and reports whether it has.
func untilClosed(c *net.TCPConn, in *bufio.Reader) bool {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, in)
	return err == nil || !isTimeout(err)
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error) //nolint:errorlint // the connection's own
	return ok && n.Timeout()
}
