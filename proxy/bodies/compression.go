package bodies

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync/atomic"

	"podlane.dev/podlane/proxy/exchange"
)

// Coding are the settings of one content coding, in the units of ingress-nginx's ConfigMap.
type Coding struct {
	// Level is from 1 to 9 for gzip, from 0 to 11 for brotli: higher is smaller, and slower.
	Level int
	// MinLength is the least length in bytes of a body that is worth it. A body whose length nobody knows is.
	MinLength int64
	// Types are the media types of bodies that shrink. text/html is always one of them, and "*" stands for all.
	Types []string
}

// CompressionSettings are the settings of a Compression.
type CompressionSettings struct {
	// Gzip and Brotli are the settings of either coding; nil turns it off.
	Gzip, Brotli *Coding
	// NoGzip matches the User-Agent of clients that get no gzip; nil matches none.
	NoGzip *regexp.Regexp
	// Encoders is the number of answers that may be compressed at a time (512); others leave as they came. It bounds memory: an encoder of
	// gzip takes about 1 MiB, one of brotli 2 MiB at level 4 and up to 4 MiB.
	Encoders int
}

// defaultEncoders is the default of CompressionSettings.Encoders.
const defaultEncoders = 512

// Compression compresses the bodies of answers, as nginx does with the modules gzip and brotli. It is an immutable
// exchange.ResponseFilter, to be shared by all routes that have the same settings, because it keeps encoders for the next answer.
//
// An answer is compressed where the client takes a coding by its Accept-Encoding (RFC 9110 section 12.5.3) and speaks HTTP/1.1 or later; its
// status is 200, 403 or 404; it is of a listed media type, not short, not coded already, and not to be left as it is
// (Cache-Control: no-transform, which nginx does not ask). It then has Content-Encoding and no Content-Length, its ETag is a
// weak one, and parts of it cannot be asked for. All answers that might have been compressed say Vary: Accept-Encoding.
// An answer to HEAD has the fields that GET would get. Where a client takes both codings alike it gets brotli. One that takes one of them rather than the other by a weight
// gets that one, which ngx_brotli does not look at.
//
// What has arrived of a body leaves at once: while the Pod is silent nothing stays in the encoder.
//
// Compression can betray secrets over TLS (the attack BREACH): who can make a victim's browser send requests, have a part of them repeated in
// the answer, and see the answer's length, learns by trial what else the same answer holds, such as a token against forged
// requests. It is off by default in ingress-nginx and must stay so here; applications that are compressed should mask such tokens, or be
// left out by their media types.
type Compression struct {
	gzip, brotli *coding
	noGzip       *regexp.Regexp
	limit        int64
	active       atomic.Int64 // answers that are being compressed
}

// NewCompression returns the filter, or an error that says which setting is beyond its range.
func NewCompression(s CompressionSettings) (*Compression, error) {
	c := &Compression{noGzip: s.NoGzip, limit: int64(s.Encoders)}
	if c.limit == 0 {
		c.limit = defaultEncoders
	}
	if c.limit < 0 {
		return nil, fmt.Errorf("%d encoders: there can be none fewer than one", s.Encoders)
	}
	var errs [2]error
	if s.Gzip != nil {
		c.gzip, errs[0] = newGzip(*s.Gzip)
	}
	if s.Brotli != nil {
		c.brotli, errs[1] = newBrotli(*s.Brotli)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return c, nil
}

// Active is the number of answers that are being compressed.
func (c *Compression) Active() int { return int(c.active.Load()) }

// FilterResponse compresses the body of x's answer where all that Compression says is so.
func (c *Compression) FilterResponse(x *exchange.Exchange) {
	if !compressible(x) {
		return
	}
	kind, length := x.Response.Fields.Get(exchange.ContentType), lengthOf(x)
	gzip, brotli := c.gzip.suiting(kind, length), c.brotli.suiting(kind, length)
	if gzip == nil && brotli == nil {
		return
	}
	addVary(&x.Response.Fields)
	if x.Request.Version < exchange.HTTP11 {
		return
	}
	if c.noGzip != nil && gzip != nil && c.noGzip.Match(x.Request.Fields.Get(exchange.UserAgent)) {
		gzip = nil
	}
	coding := choose(weigh(&x.Request.Fields), gzip, brotli)
	if coding == nil {
		return
	}
	if string(x.Request.Method) == "HEAD" {
		coded(x, coding.name)
		if x.Response.Local {
			x.Response.Body = nil // its length is not that of the coded one
		}
		return
	}
	if c.active.Add(1) > c.limit {
		c.active.Add(-1)
		return
	}
	coded(x, coding.name)
	b := &encoded{source: x.Response.Body, coding: coding, active: &c.active}
	x.Response.Body = b
	x.Own(b)
}

// compressible reports whether the answer of x may be compressed, whatever the settings.
func compressible(x *exchange.Exchange) bool {
	a := &x.Response
	switch a.Status {
	case 200, 403, 404:
	default:
		return false
	}
	return !a.Fields.Has(exchange.ContentEncoding) && lengthOf(x) != 0 && !hasMember(&a.Fields, "Cache-Control", "no-transform")
}

// lengthOf returns the length of the body of x's answer, -1 where nobody knows it. That of an answer to HEAD is the one that GET would get.
func lengthOf(x *exchange.Exchange) int64 {
	a := &x.Response
	if string(x.Request.Method) == "HEAD" && !a.Local {
		n, err := strconv.ParseInt(string(a.Fields.Get(exchange.ContentLength)), 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	if a.Body == nil {
		return 0
	}
	return a.Body.Length()
}

// choose returns the one that the client wants most of two codings, which may be nil, or nil.
func choose(w weights, gzip, brotli *coding) *coding {
	var best *coding
	most := max(w.of(identity), 1) // a coding of weight 0 is refused
	if gzip != nil && w.of(gzipped) >= most {
		best, most = gzip, w.of(gzipped)
	}
	if brotli != nil && w.of(brotlied) >= most {
		best = brotli
	}
	return best
}
