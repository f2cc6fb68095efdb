package vectors

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReadRequest(t *testing.T) {
	const head = "POST /a HTTP/1.1\r\nHost: a\r\n"
	for in, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                                               "",
		head + "Content-Length: 5\r\n\r\nhello":                                           "hello",
		head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n":                "hello",
		head + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\na\r\n0123456789\r\n0\r\n\r\n": "x0123456789",
	} {
		br := bufio.NewReader(strings.NewReader(in + "GET"))
		q, err := ReadRequest(br)
		rest, _ := io.ReadAll(br)
		if err != nil || q.Body != want || string(q.Raw) != in || string(rest) != "GET" {
			t.Errorf("%q: %q, %v, %q left", in, q.Body, err, rest)
		}
	}
	q, err := ReadRequest(bufio.NewReader(strings.NewReader(head + "X: y\r\n\r\n")))
	if err != nil || q.Method() != "POST" || q.Target() != "/a" || strings.Join(q.Fields, "|") != "Host: a|X: y" {
		t.Errorf("%+v, %v", q, err)
	}
	for _, in := range []string{
		"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n", "GET  / HTTP/1.1\r\n", "GET a HTTP/1.1\r\n", "GET / HTTP/1.0\r\n", " / HTTP/1.1\r\n",
		"GET / HTTP/1.1\r\n\r\n", head + "Host: a\r\n\r\n", head + "X:y\r\n", head + "X:  y\r\n", head + "X: y \r\n", head + "X_Y: z\r\n", head + "X Y: z\r\n",
		head + " X: y\r\n", head + "X: a\x00\r\n", head + "X: a\rb\r\n", head + "Content-Length: 05\r\n", head + "Content-Length: 5\r\nContent-Length: 5\r\n",
		head + "Content-Length: -1\r\n", head + "Transfer-Encoding: Chunked\r\n", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
		head + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
		head + "Transfer-Encoding: chunked\r\n\r\n05\r\n", head + "Transfer-Encoding: chunked\r\n\r\nA\r\n", head + "Transfer-Encoding: chunked\r\n\r\n1;a\r\n",
		head + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", head + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
	} {
		if q, err := ReadRequest(bufio.NewReader(strings.NewReader(in))); err == nil {
			t.Errorf("%q is read as %v", in, q)
		} else if _, ok := errors.AsType[*Violation](err); !ok {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestReadRequestCutShort(t *testing.T) {
	for _, whole := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		for i := range len(whole) {
			want := io.ErrUnexpectedEOF
			if i == 0 {
				want = io.EOF
			}
			q, err := ReadRequest(bufio.NewReader(strings.NewReader(whole[:i])))
			if !errors.Is(err, want) || string(q.Raw) != whole[:i] {
				t.Errorf("%d bytes: %q, %v", i, q.Raw, err)
			}
		}
	}
}
