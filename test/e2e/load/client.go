package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// patience is how long one request may take, connecting included.
const patience = 30 * time.Second

// client is one client and its connection, of one goroutine.
type client struct {
	o      *Options
	name   string
	dialer net.Dialer
	conn   net.Conn
	in     *bufio.Reader
	sent   int
	// answered says that the last request got the head of an answer, at least.
	answered bool
}

// exchange sends one request, checks the answer and returns the name of the Pod that gave it.
func (c *client) exchange(ctx context.Context) (pod string, err error) {
	c.sent++
	c.answered = false
	id := fmt.Sprintf("%s-%d", c.name, c.sent)
	if err := c.connect(ctx); err != nil {
		return "", err
	}
	keep := false
	defer func() {
		if err != nil || !keep {
			c.close()
		}
	}()
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	body := content(id, c.o.Upload)
	if _, err := c.conn.Write(c.request(id, body)); err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	answer, err := http.ReadResponse(c.in, &http.Request{Method: c.o.Method})
	if err != nil {
		return "", fmt.Errorf("read the head: %w", err)
	}
	c.answered = true
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", fmt.Errorf("read the body: %w", err)
	}
	keep = c.o.KeepAlive && !answer.Close
	return answer.Header.Get("X-Pod"), check(answer, id, body, got)
}

// check says what is wrong with an answer: its status, or that it is not whole, or another request's.
func check(answer *http.Response, id string, sent, got []byte) error {
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", answer.StatusCode, bytes.TrimSpace(got))
	}
	if have := answer.Header.Get("X-Id"); have != id {
		return &IntegrityError{fmt.Sprintf("request %s got the answer of %q", id, have)}
	}
	if have, want := answer.Header.Get("X-Received-Sha256"), digest(sent); have != want {
		return &IntegrityError{fmt.Sprintf("request %s: the Pod received a body of digest %s, want %s", id, have, want)}
	}
	if have, want := digest(got), answer.Header.Get("X-Body-Sha256"); have != want {
		return &IntegrityError{fmt.Sprintf("request %s: the answer has digest %s, the Pod sent %s", id, have, want)}
	}
	return nil
}

// An IntegrityError is a byte that went to the wrong place: worse than any failed request.
type IntegrityError struct{ text string }

func (e *IntegrityError) Error() string { return e.text }

// request is the whole request, written in one piece.
func (c *client) request(id string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s?id=%s&n=%d HTTP/1.1\r\nHost: %s\r\nUser-Agent: podlane-test-load\r\n", c.o.Method, c.o.path(), id, c.o.Download, c.o.Host)
	if len(body) > 0 || c.o.Method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Length: %d\r\nX-Body-Sha256: %s\r\n", len(body), digest(body))
	}
	if !c.o.KeepAlive {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// connect makes sure of a connection. One that the other side has closed while it was idle is left, as every client that
// keeps connections does.
func (c *client) connect(ctx context.Context) error {
	if c.conn != nil && idle(c.conn) {
		return nil
	}
	c.close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := c.dialer.DialContext(ctx, "tcp", c.o.Address())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.conn, c.in = conn, bufio.NewReaderSize(conn, 16<<10)
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// idle reports whether an open connection has nothing to read, not even its end.
func idle(conn net.Conn) bool {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && quiet
}

// content is n bytes that no other id has.
func content(id string, n int) []byte {
	body := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(id))).Read(body) // never fails
	return body
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// kind is an error without what differs each time: addresses and ids.
func kind(err error) string {
	text := err.Error()
	if op, ok := errors.AsType[*net.OpError](err); ok {
		text, _, _ = strings.Cut(text, op.Op+" "+op.Net)
		text += op.Op + ": " + op.Err.Error()
	}
	return text
}
