package bodies

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"podlane.dev/podlane/proxy/exchange"
)

// SpoolLimits bound one Spool.
type SpoolLimits struct {
	// Memory is how many bytes are kept in memory (8 KiB, as client-body-buffer-size has it) before the body goes to a file. It is
	// rounded up to whole pieces of 8 KiB.
	Memory int64
	// Total is how many bytes the body may have; 0 means that the Spooler alone bounds it.
	Total int64
}

// pieceSize is the unit of memory, and readSize of reading a file back.
const (
	pieceSize = 8 << 10
	readSize  = 32 << 10
)

type piece struct {
	n int
	b [pieceSize]byte
}

var (
	pieces  = sync.Pool{New: func() any { return new(piece) }}
	readers = sync.Pool{New: func() any { return new([readSize]byte) }}
)

// Spool is a request body that has been read before it is sent: so a Pod is not kept waiting by a slow client, and the request can be sent
// again. It is filled by Write or Fill, then pulled as an exchange.Body, any number of times: Rewind begins anew. Short bodies lie in memory,
// longer ones in an unlinked file but for their end.
//
// A Spool belongs to one goroutine at a time, the exchange's or the upload's, and starts none. Close gives back what it holds: give it to
// the exchange to own as soon as it is made. Reading the file may wait for the disk, which nothing interrupts.
type Spool struct {
	s      *Spooler
	limits SpoolLimits

	// memory holds the end of the body: all of it while there is no file.
	memory   []*piece
	file     *os.File
	onDisk   int64 // bytes of the body in file
	reserved int64 // of the Spooler's, at least onDisk
	length   int64
	err      error // why it cannot be used any more

	offset int64 // of the next byte from file
	at     int   // the next piece of memory
	reader *[readSize]byte
}

// Spool returns an empty Spool.
func (s *Spooler) Spool(limits SpoolLimits) *Spool {
	const most = 1 << 40 // more than there is, and far from what rounding up would overflow
	limits.Memory = (min(max(limits.Memory, 1), most) + pieceSize - 1) / pieceSize * pieceSize
	return &Spool{s: s, limits: limits}
}

// Fill writes all that source gives. The error is the source's own, or one of Write.
func (p *Spool) Fill(source exchange.Body) error {
	for {
		b, err := source.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := p.Write(b); err != nil {
			return err
		}
	}
}

// Write appends b to the body. It implements io.Writer; Fill does it for a whole body, and a reader that has to watch each wait for the
// client calls it for each part. Errors: ErrSpoolTooLarge, and a *SpoolError; the Spool can then only be closed. It must not be called
// after Next.
func (p *Spool) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	if p.limits.Total > 0 && int64(len(b)) > p.limits.Total-p.length {
		return 0, p.fail(ErrSpoolTooLarge)
	}
	if p.file == nil && p.length+int64(len(b)) > p.limits.Memory {
		f, err := p.s.open()
		if err != nil {
			return 0, p.fail(err)
		}
		p.file = f
		if err := p.flush(); err != nil {
			return 0, p.fail(err)
		}
	}
	if err := p.keep(b); err != nil {
		return 0, p.fail(err)
	}
	p.length += int64(len(b))
	return len(b), nil
}

// keep puts b into memory, or into the file: there small parts are gathered in one piece of memory first.
func (p *Spool) keep(b []byte) error {
	for len(b) > 0 {
		if p.file != nil && (len(p.memory) > 0 && p.memory[0].n == pieceSize || len(b) >= pieceSize) {
			if err := p.flush(); err != nil {
				return err
			}
			if len(b) >= pieceSize {
				return p.store(b)
			}
		}
		if n := len(p.memory); n == 0 || p.memory[n-1].n == pieceSize {
			fresh := pieces.Get().(*piece)
			fresh.n = 0
			p.memory = append(p.memory, fresh)
		}
		last := p.memory[len(p.memory)-1]
		n := copy(last.b[last.n:], b)
		last.n += n
		b = b[n:]
	}
	return nil
}

// flush moves what is in memory to the file.
func (p *Spool) flush() error {
	for _, m := range p.memory {
		if err := p.store(m.b[:m.n]); err != nil {
			return err
		}
	}
	p.forget()
	return nil
}

// store appends b to the file.
func (p *Spool) store(b []byte) error {
	if err := p.s.reserve(int64(len(b))); err != nil {
		return err
	}
	p.reserved += int64(len(b))
	if _, err := p.file.WriteAt(b, p.onDisk); err != nil {
		return p.s.broken(err)
	}
	p.onDisk += int64(len(b))
	return nil
}

// forget gives the memory back.
func (p *Spool) forget() {
	for i, m := range p.memory {
		pieces.Put(m)
		p.memory[i] = nil
	}
	p.memory = p.memory[:0]
}

func (p *Spool) fail(err error) error {
	p.err = err
	return err
}

// Length implements exchange.Body: the number of bytes that have been written.
func (p *Spool) Length() int64 { return p.length }

// Ready reports that no peer has to be waited for.
func (*Spool) Ready() bool { return true }

// OnDisk reports whether a part of the body is in a file.
func (p *Spool) OnDisk() bool { return p.file != nil }

// Rewind makes the body begin anew. What Next has returned is not valid any more.
func (p *Spool) Rewind() { p.offset, p.at = 0, 0 }

// Next implements exchange.Body. Errors beside io.EOF: a *SpoolError where the disk fails, and os.ErrClosed after Close.
func (p *Spool) Next() ([]byte, error) {
	switch {
	case p.err != nil:
		return nil, p.err
	case p.offset < p.onDisk:
		return p.load()
	case p.at < len(p.memory):
		m := p.memory[p.at]
		p.at++
		return m.b[:m.n], nil
	}
	return nil, io.EOF
}

// load reads the next bytes of the file.
func (p *Spool) load() ([]byte, error) {
	if p.reader == nil {
		p.reader = readers.Get().(*[readSize]byte)
	}
	b := p.reader[:min(readSize, p.onDisk-p.offset)]
	if n, err := p.file.ReadAt(b, p.offset); err != nil {
		if errors.Is(err, io.EOF) {
			// Not the end of the body, nor that of a client who breaks off: whoever pulls must not take it for either.
			err = fmt.Errorf("the file ends after %d bytes of %d", p.offset+int64(n), p.onDisk)
		}
		return nil, p.fail(p.s.broken(err))
	}
	p.offset += int64(len(b))
	return b, nil
}

// Close gives back the file and all memory. It may be called again.
func (p *Spool) Close() error {
	if p.file != nil {
		p.s.close(p.file, p.reserved)
		p.file, p.onDisk, p.reserved = nil, 0, 0
	}
	p.forget()
	if p.reader != nil {
		readers.Put(p.reader)
		p.reader = nil
	}
	p.err = os.ErrClosed
	return nil
}
