package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
)

// recordLimit bounds what is kept of a request's head; net/http refuses heads over 1 MiB.
const recordLimit = 1<<20 + 4096

// A recorder keeps what a connection reads until a handler takes it, because net/http forgets the order and the spelling of
// header lines.
type recorder struct {
	mu      sync.Mutex
	buf     []byte
	off     bool
	claimed bool
}

// A head is a request's head as it came, empty over HTTP/2, and whether it is the first on its connection.
type head struct {
	bytes []byte
	first bool
}

type recorderKey struct{}

type recordingConn struct {
	net.Conn
	rec *recorder
}

type recordingListener struct{ net.Listener }

// Accept wraps the next connection with a recorder.
func (l recordingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &recordingConn{Conn: c, rec: &recorder{}}, nil
}

// Read reads and keeps what was read.
func (c *recordingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.rec.mu.Lock()
	if !c.rec.off && len(c.rec.buf) < recordLimit {
		c.rec.buf = append(c.rec.buf, p[:n]...)
	}
	c.rec.mu.Unlock()
	return n, err
}

func withRecorder(ctx context.Context, c net.Conn) context.Context {
	if rc, ok := c.(*recordingConn); ok {
		return context.WithValue(ctx, recorderKey{}, rc.rec)
	}
	return ctx
}

func recorderOf(r *http.Request) *recorder {
	if rec, ok := r.Context().Value(recorderKey{}).(*recorder); ok && r.ProtoMajor == 1 {
		return rec
	}
	return &recorder{}
}

// take returns the head of the request that is being handled and stops recording.
func (r *recorder) take() head {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := head{first: !r.claimed}
	if i := bytes.Index(r.buf, []byte("\r\n\r\n")); i >= 0 {
		h.bytes = bytes.Clone(r.buf[:i+4])
	}
	r.buf, r.off, r.claimed = r.buf[:0], true, true
	return h
}

// reset starts recording again: what comes now belongs to the next request, for the body has been read.
func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf, r.off = r.buf[:0], false
}
