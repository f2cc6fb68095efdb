package vectors

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Request is a request as a Pod got it.
type Request struct {
	// Line is the request line, Fields the field lines; without their ends.
	Line   string
	Fields []string
	// Body is without its framing; Raw is everything, byte for byte.
	Body string
	Raw  []byte
}

// Method returns the method of the request line.
func (q Request) Method() string {
	method, _, _ := strings.Cut(q.Line, " ")
	return method
}

// Target returns the target of the request line.
func (q Request) Target() string {
	_, rest, _ := strings.Cut(q.Line, " ")
	target, _, _ := strings.Cut(rest, " ")
	return target
}

// ReadRequest reads one request as strictly as the proxy promises to write it: CRLF, "Name: value" with one space, a target that begins
// with a slash, one Host, one framing, chunks without extensions and trailers. The error is io.EOF where nothing came,
// io.ErrUnexpectedEOF where the request is not whole, a *Violation for what the proxy must never send, else the reader's own.
func ReadRequest(br *bufio.Reader) (Request, error) {
	r := wire{br: br}
	err := r.request()
	if errors.Is(err, io.EOF) && len(r.q.Raw) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return r.q, err
}

// Violation is a breach of what ReadRequest expects.
type Violation struct{ what string }

// Error returns what is wrong.
func (v *Violation) Error() string { return v.what }

func violation(format string, args ...any) error {
	return &Violation{fmt.Sprintf(format, args...)}
}

// wire reads one request.
type wire struct {
	br      *bufio.Reader
	q       Request
	length  int // -1: none was announced
	chunked bool
	hosts   int
}

func (r *wire) line() (string, error) {
	s, err := r.br.ReadString('\n')
	r.q.Raw = append(r.q.Raw, s...)
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(s, "\r\n") || strings.ContainsAny(s[:len(s)-2], "\r\x00") {
		return "", violation("line %.100q", s)
	}
	return s[:len(s)-2], nil
}

func (r *wire) request() (err error) {
	r.length = -1
	if r.q.Line, err = r.line(); err != nil {
		return err
	}
	if w := strings.Split(r.q.Line, " "); len(w) != 3 || w[0] == "" || !strings.HasPrefix(w[1], "/") || w[2] != "HTTP/1.1" {
		return violation("request line %.100q", r.q.Line)
	}
	for {
		s, err := r.line()
		if err != nil {
			return err
		}
		if s == "" {
			break
		}
		if err := r.field(s); err != nil {
			return err
		}
	}
	if r.hosts != 1 || r.chunked && r.length >= 0 {
		return violation("%d Host fields, chunked %v, length %d in %q", r.hosts, r.chunked, r.length, r.q.Fields)
	}
	if r.chunked {
		return r.chunks()
	}
	b, err := r.bytes(max(r.length, 0))
	r.q.Body = string(b)
	return err
}

func (r *wire) field(s string) error {
	name, value, ok := strings.Cut(s, ": ")
	if !ok || name == "" || strings.ContainsAny(name, " \t_") || strings.Trim(value, " \t") != value {
		return violation("field line %.100q", s)
	}
	r.q.Fields = append(r.q.Fields, s)
	switch strings.ToLower(name) {
	case "host":
		r.hosts++
	case "content-length":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || r.length >= 0 || strconv.Itoa(n) != value {
			return violation("field line %.100q behind length %d", s, r.length)
		}
		r.length = n
	case "transfer-encoding":
		if r.chunked || value != "chunked" {
			return violation("field line %.100q", s)
		}
		r.chunked = true
	}
	return nil
}

// bytes reads exactly n bytes.
func (r *wire) bytes(n int) ([]byte, error) {
	at := len(r.q.Raw)
	r.q.Raw = append(r.q.Raw, make([]byte, n)...)
	m, err := io.ReadFull(r.br, r.q.Raw[at:])
	r.q.Raw = r.q.Raw[:at+m]
	return r.q.Raw[at:], err
}

// chunks reads a chunked body as the codec writes it: no extensions, no trailers.
func (r *wire) chunks() error {
	var body strings.Builder
	for {
		s, err := r.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(s, 16, 24)
		if err != nil || strconv.FormatUint(size, 16) != s {
			return violation("chunk size %.100q", s)
		}
		b, err := r.bytes(int(size))
		if err != nil {
			return err
		}
		body.Write(b)
		end, err := r.line()
		switch {
		case err != nil:
			return err
		case end != "":
			return violation("%.100q behind a chunk", end)
		case size == 0:
			r.q.Body = body.String()
			return nil
		}
	}
}
