package soak_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// loadKind is one kind of client. exchange returns how many bytes of bodies went through, and an error for what must not happen.
type loadKind struct {
	name     string
	clients  int
	pause    time.Duration
	exchange func(u *user) (int64, error)
}

// loads are the kinds. The pauses keep the whole below what two processors can do, so that failures are not those of overload.
var loads = []loadKind{
	{"small GETs", 4, 2 * time.Millisecond, func(u *user) (int64, error) { return u.check(request{download: u.random.IntN(2000)}) }},
	{"GETs on new connections", 2, 15 * time.Millisecond, func(u *user) (int64, error) { return u.check(request{download: 500, close: true}) }},
	{"slow answers", 4, 5 * time.Millisecond, func(u *user) (int64, error) {
		return u.check(request{download: 3000, ms: 20 + u.random.IntN(150)})
	}},
	{"uploads", 2, 10 * time.Millisecond, func(u *user) (int64, error) {
		return u.check(request{upload: u.random.IntN(300_000), download: 200})
	}},
	{"chunked both ways", 2, 10 * time.Millisecond, func(u *user) (int64, error) {
		return u.check(request{upload: u.random.IntN(200_000), download: u.random.IntN(200_000), chunked: true})
	}},
	{"big downloads", 1, 50 * time.Millisecond, func(u *user) (int64, error) { return u.check(request{download: 4 << 20}) }},
	{"WebSockets", 2, 10 * time.Millisecond, (*user).upgrade},
	{"slow clients", 3, 5 * time.Millisecond, (*user).dawdle},
	{"aborting clients", 3, 10 * time.Millisecond, (*user).abort},
	{"resetting Pods", 2, 10 * time.Millisecond, (*user).resetByPod},
	{"malformed requests", 1, 30 * time.Millisecond, (*user).malformed},
}

// limit is how long one exchange may take.
const limit = 30 * time.Second

// user is one client, of one goroutine, and the connection that it keeps.
type user struct {
	name    string
	address string
	random  *rand.Rand
	sent    int
	conn    net.Conn
	in      *bufio.Reader
}

func (u *user) close() {
	if u.conn != nil {
		u.conn.Close()
		u.conn = nil
	}
}

// connect makes sure of a connection.
func (u *user) connect() error {
	if u.conn == nil {
		c, err := net.DialTimeout("tcp", u.address, limit)
		if err != nil {
			return err
		}
		u.conn, u.in = c, bufio.NewReader(c)
	}
	return u.conn.SetDeadline(time.Now().Add(limit))
}

// request is one exchange with /check.
type request struct {
	upload, download, ms int
	chunked, close       bool
}

// text returns the whole request with its body, and its id.
func (u *user) text(q request) (text []byte, id string, body []byte) {
	u.sent++
	id = fmt.Sprintf("%s-%d", u.name, u.sent)
	body = content(id, q.upload)
	method, query := http.MethodGet, fmt.Sprintf("id=%s&n=%d", id, q.download)
	if q.ms > 0 {
		query += fmt.Sprintf("&ms=%d", q.ms)
	}
	var b bytes.Buffer
	if q.upload > 0 {
		method = http.MethodPost
	}
	if q.chunked {
		query += "&chunked=1"
	}
	fmt.Fprintf(&b, "%s /check?%s HTTP/1.1\r\nHost: %s\r\nX-Body-Sha256: %s\r\n", method, query, webHost, digest(body))
	if q.close {
		b.WriteString("Connection: close\r\n")
	}
	switch {
	case q.upload > 0 && q.chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for rest := body; len(rest) > 0; {
			n := min(1+u.random.IntN(20_000), len(rest))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		b.WriteString("0\r\n\r\n")
	default:
		if q.upload > 0 {
			fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
		}
		b.WriteString("\r\n")
		b.Write(body)
	}
	return b.Bytes(), id, body
}

// check makes an exchange that must succeed, and compares every byte.
func (u *user) check(q request) (n int64, err error) {
	if err := u.connect(); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil || q.close {
			u.close()
		}
	}()
	text, id, body := u.text(q)
	if _, err := u.conn.Write(text); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	got, err := u.answer(id, body, u.in)
	return int64(len(body) + got), err
}

// answer reads an answer of /check and returns the length of its body.
func (u *user) answer(id string, sent []byte, in *bufio.Reader) (int, error) {
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, fmt.Errorf("read the head: %w", err)
	}
	got, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return 0, fmt.Errorf("read the body: %w", err)
	case res.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("status %d: %s", res.StatusCode, bytes.TrimSpace(got))
	case res.Header.Get("X-Id") != id:
		return 0, fmt.Errorf("wrong answer: %s got that of %q", id, res.Header.Get("X-Id"))
	case res.Header.Get("X-Received-Sha256") != digest(sent):
		return 0, fmt.Errorf("wrong bytes: the Pod did not receive what %s sent", id)
	case res.Header.Get("X-Body-Sha256") != digest(got):
		return 0, fmt.Errorf("wrong bytes: %s did not receive what the Pod sent", id)
	}
	if res.Close {
		u.close()
	}
	return len(got), nil
}

// upgrade speaks over a tunnel for a while.
func (u *user) upgrade() (n int64, err error) {
	if err := u.connect(); err != nil {
		return 0, err
	}
	defer u.close()
	fmt.Fprintf(u.conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", webHost)
	res, err := http.ReadResponse(u.in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return 0, fmt.Errorf("upgrade: %v %w", res, err)
	}
	for range 1 + u.random.IntN(20) {
		u.sent++
		message := content(fmt.Sprintf("%s-%d", u.name, u.sent), 1+u.random.IntN(40_000))
		back := make([]byte, len(message))
		if _, err := u.conn.Write(message); err != nil {
			return n, fmt.Errorf("tunnel: %w", err)
		}
		if _, err := io.ReadFull(u.in, back); err != nil {
			return n, fmt.Errorf("tunnel: %w", err)
		}
		if !bytes.Equal(message, back) {
			return n, errors.New("wrong bytes came back through a tunnel")
		}
		n += int64(2 * len(message))
	}
	return n, nil
}

// dawdle sends and reads in small pieces with pauses.
func (u *user) dawdle() (int64, error) {
	if err := u.connect(); err != nil {
		return 0, err
	}
	defer u.close()
	text, id, body := u.text(request{upload: 60_000, download: 300_000})
	for len(text) > 0 {
		n := min(len(text), 8000)
		if _, err := u.conn.Write(text[:n]); err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
		text = text[n:]
		time.Sleep(5 * time.Millisecond) // the dawdling
	}
	got, err := u.answer(id, body, bufio.NewReader(slowly{u.in}))
	return int64(len(body) + got), err
}

// slowly reads a little at a time.
type slowly struct{ r io.Reader }

func (s slowly) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond) // the dawdling
	return s.r.Read(b[:min(len(b), 4000)])
}

// abort goes away in the middle of something, by FIN or RST.
func (u *user) abort() (int64, error) {
	if err := u.connect(); err != nil {
		return 0, err
	}
	defer u.close()
	if u.random.IntN(2) == 0 {
		_ = u.conn.(*net.TCPConn).SetLinger(0)
	}
	kinds := []request{{download: 100, ms: 300}, {upload: 200_000, download: 1}, {download: 2 << 20}, {upload: 100_000, chunked: true}}
	text, _, _ := u.text(kinds[u.random.IntN(len(kinds))])
	if u.random.IntN(2) == 0 {
		text = text[:1+u.random.IntN(len(text))]
	}
	if _, err := u.conn.Write(text); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	if u.random.IntN(2) == 0 {
		_ = u.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = u.in.Read(make([]byte, 10_000))
	}
	return 0, nil
}

// resetByPod asks for an answer that the Pod breaks off: the client gets 502, or sees that what it got is not whole.
func (u *user) resetByPod() (int64, error) {
	if err := u.connect(); err != nil {
		return 0, err
	}
	at := []string{"start", "head", "body"}[u.random.IntN(3)]
	fmt.Fprintf(u.conn, "POST /reset?at=%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n", at, faultyHost)
	res, err := http.ReadResponse(u.in, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
	}
	if err != nil {
		u.close()
	}
	switch {
	case err == nil && res.StatusCode == http.StatusBadGateway:
	case err != nil && at == "body":
	case err != nil:
		return 0, fmt.Errorf("reset at %s: %w", at, err)
	default:
		return 0, fmt.Errorf("reset at %s: %d, taken for whole", at, res.StatusCode)
	}
	if res != nil && res.Close {
		u.close()
	}
	return 0, nil
}

// malformed sends what is no request, and is told so.
func (u *user) malformed() (int64, error) {
	if err := u.connect(); err != nil {
		return 0, err
	}
	defer u.close()
	texts := []string{
		"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: " + webHost + "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 40_000) + "\r\n\r\n",
	}
	if _, err := io.WriteString(u.conn, texts[u.random.IntN(len(texts))]); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	res, err := http.ReadResponse(u.in, nil)
	if err != nil {
		return 0, fmt.Errorf("a malformed request: %w", err)
	}
	_, err = io.Copy(io.Discard, res.Body)
	if res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		return 0, fmt.Errorf("a malformed request: status %d", res.StatusCode)
	}
	return 0, err
}
