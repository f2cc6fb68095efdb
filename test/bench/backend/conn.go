package backend

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"

	"podlane.dev/podlane/test/bench/loop"
)

// conn is one connection of a proxy.
type conn struct {
	s       *Server
	fd      int
	partial []byte // of a head or a frame that has not come whole
	out     []byte // what the socket did not take yet
	body    int    // bytes of the present upload that have not come
	size    int    // of the present upload
	id      [IDSize]byte
	frames  bool // it has switched to WebSocket
	closing bool // it ends when out has left
	closed  bool
}

// Ready writes what waits, and then reads until there is no more.
func (c *conn) Ready(e loop.Edge) {
	if len(c.out) > 0 && !c.flush() {
		return
	}
	for !c.closed && len(c.out) == 0 {
		n, again, err := loop.Read(c.fd, c.s.scratch)
		if again {
			return
		}
		if n <= 0 || err != nil {
			c.close()
			return
		}
		c.take(c.s.scratch[:n])
		if n < len(c.s.scratch) && len(c.out) == 0 && !e.Ended() {
			return
		}
	}
}

// take answers every request in what has come, and keeps what is not whole.
func (c *conn) take(in []byte) {
	if len(c.partial) > 0 {
		c.partial = append(c.partial, in...)
		in = c.partial
	}
	for len(in) > 0 && !c.closed {
		used := c.step(in)
		if used == 0 {
			break
		}
		in = in[used:]
	}
	// in may be part of partial: copying forward is what append does right.
	c.partial = append(c.partial[:0], in...)
	if len(c.partial) > maxHead {
		c.close()
	}
}

// step takes one part of a request: a head, some of a body, or a frame. It returns 0 when that has not come whole.
func (c *conn) step(in []byte) int {
	switch {
	case c.frames:
		return c.frame(in)
	case c.body > 0:
		n := min(c.body, len(in))
		if c.body -= n; c.body == 0 {
			c.uploaded()
		}
		return n
	default:
		return c.head(in)
	}
}

// head takes a request's head and answers it, unless it has a body.
func (c *conn) head(in []byte) int {
	end := bytes.Index(in, []byte("\r\n\r\n"))
	if end < 0 {
		return 0
	}
	end += 4
	head := in[:end]
	get, isGet := bytes.CutPrefix(head, []byte("GET "))
	if post, ok := bytes.CutPrefix(head, []byte("POST "+Upload)); ok && len(post) > IDSize {
		copy(c.id[:], post)
		c.size = number(field(head, "content-length"))
		c.body = c.size
		if c.size <= 0 {
			c.refuse()
		}
		return end
	}
	if !isGet || len(get) < len(Small)+IDSize {
		c.refuse()
		return end
	}
	// A proxy that closes says so; the answers need not.
	id := get[len(Small) : len(Small)+IDSize]
	switch string(get[:len(Small)]) {
	case Small:
		copy(c.s.small[c.s.bodyAt:], id)
		c.send(c.s.small, c.s.bodyAt+IDSize)
	case Large:
		copy(c.s.large[c.s.largeAt:], id)
		c.send(c.s.large, c.s.largeAt+IDSize)
	case Head:
		c.sendOwn(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(head), head))
	case Socket:
		c.upgrade(head)
	default:
		c.refuse()
	}
	return end
}

// uploaded answers an upload of which everything has come.
func (c *conn) uploaded() {
	body := c.s.sum[c.s.sumAt:]
	copy(body, c.id[:])
	n := c.size
	for i := IDSize + SumSize - 1; i >= IDSize; i-- {
		body[i] = byte('0' + n%10)
		n /= 10
	}
	c.send(c.s.sum, len(c.s.sum))
}

// upgrade switches to WebSocket (RFC 6455, section 4.2.2).
func (c *conn) upgrade(head []byte) {
	key := field(head, "sec-websocket-key")
	if !bytes.EqualFold(field(head, "upgrade"), []byte("websocket")) || len(key) == 0 {
		c.refuse()
		return
	}
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	c.frames = true
	c.sendOwn([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"))
}

// frame sends back one message of at most 125 bytes, unmasked as a server's are.
func (c *conn) frame(in []byte) int {
	const head, mask = 2, 4
	if len(in) < head {
		return 0
	}
	size := int(in[1] & 0x7f)
	if in[1]&0x80 == 0 || size > 125 {
		c.close()
		return head
	}
	if len(in) < head+mask+size {
		return 0
	}
	key, payload := in[head:head+mask], in[head+mask:head+mask+size]
	out := c.s.message[:head+size]
	out[0], out[1] = in[0], byte(size)
	for i, b := range payload {
		out[head+i] = b ^ key[i%mask]
	}
	c.send(out, len(out))
	return head + mask + size
}

// refuse answers what the benchmark never asks for.
func (c *conn) refuse() {
	c.closing = true
	c.sendOwn([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
}

// send writes an answer that the server uses again, with another id before patched.
func (c *conn) send(answer []byte, patched int) {
	if c.closed {
		return
	}
	if len(c.out) > 0 { // a pipelined request, behind an answer that has not left
		c.out = append(bytes.Clone(c.out), answer...)
		return
	}
	n, again, err := loop.Write(c.fd, answer, nil)
	switch {
	case err != nil:
		c.close()
	case again || n < patched:
		c.out = bytes.Clone(answer[n:])
	default:
		c.out = answer[n:]
	}
}

// sendOwn writes an answer that nobody else has.
func (c *conn) sendOwn(answer []byte) {
	c.send(answer, 0)
	if c.closing && len(c.out) == 0 {
		c.close()
	}
}

// flush writes what waits, and reports whether nothing does any more.
func (c *conn) flush() bool {
	n, again, err := loop.Write(c.fd, c.out, nil)
	if err != nil {
		c.close()
		return false
	}
	if !again {
		c.out = c.out[n:]
	}
	if len(c.out) == 0 && c.closing {
		c.close()
		return false
	}
	return len(c.out) == 0
}

func (c *conn) close() {
	if !c.closed {
		c.closed = true
		c.s.loop.Remove(c.fd)
	}
}

// field returns the value of a head's first field of a name in lower case, nil where there is none.
func field(head []byte, name string) []byte {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		key, value, ok := bytes.Cut(line, []byte(":"))
		if ok && len(key) == len(name) && bytes.EqualFold(key, []byte(name)) {
			return bytes.TrimSpace(value)
		}
	}
	return nil
}

// number reads a Content-Length, 0 where there is none that counts.
func number(digits []byte) int {
	n := 0
	for _, d := range digits {
		if d < '0' || d > '9' || n > 1<<30 {
			return 0
		}
		n = n*10 + int(d-'0')
	}
	return n
}
