package backend

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/test/bench/loop"
)

// dial starts a backend and connects to it. Tests with a loop do not run in parallel: it works alone.
func dial(t *testing.T) net.Conn {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	core := 0
	for !may.IsSet(core) {
		core++
	}
	l, err := loop.Start(core)
	if err != nil {
		t.Fatal(err)
	}
	at, err := New(l).Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// answerOf reads one answer as Go's own client does.
func answerOf(t *testing.T, r *bufio.Reader) (status int, body string) {
	t.Helper()
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestAnswers(t *testing.T) {
	c := dial(t)
	r := bufio.NewReader(c)
	upload := strings.Repeat("b", 300<<10)
	head := "GET /h/00000002 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
	for _, request := range []struct {
		text, begins string
		length       int
	}{
		{"GET /s/01234567 HTTP/1.1\r\nHost: a\r\n\r\n", "01234567xxx", SmallSize},
		{"GET /l/89abcdef HTTP/1.1\r\nHost: a\r\n\r\n", "89abcdefxxx", LargeSize},
		{"POST /u/00000001 HTTP/1.1\r\nhost: a\r\ncontent-length: 307200\r\n\r\n" + upload, "0000000100307200", IDSize + SumSize},
		{head, head, len(head)},
	} {
		send(t, c, request.text)
		status, body := answerOf(t, r)
		if status != 200 || !strings.HasPrefix(body, request.begins) {
			t.Errorf("%.30q: %d %.40q, want 200 %q", request.text, status, body, request.begins)
		}
		if len(body) != request.length {
			t.Errorf("%.30q: %d bytes, want %d", request.text, len(body), request.length)
		}
	}
}

// TestPieces: requests may come in any pieces, and behind one another.
func TestPieces(t *testing.T) {
	c := dial(t)
	r := bufio.NewReader(c)
	text := "GET /s/aaaaaaaa HTTP/1.1\r\nHost: a\r\n\r\nPOST /u/bbbbbbbb HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyzGET /l/cccccccc HTTP/1.1\r\n\r\nGET /s/dddddddd HTTP/1.1\r\n\r\n"
	want := []string{"aaaaaaaax", "bbbbbbbb00000003", "ccccccccx", "ddddddddx"}
	check := func(how string) {
		t.Helper()
		for _, begins := range want {
			if status, body := answerOf(t, r); status != 200 || !strings.HasPrefix(body, begins) {
				t.Errorf("%s: %d %.30q, want %q", how, status, body, begins)
			}
		}
	}
	send(t, c, text)
	check("in one piece")
	for i := range text {
		send(t, c, text[i:i+1])
	}
	check("byte by byte")
	// A reader that is slow makes the answers wait in the backend; they come whole and in order.
	const times = 40
	for range times {
		send(t, c, text)
	}
	for i := range times {
		check(fmt.Sprint("slowly ", i))
	}
}

// TestRefused: what the benchmark never sends is 400 and the end, so that a proxy that changes requests shows.
func TestRefused(t *testing.T) {
	for _, text := range []string{
		"PUT /s/00000000 HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET /z/00000000 HTTP/1.1\r\n\r\n",
		"GET /w/00000000 HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /u/00000000 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST /u/00000000 HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
	} {
		c := dial(t)
		r := bufio.NewReader(c)
		send(t, c, text)
		if status, _ := answerOf(t, r); status != 400 {
			t.Errorf("%q: %d, want 400", text, status)
		}
		if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
			t.Errorf("%q: then %q, %v; want the end", text, rest, err)
		}
	}
	c := dial(t)
	send(t, c, strings.Repeat("x", maxHead+1))
	if rest, _ := io.ReadAll(c); len(rest) != 0 {
		t.Errorf("an endless head is answered %q", rest)
	}
}

// TestWebSocket: the accept value is that of RFC 6455, section 1.3, and frames come back unmasked.
func TestWebSocket(t *testing.T) {
	c := dial(t)
	r := bufio.NewReader(c)
	send(t, c, "GET /w/00000000 HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	response, err := http.ReadResponse(r, nil)
	if err != nil || response.StatusCode != 101 || response.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%v, %v", response, err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	// Section 5.7: a masked "Hello", twice, the second one in two pieces.
	frame := "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
	send(t, c, frame+frame[:7])
	send(t, c, frame[7:])
	got := make([]byte, 14)
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, []byte("\x81\x05Hello\x81\x05Hello")) {
		t.Errorf("%q, %v", got, err)
	}
	send(t, c, "\x81\x05Hello") // not masked: a client's frame has to be
	if rest, _ := io.ReadAll(r); len(rest) != 0 {
		t.Errorf("a frame without a mask is answered %q", rest)
	}
}
