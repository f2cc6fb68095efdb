package http2

import (
	"time"

	"golang.org/x/net/http2"
)

// fault is a breach of the protocol, or a flood, for which the whole connection is ended: GOAWAY with the code, and the detail as its debug
// data.
type fault struct {
	code   http2.ErrCode
	detail string
}

// Error names the code and the detail.
func (f *fault) Error() string { return "http2: " + f.code.String() + ": " + f.detail }

var (
	errResets       = &fault{http2.ErrCodeEnhanceYourCalm, "too many streams reset"}
	errIdleFrames   = &fault{http2.ErrCodeEnhanceYourCalm, "too many frames without progress"}
	errControl      = &fault{http2.ErrCodeEnhanceYourCalm, "too many answers that are not read"}
	errBlock        = &fault{http2.ErrCodeEnhanceYourCalm, "header block too long"}
	errPreface      = &fault{http2.ErrCodeProtocol, "bad preface"}
	errFirst        = &fault{http2.ErrCodeProtocol, "no SETTINGS behind the preface"}
	errStreamZero   = &fault{http2.ErrCodeProtocol, "stream 0"}
	errPadding      = &fault{http2.ErrCodeProtocol, "padding longer than the frame"}
	errStreamID     = &fault{http2.ErrCodeProtocol, "unexpected stream number"}
	errIdleStream   = &fault{http2.ErrCodeProtocol, "frame on an idle stream"}
	errClosedStream = &fault{http2.ErrCodeStreamClosed, "frame on a closed stream"}
	errConnWindow   = &fault{http2.ErrCodeFlowControl, "connection window exceeded"}
	errWindowLarge  = &fault{http2.ErrCodeFlowControl, "window too large"}
	errPush         = &fault{http2.ErrCodeProtocol, "PUSH_PROMISE"}
	errShort        = &fault{http2.ErrCodeFrameSize, "frame too short"}

	errFirstByte   = &fault{http2.ErrCodeNo, "no request in time"}
	errSlowHead    = &fault{http2.ErrCodeEnhanceYourCalm, "header block not complete in time"}
	errIdle        = &fault{http2.ErrCodeNo, "idle"}
	errSettingsAck = &fault{http2.ErrCodeSettingsTimeout, "SETTINGS not acknowledged in time"}
)

const (
	// guardTime is the time over which floods are counted.
	guardTime = 10 * time.Second
	// maxResets are the streams that may be reset in it, by either side, if fewer than half of all that ended have completed
	// (CVE-2023-44487, and CVE-2025-8671 for resets that the peer makes us send).
	maxResets = 200
	// maxIdle are the frames in it that bring nothing on. A frame is only counted if no DATA or HEADERS have moved for it in either
	// direction. Each that moves speaks for framesEach frames more, and one for every bytesEach bytes of it: an honest receiver sends two
	// WINDOW_UPDATEs for every 4 KiB, now and then a PING, and late, when all of a window has moved; as late as maxCredit.
	maxIdle    = 1000
	framesEach = 4
	bytesEach  = 2 << 10
	maxCredit  = 10_000
)

// guard counts what floods are made of. It is guarded by the connection's lock.
type guard struct {
	credit int // frames that are spoken for

	idleSince  time.Time
	idleFrames int

	trusts   bool // resets are the peer's right: it is a Pod
	endSince time.Time
	resets   int
	complete int
}

// moved says that a HEADERS or DATA frame with n bytes has moved.
func (g *guard) moved(n int) { g.credit = min(g.credit+framesEach+n/bytesEach, maxCredit) }

// idle counts a frame that brings nothing on.
func (g *guard) idle() error {
	if g.credit > 0 {
		g.credit--
		return nil
	}
	if now := time.Now(); now.Sub(g.idleSince) > guardTime {
		g.idleSince, g.idleFrames = now, 0
	}
	if g.idleFrames++; g.idleFrames > maxIdle {
		return errIdleFrames
	}
	return nil
}

// reset counts a stream that the peer has reset, or has made us reset.
func (g *guard) reset() error {
	if g.trusts {
		return nil
	}
	g.turn()
	if g.resets++; g.resets > maxResets && g.complete < g.resets {
		return errResets
	}
	return nil
}

// completed counts a stream that was answered.
func (g *guard) completed() { g.complete++ }

// turn begins a new count where the old one is too old. What was completed since then speaks for as many resets as are free anyway: to look
// at the clock for every stream that completes would be too dear.
func (g *guard) turn() {
	if now := time.Now(); now.Sub(g.endSince) > guardTime {
		g.endSince, g.resets, g.complete = now, 0, min(g.complete, maxResets)
	}
}
