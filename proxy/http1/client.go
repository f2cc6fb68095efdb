package http1

import (
	"errors"
	"net"

	"podlane.dev/podlane/proxy/exchange"
)

// Client is the side of a connection to a Pod: it writes requests and reads responses, one at a time. It belongs to the goroutine of the
// exchange; while a request body streams, one more goroutine may use the writing methods. A Client that is idle in a pool
// holds no buffers.
type Client struct {
	in         input
	out        output
	body       body
	parser     responseParser
	limits     Limits
	maxHead    int // the connection's own limits.ResponseHead
	persistent bool
	started    bool
}

// NewClient returns the codec of a fresh connection.
func NewClient(conn net.Conn, limits Limits) *Client {
	c := &Client{limits: limits.withDefaults()}
	c.maxHead = c.limits.ResponseHead
	c.in.init(conn)
	c.in.yield = limits.Yield
	c.out.init(conn, c.in.raw)
	return c
}

// LimitHead bounds the heads of the next answers to size bytes, where that is less than the limits say and not 0.
func (c *Client) LimitHead(size int) {
	c.limits.ResponseHead = c.maxHead
	if size > 0 {
		c.limits.ResponseHead = min(size, c.maxHead)
	}
}

// OnProgress has f called whenever the Pod has taken a part of a long write.
func (c *Client) OnProgress(f func()) { c.out.progress = f }

// StartRequest buffers the head of x's request for a Pod: nothing is written before Flush, Finish or a large Write. The body is framed
// by its length where that is known, else by chunks.
func (c *Client) StartRequest(x *exchange.Exchange) {
	c.started = false
	o := &c.out
	o.written, o.begun = 0, false
	o.hold()
	r := &x.Request
	b := append(o.buf, r.Method...)
	b = append(b, ' ')
	b = append(b, r.SendPath()...)
	if r.HasQuery {
		b = append(b, '?')
		b = append(b, r.RawQuery...)
	}
	b = append(b, " HTTP/1.1\r\n"...)
	c.frameRequest(r)
	b = r.Fields.AppendTo(b)
	switch {
	case len(r.Upgrade) > 0:
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, r.Upgrade...)
		b = append(b, "\r\n"...)
	case o.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	o.buf = append(b, "\r\n"...)
}

// frameRequest decides how the body ends, and makes Content-Length agree with the body that is sent: a filter may have wrapped, replaced
// or removed the client's.
func (c *Client) frameRequest(r *exchange.Request) {
	f := &r.Fields
	f.Del(exchange.Trailer) // no trailers are sent
	switch {
	case r.Body == nil:
		if f.Has(exchange.ContentLength) || expectsBody(r.Method) {
			setLength(f, 0)
		}
		c.out.frame(noBody, 0)
	case r.Body.Length() < 0:
		f.Del(exchange.ContentLength)
		c.out.frame(byChunks, -1)
	default:
		setLength(f, r.Body.Length())
		c.out.frame(byLength, r.Body.Length())
	}
}

// expectsBody reports whether a request of this method without a body says so (RFC 9110 section 8.6).
func expectsBody(method []byte) bool {
	switch string(method) {
	case "POST", "PUT", "PATCH":
		return true
	}
	return false
}

// Write adds bytes of the request body.
func (c *Client) Write(p []byte) error { return c.out.Write(p) }

// Takes reports whether n bytes of a request body can be written without a wait for the Pod to read: nobody knows, and the sockets' buffers take
// what is short.
func (c *Client) Takes(int64) bool { return true }

// Flush writes what is buffered.
func (c *Client) Flush() error { return c.out.Flush() }

// Finish ends the request.
func (c *Client) Finish() error { return c.out.Finish(nil) }

// Begun reports whether any byte of the request went to the connection.
func (c *Client) Begun() bool { return c.out.begun }

// Started reports whether any byte of a response has come since StartRequest.
func (c *Client) Started() bool { return c.started }

// Ready reports whether reading on will not wait for the Pod.
func (c *Client) Ready() bool { return c.body.Ready() }

// Finished ends an exchange and reports whether the connection may carry another: the response was read to its end, nothing
// came behind it, and the Pod did not say that it closes.
func (c *Client) Finished() bool {
	ok := c.persistent && c.body.done && c.in.r == c.in.w
	c.out.progress = nil // it belongs to the exchange
	c.in.reset()
	c.out.reset()
	return ok
}

// Complete reports whether the response was read to its end.
func (c *Client) Complete() bool { return c.body.done }

// Discard gives up what is buffered and not written, and the buffer that holds it.
func (c *Client) Discard() { c.out.reset() }

// Pull returns the next bytes of a tunnel, those first that came behind the 101 head; they are valid until the next call. While it waits
// on a plain socket it holds no buffer. No exchange can follow.
func (c *Client) Pull() ([]byte, error) { return c.in.pull() }

// Close gives the buffers back; the connection itself is the caller's.
func (c *Client) Close() {
	c.in.close()
	c.out.reset()
}

// IsInvalid reports whether err is a violation of HTTP by the Pod, in its head or in its chunks.
func IsInvalid(err error) bool {
	var invalid *InvalidResponse
	var reject *exchange.Reject
	return errors.As(err, &invalid) || errors.As(err, &reject)
}
