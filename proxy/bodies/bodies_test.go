package bodies

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
)

// script is a Body that gives what the test wrote down, piece by piece, from one buffer that it overwrites as codecs do.
type script struct {
	pieces [][]byte
	// err ends it in place of io.EOF.
	err error
	// ready answers Ready before each piece; nil says that the next piece is always there.
	ready func(next int) bool
	at    int
	buf   []byte
	long  int64 // Length; 0 is unknown
	// pulled counts calls of Next.
	pulled int
}

func (s *script) Next() ([]byte, error) {
	s.pulled++
	for i := range s.buf {
		s.buf[i] = '!' // what was handed out is not valid any more
	}
	if s.at == len(s.pieces) {
		if s.err != nil {
			return nil, s.err
		}
		return nil, io.EOF
	}
	s.buf = append(s.buf[:0], s.pieces[s.at]...)
	s.at++
	return s.buf, nil
}

func (s *script) Length() int64 {
	if s.long == 0 {
		return -1
	}
	return s.long
}

func (s *script) Ready() bool { return s.ready == nil || s.ready(s.at) }

// cut returns data in pieces of n bytes.
func cut(data []byte, n int) [][]byte {
	var pieces [][]byte
	for len(data) > n {
		pieces = append(pieces, data[:n])
		data = data[n:]
	}
	return append(pieces, data)
}

// readAll pulls b to its end.
func readAll(t testing.TB, b exchange.Body) []byte {
	t.Helper()
	got, err := pullAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// pullAll pulls b until it ends; the error is nil for io.EOF. It fails bodies that give nothing, or go on after their end.
func pullAll(b exchange.Body) ([]byte, error) {
	var got bytes.Buffer
	for {
		p, err := b.Next()
		if err != nil {
			if len(p) > 0 {
				return nil, errors.New("bytes beside an error")
			}
			if _, again := b.Next(); again == nil {
				return nil, errors.New("a body goes on after its end")
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return got.Bytes(), err
		}
		if len(p) == 0 {
			return nil, errors.New("a piece of no bytes")
		}
		got.Write(p)
	}
}
