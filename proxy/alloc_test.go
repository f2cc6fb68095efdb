package proxy_test

import (
	"bytes"
	"net"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/upstream"
)

// plainPod answers every small request without allocating, on connections that it accepts from l.
func plainPod(l net.Listener) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 8<<10)
			n := 0
			for {
				m, err := c.Read(buf[n:])
				if err != nil {
					return
				}
				if n += m; !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
					continue
				}
				n = 0
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// plainClient returns a function that makes one request on a kept connection without allocating.
func plainClient(t testing.TB, addr string) func() {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	request := []byte("GET /some/path?x=1 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\n\r\n")
	buf := make([]byte, 4<<10)
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(buf[:n], []byte("hello")); {
			m, err := c.Read(buf[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
	}
}

func newPlainRig(t testing.TB) func() {
	t.Helper()
	return plainRig(t, proxy.Options{})
}

// plainRig returns a function that makes one request through an engine with the options o.
func plainRig(t testing.TB, o proxy.Options) func() {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go plainPod(l)
	o.MaxRequests, o.Upstream = 1<<30, upstream.Options{MaxRequests: -1}
	r := newRig(t, o)
	r.route("a.test", l.Addr().String())
	return plainClient(t, r.addr)
}

func TestPlainRequestAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop objects at random")
	}
	request := newPlainRig(t)
	for range 100 {
		request()
	}
	if n := testing.AllocsPerRun(2000, request); n > 0 {
		t.Errorf("%.2f allocations per request, want 0", n)
	}
}

// With an access log, the tries and their times are kept, and cost nothing either.
func TestLoggedRequestAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop objects at random")
	}
	access, err := observe.OpenAccessLog(observe.AccessLogOptions{Destination: "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = access.Close(t.Context()) }()
	request := plainRig(t, proxy.Options{AccessLog: access})
	for range 100 {
		request()
	}
	if n := testing.AllocsPerRun(2000, request); n > 0 {
		t.Errorf("%.2f allocations per request, want 0", n)
	}
}

func BenchmarkGet(b *testing.B) {
	request := newPlainRig(b)
	b.ReportAllocs()
	for b.Loop() {
		request()
	}
}
