package bodies

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"

	"podlane.dev/podlane/proxy/exchange"
)

// coding makes encoders of one content coding at one level, and keeps them for the next answer.
type coding struct {
	name      string
	minLength int64
	types     []string
	encoders  sync.Pool
	// held is the number of bytes of a body after which the encoder is made to give out what it holds. 0 leaves that to the encoder.
	held int
}

func newCoding(name string, s Coding) *coding {
	return &coding{name: name, minLength: s.MinLength, types: append([]string{"text/html"}, s.Types...)}
}

// newGzip uses a package that is not the standard library's because it is two to three times as fast for the same size: at level 1 350 MB
// a second against 165, at level 5 157 against 52, on text of 1 MB.
func newGzip(s Coding) (*coding, error) {
	if s.Level < gzip.BestSpeed || s.Level > gzip.BestCompression {
		return nil, fmt.Errorf("gzip level %d is not from %d to %d", s.Level, gzip.BestSpeed, gzip.BestCompression)
	}
	c := newCoding("gzip", s)
	c.encoders.New = func() any {
		e := &encoder{}
		e.writer, _ = gzip.NewWriterLevel(&e.out, s.Level) // which fails for other levels alone
		return e
	}
	return c, nil
}

// The windows of brotli, as powers of two. ngx_brotli's is 19: one of 18 costs half as much memory, and no more than a hundredth in
// size. From level 7 on a window above 16 has the encoder take 8 to 33 MB for its tables.
const (
	brotliWindow     = 18
	brotliBestWindow = 16
	brotliBest       = 7
)

// brotliHeld bounds what an encoder of brotli gathers before it gives anything out. Without it that is up to 1 MB, and its commands take as
// much again several times over; the answers are a hundredth smaller then.
const brotliHeld = 64 << 10

func newBrotli(s Coding) (*coding, error) {
	if s.Level < brotli.BestSpeed || s.Level > brotli.BestCompression {
		return nil, fmt.Errorf("brotli level %d is not from %d to %d", s.Level, brotli.BestSpeed, brotli.BestCompression)
	}
	o := brotli.WriterOptions{Quality: s.Level, LGWin: brotliWindow}
	if s.Level >= brotliBest {
		o.LGWin = brotliBestWindow
	}
	c := newCoding("br", s)
	c.held = brotliHeld
	c.encoders.New = func() any {
		e := &encoder{}
		e.writer = brotli.NewWriterOptions(&e.out, o)
		return e
	}
	return c, nil
}

// suiting returns c where a body of this media type and length is to be coded, else nil; c may be nil.
func (c *coding) suiting(kind []byte, length int64) *coding {
	if c == nil || len(kind) == 0 || length >= 0 && length < c.minLength {
		return nil
	}
	for i, b := range kind {
		if b == ';' {
			kind = kind[:i]
			break
		}
	}
	kind = trim(kind)
	for _, t := range c.types {
		if t == "*" || exchange.EqualFold(kind, t) {
			return c
		}
	}
	return nil
}

// encoder is what is kept of one answer for the next.
type encoder struct {
	writer interface {
		io.Writer
		Flush() error
		Close() error
		Reset(w io.Writer)
	}
	out output
}

// output is what an encoder has given out.
type output []byte

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	*o = append(*o, p...)
	return len(p), nil
}

const (
	// step is how much of a body is coded at a time, so that what comes out of it has a bound too.
	step = 16 << 10
	// enough is how much must have come out before it is passed on while more of the body is there.
	enough = 8 << 10
	// maxKept bounds the memory of an output that is kept.
	maxKept = 64 << 10
)

// take returns an encoder that has seen nothing.
func (c *coding) take() *encoder {
	e := c.encoders.Get().(*encoder)
	e.out = e.out[:0]
	e.writer.Reset(&e.out)
	return e
}

func (c *coding) give(e *encoder) {
	if cap(e.out) > maxKept {
		e.out = nil
	}
	c.encoders.Put(e)
}

// encoded is a Body whose source is coded as it is pulled. It has an encoder from the first byte to the last, or to the end of the exchange.
type encoded struct {
	source exchange.Body
	coding *coding
	active *atomic.Int64 // that counts this body
	e      *encoder
	in     []byte // of what the source gave last
	held   int    // bytes that went in since the encoder was flushed
	err    error  // at the end, or where the source broke
	ended  bool   // by Close, or the end
}

// Length implements exchange.Body: nobody knows.
func (b *encoded) Length() int64 { return -1 }

// Ready reports whether Next will return without a wait for the peer.
func (b *encoded) Ready() bool { return b.err != nil || len(b.in) > 0 || exchange.Ready(b.source) }

// Next implements exchange.Body. It asks its source for more only as long as that need not wait, but for the first time: what has come by
// then leaves, whatever it costs in size.
func (b *encoded) Next() ([]byte, error) {
	if b.err != nil {
		_ = b.Close()
		return nil, b.err
	}
	if b.e != nil {
		b.e.out = b.e.out[:0]
	}
	for {
		if len(b.in) == 0 {
			if err := b.pull(); errors.Is(err, io.EOF) {
				return b.end()
			} else if err != nil {
				return nil, b.fail(err)
			}
		}
		flushed, err := b.encode()
		if err != nil {
			return nil, b.fail(err)
		}
		if len(b.e.out) >= enough || flushed {
			return b.e.out, nil
		}
	}
}

// pull asks the source for more. An answer takes an encoder when its body has begun.
func (b *encoded) pull() error {
	p, err := b.source.Next()
	if b.e == nil && (err == nil || errors.Is(err, io.EOF)) {
		b.e = b.coding.take()
	}
	b.in = p
	return err
}

// encode codes a step, and reports whether nothing is left in the encoder.
func (b *encoded) encode() (flushed bool, err error) {
	n := min(len(b.in), step)
	if _, err := b.e.writer.Write(b.in[:n]); err != nil {
		return false, err
	}
	b.in = b.in[n:]
	b.held += n
	if (b.coding.held == 0 || b.held < b.coding.held) && (len(b.in) > 0 || exchange.Ready(b.source)) {
		return false, nil
	}
	b.held = 0
	return true, b.e.writer.Flush()
}

// end gives out the last bytes.
func (b *encoded) end() ([]byte, error) {
	if err := b.e.writer.Close(); err != nil {
		return nil, b.fail(err)
	}
	b.err = io.EOF
	return b.e.out, nil
}

func (b *encoded) fail(err error) error {
	b.err = err
	_ = b.Close()
	return err
}

// Close gives the encoder back, and does nothing where that was done.
func (b *encoded) Close() error {
	if b.ended {
		return nil
	}
	b.ended = true
	b.active.Add(-1)
	if b.e != nil {
		b.coding.give(b.e)
		b.e = nil
	}
	if b.err == nil {
		b.err = io.ErrClosedPipe
	}
	return nil
}
