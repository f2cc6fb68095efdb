package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/proxy/http2"
	"podlane.dev/podlane/router"
)

// rehearsal takes a request that nobody sent through the engine: the codec, validation, matching, filters and the choice of a Backend are those
// of every request, and where a Pod would be asked it ends. It is counted and logged nowhere. It belongs to one goroutine.
type rehearsal struct {
	// draw is what random choices come to, and drawn of how many the last one was; 0 where nothing was left to chance.
	draw, drawn int
	live        *live
	trace       router.Trace
	// lane is what was chosen, nil for none, and by says what decided.
	chosen bool
	lane   *lane
	by     string
	// asked is the Pods that would have been asked, nil where none would; erring says that they are those of the error service.
	asked  *lane
	erring bool
	sent   Sent
	client []exchange.Field // the fields as the client sent them
	pinned *Pin
}

// watch returns where a lookup in l is written down, nil for a request that was sent.
func (r *rehearsal) watch(l *live) *router.Trace {
	if r == nil {
		return nil
	}
	r.live = l
	return &r.trace
}

// pick is session.pick with draws that are known.
func (r *rehearsal) pick(s *session) *lane {
	r.chosen = true
	r.lane = s.chain.choose(s.x, func(n int) int {
		r.drawn = n
		return min(r.draw, n-1)
	})
	if r.drawn == 0 {
		r.by = decision(s.x.Upstream.CanaryBy)
	}
	return r.lane
}

// decision says what decided between an Ingress and its canary, "" where there was nothing to decide.
func decision(by exchange.Decider) string {
	switch by {
	case exchange.DecidedByAbsence:
		return "the canary has no endpoints"
	case exchange.DecidedByAffinity:
		return "the client's affinity cookie"
	case exchange.DecidedByHeader:
		return "canary-by-header"
	case exchange.DecidedByCookie:
		return "canary-by-cookie"
	case exchange.DecidedByWeight:
		return "canary-weight is 0"
	case exchange.NoDecider:
	}
	return ""
}

// arrive is where a request would be sent to the Pods of l. The failure is that of a Backend without endpoints, or ends the rehearsal.
func (r *rehearsal) arrive(s *session, l *lane) *failure {
	if l.pool.Len() == 0 {
		return failNoEndpoint
	}
	r.asked, r.erring, r.sent = l, s.erring, sentOf(s, r.client)
	r.pinned = l.pin(s.x)
	return failClient
}

// rehearse takes the request of q through e, and then has look see what became of it.
func (e *Engine) rehearse(q *Question, draw int, look func(*session)) error {
	c := &call{e: e, terms: e.live.Load().terms, wire: nowhere{}, fd: -1}
	read, done := c.reader(q)
	defer done()
	s := c.start(q.client(e.live.Load().table))
	defer s.x.Release()
	s.rehearsal = &rehearsal{draw: draw}
	s.x.Rehearsal, s.x.Waiter = &exchange.Rehearsal{Conditions: slices.Clone(q.assumed), AuthStatus: q.AuthStatus}, nobody{e}
	switch err := read(s.x); {
	case err == nil:
		s.rehearsal.client = s.x.Request.Fields.List()
		s.run()
	case errors.Is(err, http2.ErrMalformed):
		s.x.Response.Why = exchange.BadRequest // the stream is reset
	default:
		if _, refused := errors.AsType[*exchange.Reject](err); !refused {
			return fmt.Errorf("the request cannot be read: %w", err)
		}
		s.unreadable(unmarked, err)
	}
	look(s)
	return nil
}

// reader gives c a side, and returns what reads the request of q there, and what gives up its memory.
func (c *call) reader(q *Question) (read func(*exchange.Exchange) error, done func()) {
	if q.Version == exchange.HTTP2 {
		c.srv = nobodys{}
		return func(x *exchange.Exchange) error {
			return http2.ReadFields(x, q.block(), c.terms.http2)
		}, func() {}
	}
	limits := c.terms.limits
	limits.Yield = false
	codec := http1.NewServer(&script{Reader: bytes.NewReader(q.head())}, limits, &c.e.clock)
	c.srv = codec
	return codec.ReadRequest, codec.Close
}

// nobody is the Waiter of a request that nobody sent: nobody waits.
type nobody struct{ e *Engine }

// Wait calls f with a context that has ended.
func (n nobody) Wait(_ time.Duration, f func(ctx context.Context)) {
	ended, cancel := context.WithCancel(n.e.life)
	cancel()
	f(ended)
}

// script is a connection whose client has sent all that it will, and reads nothing.
type script struct {
	net.Conn
	*bytes.Reader
}

// Read returns what the client sent.
func (s *script) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// Write takes everything.
func (*script) Write(p []byte) (int, error) { return len(p), nil }

// nowhere is the wire of a request that nobody sent.
type nowhere struct{}

func (nowhere) interruptRead()    {}
func (nowhere) interruptWrite()   {}
func (nowhere) resumeRead()       {}
func (nowhere) reset()            {}
func (nowhere) cut()              {}
func (nowhere) linger()           {}
func (nowhere) lingerBriefly()    {}
func (nowhere) leave()            {}
func (nowhere) tunnel() tunnelEnd { return nil }

// nobodys is the side of a client of HTTP/2 that nobody is: its stream takes everything, and has no body that comes.
type nobodys struct{}

func (nobodys) OwnsBody(exchange.Body) bool      { return false }
func (nobodys) BodyFits() bool                   { return false }
func (nobodys) BodyWhole() bool                  { return true }
func (nobodys) BodyDone() bool                   { return true }
func (nobodys) FillBody() error                  { return nil }
func (nobodys) MarkBody()                        {}
func (nobodys) Rewind()                          {}
func (nobodys) BodyBytes() int64                 { return 0 }
func (nobodys) Buffered() int                    { return 0 }
func (nobodys) Continue() error                  { return nil }
func (nobodys) Interim(*exchange.Exchange) error { return nil }
func (nobodys) Bodyless() bool                   { return true }
func (nobodys) Write([]byte) error               { return nil }
func (nobodys) Flush() error                     { return nil }
func (nobodys) Finish(*exchange.Exchange) error  { return nil }
func (nobodys) Begun() bool                      { return false }
func (nobodys) Written() int64                   { return 0 }
func (nobodys) Discard()                         {}

// StartResponse keeps the connection: streams end one by one.
func (nobodys) StartResponse(*exchange.Exchange, exchange.Persistence) exchange.Persistence {
	return exchange.KeepOpen
}
