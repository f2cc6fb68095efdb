//go:build !race

package http1_test

import (
	"net"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
)

// Under the race detector sync.Pool drops values at random, so there are no budgets there.

// again is a connection on which the same message arrives for ever, and what is written vanishes.
type again struct {
	net.Conn
	message []byte
	left    []byte
}

func (a *again) Read(b []byte) (int, error) {
	if len(a.left) == 0 {
		a.left = a.message
	}
	n := copy(b, a.left)
	a.left = a.left[n:]
	return n, nil
}

func (a *again) Write(b []byte) (int, error) { return len(b), nil }

const typicalRequest = "GET /static/app.js?v=3 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
	"Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nConnection: keep-alive\r\n" +
	"Cookie: session=0123456789abcdef; theme=dark\r\nReferer: https://www.example.com/\r\n\r\n"

const typicalPost = "POST /api HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.0\r\nContent-Type: application/json\r\n" +
	"Content-Length: 16\r\n\r\n{\"name\":\"value\"}"

const typicalChunked = "POST /api HTTP/1.1\r\nHost: www.example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"

const typicalAnswer = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 03:22:39 GMT\r\nContent-Type: text/html\r\n" +
	"Content-Length: 13\r\nConnection: keep-alive\r\nETag: \"x\"\r\n\r\nHello, world!"

const typicalChunks = "HTTP/1.1 200 OK\r\nServer: nginx\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n8\r\n, world!\r\n0\r\n\r\n"

// lap takes one request to a Pod's connection, and the answer back.
type lap struct {
	server *http1.Server
	client *http1.Client
	ip     []byte
}

func newLap(request, answer string) *lap {
	return &lap{
		server: http1.NewServer(&again{message: []byte(request)}, http1.Limits{}, new(http1.Clock)),
		client: http1.NewClient(&again{message: []byte(answer)}, http1.Limits{}),
		ip:     []byte("192.0.2.1"),
	}
}

func (l *lap) run(t testing.TB) {
	t.Helper()
	x := exchange.New()
	defer x.Release()
	if err := l.server.ReadRequest(x); err != nil {
		t.Fatal(err)
	}
	if reject := x.Validate(); reject != nil {
		t.Fatal(reject)
	}
	x.Request.Fields.Set(exchange.XRealIP, l.ip)
	x.Request.Fields.Set(exchange.XForwardedFor, l.ip)
	l.client.StartRequest(x)
	if b := x.Request.Body; b != nil {
		for p, err := b.Next(); err == nil; p, err = b.Next() {
			if err := l.client.Write(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.client.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := l.client.ReadResponse(x); err != nil {
		t.Fatal(err)
	}
	x.Response.RemoveHopByHop()
	l.server.StartResponse(x, exchange.KeepOpen)
	if b := x.Response.Body; b != nil {
		for p, err := b.Next(); err == nil; p, err = b.Next() {
			if err := l.server.Write(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.server.Finish(x); err != nil {
		t.Fatal(err)
	}
	if !l.client.Finished() || !l.server.BodyDone() {
		t.Fatal("a body is left")
	}
	l.server.Next()
}

var laps = map[string][2]string{
	"get":            {typicalRequest, typicalAnswer},
	"post":           {typicalPost, typicalAnswer},
	"chunked":        {typicalChunked, typicalAnswer},
	"chunked answer": {typicalRequest, typicalChunks},
}

// TestLapAllocatesNothing holds the budget of the codec: no allocation per request in the steady state.
func TestLapAllocatesNothing(t *testing.T) {
	for name, l := range laps {
		t.Run(name, func(t *testing.T) {
			lap := newLap(l[0], l[1])
			for range 10 {
				lap.run(t)
			}
			if n := testing.AllocsPerRun(200, func() { lap.run(t) }); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}

func BenchmarkLap(b *testing.B) {
	for name, l := range laps {
		b.Run(name, func(b *testing.B) {
			lap := newLap(l[0], l[1])
			b.ReportAllocs()
			for b.Loop() {
				lap.run(b)
			}
		})
	}
}
