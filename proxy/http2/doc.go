// Package http2 is Podlane's HTTP/2 codec (RFC 9113): Conn, the side of a connection to a client, which reads requests and writes
// responses, and ClientConn, the side to a Pod. It owns the bytes of a connection, its streams, windows and limits; it knows nothing of
// routes, Pods or policies.
//
// One goroutine reads a connection's frames. Streams run on goroutines that are used again, and hand their frames to one buffer, which a
// writer takes whole: answers that finish together leave together. x/net's Framer judges the order and size of frames and reads and writes
// those that carry no message; DATA and header blocks are taken where they lie. Header blocks are decoded by x/net's hpack, and
// encoded here without a dynamic table, as nginx and HAProxy do: then a stream encodes its head by itself, outside of every lock, an idle
// connection holds no table, and a response costs no strings.
//
// A connection has no timers. Sweep, which is called often and costs nothing when nothing is due, keeps all its times.
package http2

import (
	"errors"
	"time"

	"golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
)

// Options are the limits of a connection. The zero value of a field means the default given beside it.
type Options struct {
	// MaxStreams (100) that a client may have open at one time; more are refused.
	MaxStreams int
	// HeaderList (32 KiB) bounds the fields of a message, each counted with 32 bytes more than it has (RFC 9113 section 6.5.2), and Fields
	// (100) their number after the crumbs of a cookie, at most Crumbs (256), are joined: a request with more gets 431.
	HeaderList, Fields, Crumbs int
	// StreamWindow (64 KiB) is what a peer may send on a stream before any of it was pulled. It grows up to MaxStreamWindow (1 MiB) while
	// the other side drains it, as long as Grow, where it is set, allows. ConnWindow (1 MiB) is that of the connection.
	StreamWindow, MaxStreamWindow, ConnWindow int
	Grow                                      func() bool
	// TableSize (4096) is that of the dynamic table which the peer may use.
	TableSize int
	// Underscores says what happens to request fields with "_" in the name.
	Underscores Underscores
	// Secure says, to a Pod, that the connection is encrypted: the scheme of requests.
	Secure bool
	// ExtendedConnect accepts CONNECT with a :protocol (RFC 8441): WebSocket over HTTP/2.
	ExtendedConnect bool
	Timeouts        Timeouts
}

// Timeouts bound the waits of a connection that are no stream's. Zero means the default beside each; negative means no limit. They
// are as precise as Sweep is frequent.
type Timeouts struct {
	// FirstByte (10 s) is until the client's preface and SETTINGS are complete, Header (10 s) from the first byte of a header block to its
	// last, SettingsAck (10 s) until the peer acknowledges our SETTINGS.
	FirstByte, Header, SettingsAck time.Duration
	// Idle (75 s) without a stream.
	Idle time.Duration
	// Stall (60 s) in which the peer takes no byte: of the connection, or, with a window that stays shut, of a stream.
	Stall time.Duration
	// Ping (none) is how long a Pod that has requests may be silent before it is asked for a sign of life, and PingAck (15 s) how long the
	// sign may take before the connection is given up.
	Ping, PingAck time.Duration
	// Linger (1 s) is how long what the peer still sends is discarded after the last byte of ours, so that it reads that byte.
	Linger time.Duration
}

// Underscores is what happens to request fields with "_" in their names, which CGI-like applications confuse with "-".
type Underscores uint8

// The ways to treat such fields.
const (
	DropUnderscores Underscores = iota
	RejectUnderscores
	KeepUnderscores
)

func (o Options) withDefaults() Options {
	for _, n := range []struct {
		v   *int
		def int
	}{
		{&o.MaxStreams, 100}, {&o.HeaderList, 32 << 10}, {&o.Fields, 100}, {&o.Crumbs, 256}, {&o.StreamWindow, 64 << 10},
		{&o.MaxStreamWindow, 1 << 20}, {&o.ConnWindow, 1 << 20}, {&o.TableSize, 4096},
	} {
		if *n.v == 0 {
			*n.v = n.def
		}
	}
	t := &o.Timeouts
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&t.FirstByte, 10 * time.Second}, {&t.Header, 10 * time.Second}, {&t.SettingsAck, 10 * time.Second},
		{&t.Idle, 75 * time.Second}, {&t.Stall, time.Minute}, {&t.PingAck, 15 * time.Second}, {&t.Linger, time.Second},
	} {
		switch {
		case *d.v == 0:
			*d.v = d.def
		case *d.v < 0:
			*d.v = 0
		}
	}
	return o
}

// withPodDefaults are the defaults toward Pods: larger heads, as HTTP/1.1's, and windows that hold no more than a slow client may make us hold.
func (o Options) withPodDefaults() Options {
	o.Underscores = KeepUnderscores
	if o.HeaderList == 0 {
		o.HeaderList = 64 << 10
	}
	if o.Fields == 0 {
		o.Fields = 256
	}
	if o.MaxStreamWindow == 0 {
		o.MaxStreamWindow = 256 << 10
	}
	return o.withDefaults()
}

// Clock gives the value of the Date field. http1.Clock is one.
type Clock interface{ Date() []byte }

const (
	// maxFrame is the size of the largest frame that we accept and send: what every peer has to accept.
	maxFrame = 16 << 10
	// frameHeader is the size of a frame's header.
	frameHeader = 9
	// firstWindow is the size of windows before SETTINGS and WINDOW_UPDATE change it.
	firstWindow = 65535
	maxWindow   = 1<<31 - 1

	maxName   = 256
	maxMethod = 64
	// maxTarget bounds the request target, as HTTP/1.1's request line does.
	maxTarget   = 8 << 10
	maxTrailer  = 8 << 10
	maxTrailers = 32

	// maxBlock and maxContinuations bound a header block as it is sent (CVE-2023-45288).
	maxBlock         = 64 << 10
	maxContinuations = 32
)

// The requests that are well-formed HTTP/2 and break a rule of the contract. They are compared by identity.
var (
	errFieldsLarge = &exchange.Reject{Status: 431, Detail: "header block too large"}
	errFieldsMany  = &exchange.Reject{Status: 431, Detail: "too many header fields"}
	errName        = &exchange.Reject{Status: 400, Detail: "malformed header field name"}
	errUnderscore  = &exchange.Reject{Status: 400, Detail: "underscore in a header field name"}
	errMethod      = &exchange.Reject{Status: 400, Detail: "malformed method"}
	errTarget      = &exchange.Reject{Status: 400, Detail: "malformed request target"}
	errTargetChar  = &exchange.Reject{Status: 400, Detail: "forbidden character in the request target"}
	errTargetLarge = &exchange.Reject{Status: 414, Detail: "request target too long"}
	errScheme      = &exchange.Reject{Status: 400, Detail: "scheme not supported"}
	errHosts       = &exchange.Reject{Status: 400, Detail: ":authority and Host differ"}
	errHostTwice   = &exchange.Reject{Status: 400, Detail: "repeated Host"}
)

// The ends of a stream or connection that its users see.
var (
	// ErrReset is the error of a stream that the peer has reset; see ResetError for the code.
	ErrReset = errors.New("http2: stream reset by the peer")
	// ErrMalformed is the error of a stream on which the peer has broken the rules of HTTP.
	ErrMalformed = errors.New("http2: malformed message")
	// ErrConnection is the error of streams whose connection has ended under them.
	ErrConnection = errors.New("http2: connection ended")
	// ErrStalled is the error of a stream for which the peer kept its window shut for too long.
	ErrStalled = errors.New("http2: window shut for too long")
	// ErrRefused is the error of a request that the Pod has certainly not processed: it may be sent again, whatever its method.
	ErrRefused = errors.New("http2: request refused before it was processed")
	// ErrFull says that a connection has as many streams as the Pod allows, ErrLeaving that it takes no more.
	ErrFull    = errors.New("http2: no stream left on this connection")
	ErrLeaving = errors.New("http2: connection takes no more requests")
	// ErrEnded is the error of a stream that our side has ended.
	ErrEnded = errors.New("http2: stream ended")
)

// ResetError says with which code the peer has reset a stream. It is an ErrReset.
type ResetError struct{ Code http2.ErrCode }

// Error names the code.
func (e *ResetError) Error() string { return ErrReset.Error() + ": " + e.Code.String() }

// Is makes e an ErrReset.
func (e *ResetError) Is(target error) bool { return target == ErrReset }
