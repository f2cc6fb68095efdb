package upstream_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/test/e2e/load"
)

// A closing Pod ends its connection behind each answer, or says that it will.
type closing struct {
	name string
	// head is the status line and what goes before the fields of the oracle; length says that the answer has its length.
	head   string
	length bool
	// later is how long the Pod goes on reading before it closes: where the proxy is first then, its own end lingers.
	later time.Duration
	// reusable says that the connection may be used again.
	reusable bool
}

func closings() []closing {
	return []closing{
		{"Connection: close, length", "HTTP/1.1 200 OK\r\nConnection: close\r\n", true, 0, false},
		{"Connection: close, length, closes later", "HTTP/1.1 200 OK\r\nConnection: close\r\n", true, 2 * time.Millisecond, false},
		{"Connection: close, no length", "HTTP/1.1 200 OK\r\nConnection: close\r\n", false, 0, false},
		{"no length", "HTTP/1.1 200 OK\r\n", false, 0, false},
		{"no length, closes later", "HTTP/1.1 200 OK\r\n", false, 2 * time.Millisecond, false},
		{"HTTP/1.0, length", "HTTP/1.0 200 OK\r\n", true, 0, false},
		{"HTTP/1.0, no length", "HTTP/1.0 200 OK\r\n", false, 0, false},
		{"HTTP/1.0, keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", true, 0, true},
	}
}

// serve answers one request, or all of them where the connection may be used again.
func (k closing) serve(_ int, c *net.TCPConn, in *bufio.Reader) {
	for {
		id, _, received, err := request(in)
		if err != nil {
			return
		}
		fields, _ := checked("closing", id, 0, received)
		body := strings.Repeat(id+" ", 100)
		fields["X-Body-Sha256"] = digest([]byte(body))
		var b bytes.Buffer
		b.WriteString(k.head)
		for name, v := range fields {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
		if k.length {
			fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
		}
		fmt.Fprintf(&b, "\r\n%s", body)
		if _, err := c.Write(b.Bytes()); err != nil {
			return
		}
		if k.later > 0 {
			_ = c.SetReadDeadline(time.Now().Add(k.later))
			_, _ = in.Peek(1)
		}
		if !k.reusable {
			return
		}
	}
}

// Pods that close behind each answer, or speak HTTP/1.0: no connection is used again that must not be, nothing fails, and where the Pod
// closes first, the sockets that linger in TIME_WAIT are its own.
func TestF28ClosesAlways(t *testing.T) {
	for i, row := range closings() {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, proxy.Options{})
			p := newHostile(t, 60+i, row.serve)
			r.serve(ready(p.at))
			result := r.drive(scale(500, 100_000), load.Options{KeepAlive: true, Clients: 8})
			sent := noneFailed(t, result)
			conns, _ := p.connections()
			if reuses := r.events.reuses.Load(); row.reusable != (reuses > 0) || !row.reusable && conns != sent {
				t.Errorf("%d requests on %d connections, %d reuses", sent, conns, reuses)
			}
			await(t, "every connection is closed", func() bool { _, open := p.connections(); return row.reusable || open == 0 })
			ours, theirs := timeWait(t, p.at)
			t.Logf("F28: %s: %d requests on %d connections, 0 failed; TIME_WAIT: %d with us, %d with the Pod", row.name, sent, conns, ours, theirs)
			if !row.reusable && ours > sent/20 {
				t.Errorf("%d of %d connections linger in TIME_WAIT on our side", ours, sent)
			}
		})
	}
}

// timeWait counts the sockets in TIME_WAIT of connections to a Pod, at our end and at the Pod's.
func timeWait(t testing.TB, at netip.AddrPort) (ours, theirs int) {
	t.Helper()
	for _, s := range sockets(t, stateTimeWait) {
		switch at {
		case s.remote:
			ours++
		case s.local:
			theirs++
		}
	}
	return ours, theirs
}
