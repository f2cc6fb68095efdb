package upstream

import (
	"net"
	"sync/atomic"
	"syscall"

	"podlane.dev/podlane/router"
)

// Protocol is what is spoken on a connection to a Pod.
type Protocol uint8

// The protocols.
const (
	HTTP1 Protocol = iota
	HTTP2
)

// Profile says in which way an Endpoint is spoken to. Connections are only reused for a Profile that is the same. The zero value is HTTP/1.1
// without TLS.
type Profile struct {
	Protocol Protocol
	// TLS is nil in clear.
	TLS *router.PodTLS
	// ServerName is the Pod's name for TLS.
	ServerName string
	// ProxyHeader is the version of the PROXY protocol header that opens the connection, 0 meaning none. Such a
	// connection belongs to one client and must be discarded after it.
	ProxyHeader uint8
}

func (p *Profile) same(q *Profile) bool {
	return p.Protocol == q.Protocol && p.ProxyHeader == q.ProxyHeader && p.TLS.Same(q.TLS) && p.ServerName == q.ServerName
}

type connState uint8

const (
	busy   connState = iota // belongs to a request
	pooled                  // belongs to the Endpoint's stack
)

// Conn is a connection to an Endpoint. From Acquire or Dial on it belongs to the caller, who must call exactly one of Put
// and Discard in the end; it is not safe for concurrent use, but for what net.Conn allows.
type Conn struct {
	// Conn is the transport: the socket, or TLS over it.
	net.Conn
	// Codec is the engine's own state of this connection; it stays while the connection is pooled.
	Codec any
	// Reused says that the connection has carried a request before.
	Reused bool

	endpoint *Endpoint
	profile  Profile
	socket   net.Conn // what Dial returned
	probe    *probe   // nil where the transport has no descriptor
	secure   quieter  // nil where the transport is the socket itself
	carrier  Carrier  // set where requests share the connection; immutable from then on
	created  int64
	idleAt   int64
	requests int
	counted  bool
	closed   atomic.Bool

	// Under the Endpoint's idle.mu.
	state      connState
	prev, next *Conn
}

// quieter is a transport that knows more than its socket.
type quieter interface{ Quiet() bool }

// newConn returns the Conn of a transport over socket.
func newConn(e *Endpoint, p *Profile, socket, transport net.Conn) *Conn {
	c := &Conn{Conn: transport, endpoint: e, profile: *p, socket: socket, created: e.pool.registry.now()}
	if c.secure, _ = transport.(quieter); c.secure != nil {
		return c
	}
	if s, ok := socket.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			c.probe = newProbe(raw)
		}
	}
	return c
}

// Endpoint returns the Endpoint at the other end.
func (c *Conn) Endpoint() *Endpoint { return c.endpoint }

// Profile returns the Profile that the connection was dialed with.
func (c *Conn) Profile() Profile { return c.profile }

// Requests returns how many requests the connection has completed.
func (c *Conn) Requests() int { return c.requests }

// Put ends the request and pools the connection, or closes it where its Endpoint is no longer in use, or it has served
// enough. The caller must have read the answer to its end, have nothing left in its own buffers, and touch c no more.
func (c *Conn) Put() {
	c.Uncount()
	e, r := c.endpoint, c.endpoint.pool.registry
	now := r.now()
	c.requests++
	if c.closed.Load() || c.spent(now) {
		_ = c.Close()
		return
	}
	c.idleAt = now
	surplus, list := e.idle.push(c, r.reuse.Load().MaxIdlePerEndpoint)
	if list {
		r.sweeper.list(e)
	}
	if surplus != nil {
		_ = surplus.Close()
	}
}

// spent reports whether c has served as many requests or as long as it may.
func (c *Conn) spent(now int64) bool {
	u := c.endpoint.pool.registry.reuse.Load()
	return u.MaxRequests > 0 && c.requests >= u.MaxRequests || u.MaxAge > 0 && now-c.created >= int64(u.MaxAge)
}

// Discard ends the request and closes the connection.
func (c *Conn) Discard() {
	c.Uncount()
	_ = c.Close()
}

// Uncount takes the request out of the in-flight counts before its end: upgraded connections and streams past their
// response head neither fill limits nor weigh in the balance. It may be called more than once.
func (c *Conn) Uncount() {
	if c.counted {
		c.counted = false
		c.endpoint.Cancel()
	}
}

// Close closes the transport, once. Put or Discard must still follow.
func (c *Conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	err := c.Conn.Close()
	e := c.endpoint
	if c.carrier != nil {
		e.shared.forget(c)
	}
	drained := e.idle.forget(c)
	e.pool.closed()
	if drained {
		e.pool.drained(e)
	}
	return err
}

// Cut closes the socket under c: whoever uses c gets an error. Put or Discard must still follow. Any goroutine may call it.
func (c *Conn) Cut() { _ = c.socket.Close() }

// quiet reports whether an idle connection is fit for another request: open, and without a single byte to read, for any
// byte would be taken for the answer to a request that is not yet sent (SECURITY.md A15).
func (c *Conn) quiet() bool {
	if c.secure != nil {
		return c.secure.Quiet()
	}
	return c.probe == nil || c.probe.quiet()
}

// stale closes an idle connection that is not quiet.
func (c *Conn) stale() {
	if f := c.endpoint.pool.registry.o.Observer.OnStale; f != nil {
		f(c.endpoint)
	}
	_ = c.Close()
}
