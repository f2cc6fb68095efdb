package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
)

// parts is a body that comes in given pieces.
type parts struct {
	pieces []string
	length int64
}

func (p *parts) Length() int64 { return p.length }

func (p *parts) Next() ([]byte, error) {
	if len(p.pieces) == 0 {
		return nil, io.EOF
	}
	next := p.pieces[0]
	p.pieces = p.pieces[1:]
	return []byte(next), nil
}

var dateLine = regexp.MustCompile(`Date: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n`)

// respond writes the response that prepare makes to a request, and returns what the client gets, without Date.
func respond(t *testing.T, request string, prepare func(*exchange.Response), body ...string) (string, exchange.Persistence) {
	t.Helper()
	conn := &piecewise{pieces: split(request), end: errSilent}
	s := http1.NewServer(conn, http1.Limits{}, new(http1.Clock))
	defer s.Close()
	x := exchange.New()
	defer x.Release()
	if err := s.ReadRequest(x); err != nil {
		t.Fatal(err)
	}
	if reject := x.Validate(); reject != nil {
		t.Fatal(reject)
	}
	x.Response.Fields.Reset(nil)
	x.Response.Status, x.Response.Version = 200, exchange.HTTP11
	prepare(&x.Response)
	p := exchange.KeepOpen
	if x.Request.Close {
		p = exchange.CloseAfter
	}
	p = s.StartResponse(x, p)
	if conn.wrote.Len() > 0 || s.Begun() {
		t.Error("the head was written before its time")
	}
	for _, b := range body {
		if s.Bodyless() {
			break
		}
		if err := s.Write([]byte(b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(x); err != nil {
		t.Fatal(err)
	}
	got := conn.wrote.String()
	if n := len(dateLine.FindAllString(got, -1)); n != 1 && !strings.Contains(got, "Date: mine") {
		t.Errorf("%d Date fields in %q", n, got)
	}
	return dateLine.ReplaceAllString(got, ""), p
}

func TestResponses(t *testing.T) {
	const (
		get, head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
		old       = "GET / HTTP/1.0\r\nHost: a\r\n\r\n"
		oldKeep   = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
		trailers  = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"
		server    = "Server: podlane\r\n"
	)
	known := func(n int64) func(*exchange.Response) {
		return func(r *exchange.Response) { r.Body = &parts{length: n} }
	}
	unknown := known(-1)
	with := func(f func(*exchange.Response), fields ...string) func(*exchange.Response) {
		return func(r *exchange.Response) {
			for _, l := range fields {
				name, value, _ := strings.Cut(l, ": ")
				r.Fields.AddString(name, value)
			}
			f(r)
		}
	}
	none := func(*exchange.Response) {}
	status := func(n int, f func(*exchange.Response)) func(*exchange.Response) {
		return func(r *exchange.Response) { f(r); r.Status = n }
	}
	trailer := func(r *exchange.Response) { unknown(r); r.Trailers.Reset(nil); r.Trailers.AddString("X-Sum", "1") }
	for name, c := range map[string]struct {
		request string
		prepare func(*exchange.Response)
		body    string
		want    string
		p       exchange.Persistence
	}{
		"length":              {get, known(5), "hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + server + "\r\nhello", exchange.KeepOpen},
		"length, kept":        {get, with(known(5), "Content-Length: 5", "X: y"), "hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n" + server + "\r\nhello", exchange.KeepOpen},
		"length, corrected":   {get, with(known(5), "Content-Length: 9", "X: y"), "hello", "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n" + server + "\r\nhello", exchange.KeepOpen},
		"length, twice":       {get, with(known(5), "Content-Length: 5", "Content-Length: 5"), "hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + server + "\r\nhello", exchange.KeepOpen},
		"chunks":              {get, with(unknown, "Content-Length: 9"), "hello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + server + "\r\n5\r\nhello\r\n0\r\n\r\n", exchange.KeepOpen},
		"chunks, empty":       {get, unknown, "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + server + "\r\n0\r\n\r\n", exchange.KeepOpen},
		"until close":         {old, with(unknown, "Content-Length: 9"), "hello", "HTTP/1.1 200 OK\r\n" + server + "Connection: close\r\n\r\nhello", exchange.CloseAfter},
		"until close, keeps":  {oldKeep, unknown, "hello", "HTTP/1.1 200 OK\r\n" + server + "Connection: close\r\n\r\nhello", exchange.CloseAfter},
		"1.0 keeps":           {oldKeep, known(5), "hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + server + "Connection: keep-alive\r\n\r\nhello", exchange.KeepOpen},
		"1.0 closes":          {old, known(5), "hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + server + "Connection: close\r\n\r\nhello", exchange.CloseAfter},
		"1.0, 204":            {oldKeep, status(204, none), "", "HTTP/1.1 204 No Content\r\n" + server + "Connection: close\r\n\r\n", exchange.CloseAfter},
		"no body":             {get, none, "", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + server + "\r\n", exchange.KeepOpen},
		"head":                {head, with(known(5), "Content-Length: 5"), "hello", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + server + "\r\n", exchange.KeepOpen},
		"head, no length":     {head, none, "", "HTTP/1.1 200 OK\r\n" + server + "\r\n", exchange.KeepOpen},
		"204":                 {get, status(204, with(none, "Content-Length: 0")), "", "HTTP/1.1 204 No Content\r\n" + server + "\r\n", exchange.KeepOpen},
		"204 with a body":     {get, status(204, known(5)), "hello", "HTTP/1.1 204 No Content\r\n" + server + "\r\n", exchange.KeepOpen},
		"304":                 {get, status(304, with(none, "Content-Length: 5", "ETag: x")), "", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n" + server + "\r\n", exchange.KeepOpen},
		"304, no length":      {get, status(304, none), "", "HTTP/1.1 304 Not Modified\r\n" + server + "\r\n", exchange.KeepOpen},
		"unknown status":      {get, status(299, none), "", "HTTP/1.1 299 \r\nContent-Length: 0\r\n" + server + "\r\n", exchange.KeepOpen},
		"status 999":          {get, status(999, none), "", "HTTP/1.1 999 \r\nContent-Length: 0\r\n" + server + "\r\n", exchange.KeepOpen},
		"the Pod's own":       {get, with(none, "Date: mine", "Server: mine"), "", "HTTP/1.1 200 OK\r\nDate: mine\r\nServer: mine\r\nContent-Length: 0\r\n\r\n", exchange.KeepOpen},
		"trailers":            {trailers, trailer, "hello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + server + "\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", exchange.KeepOpen},
		"trailers, not asked": {get, trailer, "hello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + server + "\r\n5\r\nhello\r\n0\r\n\r\n", exchange.KeepOpen},
	} {
		t.Run(name, func(t *testing.T) {
			var body []string
			if c.body != "" {
				body = []string{c.body}
			}
			if got, p := respond(t, c.request, c.prepare, body...); got != c.want || p != c.p {
				t.Errorf("%q, %d; want %q, %d", got, p, c.want, c.p)
			}
		})
	}
}

// TestResponseBodySizes writes bodies on both sides of every size at which the writer changes its ways, in pieces of several sizes.
func TestResponseBodySizes(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, piece := range []int{1, 100, 4<<10 - 1, 4 << 10, 4<<10 + 1, 12 << 10, 16 << 10, 100 << 10} {
		for _, pieces := range []int{1, 3, 50} {
			for _, length := range []int64{int64(piece * pieces), -1} {
				var body []string
				for i := range pieces {
					body = append(body, strings.Repeat(string(rune('a'+i%26)), piece))
				}
				got, _ := respond(t, request, func(r *exchange.Response) { r.Body = &parts{length: length} }, body...)
				res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
				if err != nil {
					t.Fatal(err)
				}
				all, err := io.ReadAll(res.Body)
				if string(all) != strings.Join(body, "") || err != nil || res.ContentLength != length {
					t.Errorf("%d pieces of %d, length %d: %d bytes, %v", pieces, piece, length, len(all), err)
				}
			}
		}
	}
}

// TestDeclaredLength: what is beyond it is not written, and a message that falls short of it is not finished.
func TestDeclaredLength(t *testing.T) {
	conn := &piecewise{pieces: split("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), end: errSilent}
	s := http1.NewServer(conn, http1.Limits{}, new(http1.Clock))
	defer s.Close()
	x := exchange.New()
	defer x.Release()
	if err := s.ReadRequest(x); err != nil {
		t.Fatal(err)
	}
	x.Response.Fields.Reset(nil)
	x.Response.Status, x.Response.Body = 200, &parts{length: 5}
	s.StartResponse(x, exchange.KeepOpen)
	if err := s.Write([]byte("hel")); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(x); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short: %v", err)
	}
	if err := s.Write([]byte("lo!")); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("long: %v", err)
	}
	if err := s.Flush(); err != nil || !bytes.HasSuffix(conn.wrote.Bytes(), []byte("\r\n\r\nhel")) || s.Written() != 3 || !s.Begun() {
		t.Errorf("%q, %d written, %v", conn.wrote.String(), s.Written(), err)
	}
}

// send parses a request and writes it as a Pod would get it.
func send(t testing.TB, request string, change func(*exchange.Request)) string {
	t.Helper()
	s := http1.NewServer(&piecewise{pieces: split(request), end: errSilent}, http1.Limits{}, new(http1.Clock))
	defer s.Close()
	x := exchange.New()
	defer x.Release()
	if err := s.ReadRequest(x); err != nil {
		t.Fatal(err)
	}
	if reject := x.Validate(); reject != nil {
		t.Fatal(reject)
	}
	change(&x.Request)
	out, err := reserialise(x)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// reserialise writes x's request as a Pod would get it.
func reserialise(x *exchange.Exchange) (string, error) {
	conn := &piecewise{}
	c := http1.NewClient(conn, http1.Limits{})
	defer c.Close()
	c.StartRequest(x)
	if b := x.Request.Body; b != nil {
		for {
			p, err := b.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return "", err
			}
			if err := c.Write(p); err != nil {
				return "", err
			}
		}
	}
	err := c.Finish()
	return conn.wrote.String(), err
}

func TestRequests(t *testing.T) {
	same := func(*exchange.Request) {}
	for name, c := range map[string]struct {
		in     string
		change func(*exchange.Request)
		want   string
	}{
		"get":         {"GET /a?b HTTP/1.1\r\nHost: a\r\nX:y\r\n\r\n", same, "GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"},
		"empty query": {"GET /a? HTTP/1.1\r\nHost: a\r\n\r\n", same, "GET /a? HTTP/1.1\r\nHost: a\r\n\r\n"},
		"post, none":  {"POST / HTTP/1.1\r\nHost: a\r\n\r\n", same, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
		"post, zero":  {"POST / HTTP/1.1\r\nContent-Length: 0\r\nHost: a\r\n\r\n", same, "POST / HTTP/1.1\r\nContent-Length: 0\r\nHost: a\r\n\r\n"},
		"get, body":   {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", same, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"},
		"chunks": {
			"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n001;x=y\r\nh\r\n1\r\ni\r\n0\r\nX-Sum: 1\r\n\r\n", same,
			"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
		},
		"upgrade": {
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c, WebSocket\r\nSec-WebSocket-Key: x\r\n\r\n", same,
			"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
		},
		"rewritten": {
			"GET /a/../b?c HTTP/1.1\r\nHost: a\r\n\r\n", func(r *exchange.Request) { r.Forward = []byte("/new") },
			"GET /new?c HTTP/1.1\r\nHost: a\r\n\r\n",
		},
		"a body of another length": {
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", func(r *exchange.Request) { r.Body = &parts{[]string{"hi"}, 2} },
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
		},
		"a body of unknown length": {
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", func(r *exchange.Request) { r.Body = &parts{[]string{"hi"}, -1} },
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		},
		"a body taken away": {
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", func(r *exchange.Request) { r.Body = nil },
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := send(t, c.in, c.change); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
