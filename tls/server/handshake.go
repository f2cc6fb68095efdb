package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// The limits of a Handshaker where HandshakerOptions does not say.
const (
	DefaultHandshakesPerProcessor = 64
	DefaultHandshakeQueueTimeout  = 2 * time.Second
	DefaultHandshakeTimeout       = 10 * time.Second
)

// Failure is why a handshake failed: a metric's label, from the closed set below.
type Failure string

// The reasons of failed handshakes.
const (
	// Overload: no slot became free within the queue's time.
	Overload Failure = "overload"
	// Timeout: the client did not finish in time.
	Timeout Failure = "timeout"
	// Canceled: the caller's context ended.
	Canceled Failure = "canceled"
	// ClientClosed: the client closed or reset the connection without a word.
	ClientClosed Failure = "client-closed"
	// ClientAlert: the client refused with an alert, as it does when it does not trust the certificate.
	ClientAlert Failure = "client-alert"
	// UnknownName: no certificate for the server name, and the default certificate is not for unknown names.
	UnknownName Failure = "unknown-name"
	// PlainHTTP: the client speaks HTTP without TLS; NotTLS: it speaks something else.
	PlainHTTP Failure = "plain-http"
	NotTLS    Failure = "not-tls"
	// Protocol: the two have no version, cipher or protocol in common, or the client broke the rules.
	Protocol Failure = "protocol"
)

// Failures returns all reasons, for metrics that exist before the first failure.
func Failures() []Failure {
	return []Failure{Overload, Timeout, Canceled, ClientClosed, ClientAlert, UnknownName, PlainHTTP, NotTLS, Protocol}
}

// HandshakeError is the error of Handshaker.Handshake. Err is crypto/tls's or the network's.
type HandshakeError struct {
	Reason Failure
	Err    error
}

// Error returns the reason and the cause.
func (e *HandshakeError) Error() string { return fmt.Sprintf("tls handshake: %s: %v", e.Reason, e.Err) }

// Unwrap returns the cause.
func (e *HandshakeError) Unwrap() error { return e.Err }

// errOverload is what a queued handshake's read returns.
var errOverload = errors.New("too many handshakes at a time")

// HandshakerOptions are the limits of a Handshaker. Zero fields are the defaults.
type HandshakerOptions struct {
	// Concurrency is how many handshakes may compute at a time: 64 for each processor by default.
	Concurrency int
	// QueueTimeout is how long the others wait for one of them to pause or end.
	QueueTimeout time.Duration
	// Timeout is for a whole handshake, from the first byte that is waited for to the last.
	Timeout time.Duration
}

// A Handshaker limits how many handshakes run at a time and how long each may take, so that a storm of clients, or one
// that opens connections to make the process sign, slows down only who joins it. It is safe for concurrent use.
type Handshaker struct {
	slots        chan struct{}
	queueTimeout time.Duration
	timeout      time.Duration
}

// NewHandshaker returns a Handshaker with the limits of o.
func NewHandshaker(o HandshakerOptions) *Handshaker {
	if o.Concurrency <= 0 {
		o.Concurrency = DefaultHandshakesPerProcessor * runtime.GOMAXPROCS(0)
	}
	if o.QueueTimeout <= 0 {
		o.QueueTimeout = DefaultHandshakeQueueTimeout
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultHandshakeTimeout
	}
	return &Handshaker{slots: make(chan struct{}, o.Concurrency), queueTimeout: o.QueueTimeout, timeout: o.Timeout}
}

// Server returns the server side of TLS on raw, as tls.Server does, in a form in which Handshake counts against the limit
// only while it computes and not while it waits for the client. Without that, a hundred clients that send half a
// ClientHello would keep all others out. The result's NetConn has a method NetConn that returns raw.
func (h *Handshaker) Server(raw net.Conn, config *tls.Config) *tls.Conn {
	return tls.Server(&pausingConn{Conn: raw}, config)
}

// Handshake runs c's handshake within h's limits and ctx. The error is a *HandshakeError; c is then unusable, and the
// caller closes it. On success c has no deadline. c comes from Server; one from tls.Server counts from beginning to end.
// c must have no other user until Handshake returns.
func (h *Handshaker) Handshake(ctx context.Context, c *tls.Conn) error {
	var n notes
	// A deadline on the connection and not a context with one: it costs no goroutine, and ends reads and writes alike.
	deadline := time.Now().Add(h.timeout)
	if err := c.SetDeadline(deadline); err != nil {
		return &HandshakeError{Reason: ClientClosed, Err: err}
	}
	share := slot{ctx: ctx, handshaker: h, deadline: deadline}
	defer share.release()
	pausing, _ := c.NetConn().(*pausingConn)
	if pausing != nil {
		pausing.slot = &share
		defer func() { pausing.slot = nil }()
	} else if err := share.acquire(); err != nil {
		return &HandshakeError{Reason: failureOf(err, &n), Err: err}
	}
	if err := c.HandshakeContext(context.WithValue(ctx, notesKey{}, &n)); err != nil {
		return &HandshakeError{Reason: failureOf(err, &n), Err: err}
	}
	if n.shown != nil && pausing != nil {
		n.shown.settle(c.ConnectionState().PeerCertificates)
		pausing.shown = n.shown
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return &HandshakeError{Reason: ClientClosed, Err: err}
	}
	return nil
}

// notes are what callbacks of the tls.Config found out during one handshake. They travel in the handshake's context.
type notes struct {
	unknownName bool
	// shown is nil where the client was not asked for a certificate.
	shown *Credentials
}

type notesKey struct{}

// A slot is one handshake's share of a Handshaker. It is used by the handshake's goroutine only.
type slot struct {
	// ctx is kept here because crypto/tls reads through a net.Conn, which has no place for one; a slot lives for one call.
	ctx        context.Context
	handshaker *Handshaker
	deadline   time.Time
	held       bool
}

// acquire waits for a free slot: for the queue's time, or less where the handshake's or the caller's ends before.
func (s *slot) acquire() error {
	select {
	case s.handshaker.slots <- struct{}{}:
		s.held = true
		return nil
	default:
	}
	wait, late := s.handshaker.queueTimeout, errOverload
	if left := time.Until(s.deadline); left < wait {
		wait, late = left, os.ErrDeadlineExceeded
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case s.handshaker.slots <- struct{}{}:
		s.held = true
		return nil
	case <-timer.C:
		return late
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// release gives the slot back if it is held.
func (s *slot) release() {
	if s.held {
		<-s.handshaker.slots
		s.held = false
	}
}

// pausingConn gives a handshake's slot back while it waits for bytes of the client. A handshake never waits for anything
// else for long: what the server writes fits into the socket's buffer. After the handshake it only passes on.
type pausingConn struct {
	net.Conn
	slot  *slot        // nil outside of Handshake
	shown *Credentials // set by Handshake
}

// Read reads from the client, without the slot, and returns with it.
func (c *pausingConn) Read(b []byte) (int, error) {
	if c.slot == nil {
		return c.Conn.Read(b)
	}
	c.slot.release()
	n, err := c.Conn.Read(b)
	if err != nil {
		return n, err
	}
	if err := c.slot.acquire(); err != nil {
		return 0, err // the bytes are lost, but so is the handshake
	}
	return n, nil
}

// NetConn returns the connection below, for socket options.
func (c *pausingConn) NetConn() net.Conn { return c.Conn }

// failureOf classifies a handshake's error.
func failureOf(err error, n *notes) Failure {
	var record tls.RecordHeaderError
	var operation *net.OpError
	switch {
	case errors.Is(err, errOverload):
		return Overload
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Canceled
	case n.unknownName:
		return UnknownName
	case errors.As(err, &record):
		if looksLikeHTTP(record.RecordHeader) {
			return PlainHTTP
		}
		return NotTLS
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ClientClosed
	case errors.As(err, &operation) && operation.Op == "remote error":
		return ClientAlert // crypto/tls's form of an alert that was received
	}
	return Protocol
}

// looksLikeHTTP reports whether what came instead of a TLS record header is the start of an HTTP request.
func looksLikeHTTP(header [5]byte) bool {
	switch start := string(header[:]); {
	case strings.HasPrefix(start, "GET "), strings.HasPrefix(start, "PUT "):
		return true
	case start == "HEAD ", start == "POST ", start == "PATCH", start == "DELET", start == "OPTIO", start == "CONNE", start == "TRACE", start == "PRI *":
		return true
	}
	return false
}
