package exchange

import (
	"io"
	"time"
)

// Body is a message body that is pulled: the reader asks for the next bytes when it has room for them, which is all the
// backpressure there is. A filter wraps a Body to change, count, limit or copy it. A Body is used by one goroutine at a time.
//
// A Body may say more of itself: by a method Ready, of which function Ready tells, and by being Paced.
type Body interface {
	// Next returns the next bytes, at least one, valid until the next call. It returns io.EOF when the body is complete (any
	// trailers are then in the message's Trailers), and another error when it is broken: the message must then be aborted.
	Next() ([]byte, error)
	// Length is the number of bytes in all if it is known before the first Next, else -1.
	Length() int64
}

// Ready reports whether b.Next will return without a wait for the peer, by b's own method Ready() bool. A Body without one, and one that
// cannot tell, is not ready: who gathers bytes then passes on what it has gathered before it calls Next, and nothing that has
// arrived is held back for as long as the peer is silent.
func Ready(b Body) bool {
	r, ok := b.(interface{ Ready() bool })
	return ok && r.Ready()
}

// Paced is a Body of which no more may be pulled before some time has passed. Waiting is its reader's business, because only the reader
// knows how to be interrupted. A Body that wraps a Paced one must be Paced too: what limits a rate is wrapped last.
type Paced interface {
	Body
	// Wait is how long to wait before Next is called; where it is not positive, Next may be called at once.
	Wait() time.Duration
}

// Text is a Body made of one string.
type Text struct {
	S    string
	done bool
}

// Next returns the whole text once.
func (t *Text) Next() ([]byte, error) {
	if t.done || t.S == "" {
		return nil, io.EOF
	}
	t.done = true
	return []byte(t.S), nil
}

// Length returns the length of the text in bytes.
func (t *Text) Length() int64 { return int64(len(t.S)) }

// Ready reports that nobody has to be waited for.
func (*Text) Ready() bool { return true }

// Own has c closed when the exchange has ended, however it ends: complete, cut short, or by a panic. It is for what a filter takes for one
// exchange and must give back: memory of a pool, a file, a place in a count. Close is called once, by the goroutine of the exchange, when
// nobody reads either body any more; what is owned last is closed first. An error of Close is c's own business.
func (x *Exchange) Own(c io.Closer) { x.owned = append(x.owned, c) }

// End closes what x owns. The engine calls it when both bodies have been read for the last time.
func (x *Exchange) End() {
	for n := len(x.owned); n > 0; n = len(x.owned) {
		c := x.owned[n-1]
		x.owned[n-1] = nil
		x.owned = x.owned[:n-1] // before Close, which may panic
		_ = c.Close()
	}
}
