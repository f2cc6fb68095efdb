package load

import (
	"bytes"
	"errors"
	"fmt"
)

// A Message is what is said on a connection again and again: one request with its answer, or one WebSocket message each way.
type Message struct {
	// Head is a request's head, with ID where the request's id goes.
	Head []byte
	// Body follows it.
	Body []byte
	// Status and Length are what the answer has to have. Its body has to begin with the id and then Sum.
	Status, Length int
	Sum            []byte
	// Echo, where it is above 0, makes Head the request that switches the connection to WebSocket, and what is said then
	// messages of so many bytes, each of which has to come back.
	Echo int
}

// ID stands in a Head where the id of the request is to be: as many bytes as an id has.
const ID = "########"

// speech is one side of a dialogue: what is sent, and how the answer is read. One connection has one at a time.
type speech interface {
	// next prepares the next message.
	next(id uint32) (head, body []byte)
	// take reads an answer's next bytes, and says how many it used, and whether the answer has come whole. With an error,
	// kind is its count.
	take(in []byte) (used int, done bool, err error)
}

// The kinds of failure that reading an answer can have.
var (
	errStatus = errors.New("status")
	errLength = errors.New("length")
	errMixed  = errors.New("answer of another request")
)

// request is a speech in HTTP/1.1.
type request struct {
	head   []byte // this connection's own, patched
	at     int    // of the id; -1 where there is none
	body   []byte
	status int
	length int
	sum    []byte
	left   int // of the present answer's body; -1 before its head has come
	last   bool
}

func newRequest(m *Message) *request {
	return &request{head: bytes.Clone(m.Head), at: bytes.Index(m.Head, []byte(ID)), body: m.Body, status: m.Status, length: m.Length, sum: m.Sum, left: -1}
}

func (r *request) next(id uint32) (head, body []byte) {
	if r.at >= 0 {
		putID(r.head[r.at:], id)
	}
	r.left = -1
	return r.head, r.body
}

// putID writes an id in hexadecimal.
func putID(dst []byte, id uint32) {
	const digits = "0123456789abcdef"
	for i := range len(ID) {
		dst[i] = digits[id>>(28-4*i)&15]
	}
}

func (r *request) take(in []byte) (used int, done bool, err error) {
	if r.left < 0 {
		used, err = r.takeHead(in)
		if used == 0 || err != nil {
			return used, false, err
		}
	}
	n := min(r.left, len(in)-used)
	r.left -= n
	return used + n, r.left == 0, nil
}

// takeHead reads an answer's head when it has come whole, with the id in the body behind it.
func (r *request) takeHead(in []byte) (int, error) {
	end := bytes.Index(in, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, nil
	}
	head := in[:end+2]
	end += 4
	if status := statusOf(head); status != r.status {
		return 0, fmt.Errorf("%w: %q", errStatus, firstLine(head))
	}
	length, closes := fields(head)
	if r.status == 101 {
		length = 0
	}
	if length != r.length {
		return 0, fmt.Errorf("%w: Content-Length %d, not %d", errLength, length, r.length)
	}
	if r.at >= 0 && r.length >= len(ID) {
		if len(in) < end+len(ID)+len(r.sum) {
			return 0, nil
		}
		if want := r.head[r.at : r.at+len(ID)]; !bytes.Equal(in[end:end+len(ID)], want) {
			return 0, fmt.Errorf("%w: %q, not %q", errMixed, in[end:end+len(ID)], want)
		}
		if sum := in[end+len(ID):][:len(r.sum)]; !bytes.Equal(sum, r.sum) {
			return 0, fmt.Errorf("%w: the backend got %q, not %q", errLength, sum, r.sum)
		}
	}
	r.left, r.last = length, closes
	return end, nil
}

func firstLine(head []byte) []byte {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	return line[:min(len(line), 80)]
}

// statusOf reads a status line, 0 where it is none.
func statusOf(head []byte) int {
	if len(head) < len("HTTP/1.1 200") || string(head[:9]) != "HTTP/1.1 " {
		return 0
	}
	return digits(head[9:12])
}

// digits reads a number, -1 where it is none.
func digits(b []byte) int {
	n := 0
	for _, d := range b {
		if d < '0' || d > '9' || n > 1<<30 {
			return -1
		}
		n = n*10 + int(d-'0')
	}
	if len(b) == 0 {
		return -1
	}
	return n
}

// fields returns the Content-Length of an answer, -1 where it has none or also another framing, and whether the connection
// ends with it. Names are compared by length first: of most lines nothing else is looked at.
func fields(head []byte) (length int, closes bool) {
	length = -1
	for len(head) > 0 {
		var line []byte
		if i := bytes.IndexByte(head, '\n'); i >= 0 {
			line, head = head[:i], head[i+1:]
		} else {
			line, head = head, nil
		}
		switch colon := bytes.IndexByte(line, ':'); {
		case colon == len("Content-Length") && bytes.EqualFold(line[:colon], []byte("Content-Length")):
			length = digits(bytes.TrimSpace(line[colon+1:]))
		case colon == len("Connection") && bytes.EqualFold(line[:colon], []byte("Connection")):
			closes = bytes.EqualFold(bytes.TrimSpace(line[colon+1:]), []byte("close"))
		case colon == len("Transfer-Encoding") && bytes.EqualFold(line[:colon], []byte("Transfer-Encoding")):
			return -1, closes
		}
	}
	return length, closes
}

// echo is a speech in WebSocket messages (RFC 6455, section 5.2) of one frame each.
type echo struct {
	frame []byte
	size  int
}

// The first bytes of a frame: one, final, binary; the mask's bit is in the second, before the length.
const (
	opBinary  = 0x82
	masked    = 0x80
	frameHead = 2
	maskSize  = 4
)

func newEcho(size int) *echo {
	frame := make([]byte, frameHead+maskSize+size)
	frame[0], frame[1] = opBinary, masked|byte(size)
	// Any mask is one; this one is not that which changes nothing.
	copy(frame[frameHead:], "\x5a\xa5\x3c\xc3")
	return &echo{frame, size}
}

func (e *echo) next(id uint32) (head, body []byte) {
	payload := e.frame[frameHead+maskSize:]
	putID(payload, id)
	return e.frame, nil
}

func (e *echo) take(in []byte) (used int, done bool, err error) {
	if len(in) < frameHead+e.size {
		return 0, false, nil
	}
	if in[0] != opBinary || int(in[1]) != e.size {
		return 0, false, fmt.Errorf("%w: frame %x, not of %d bytes", errLength, in[:frameHead], e.size)
	}
	mask, sent := e.frame[frameHead:frameHead+maskSize], e.frame[frameHead+maskSize:]
	for i, b := range in[frameHead : frameHead+e.size] {
		if b != sent[i]^mask[i%maskSize] {
			return 0, false, fmt.Errorf("%w: byte %d of a message differs", errMixed, i)
		}
	}
	return frameHead + e.size, true, nil
}
