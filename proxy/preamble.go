package proxy

import (
	"errors"
	"io"
	"net/netip"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/preamble"
)

// announces reports whether a connection from peer begins with a header of the PROXY protocol.
//
// The address decides alone, as the specification asks ("must not try to guess"): whoever is trusted must send one, and nobody else may.
// A connection from another address is not closed but read as what it is, TLS or HTTP: Pods reach a load balancer's address without
// passing the load balancer, because kube-proxy takes a short cut, and the kubelet and people at a node's port do likewise. They gain
// nothing by a header of their own, which is neither TLS nor HTTP.
func (t *terms) announces(peer netip.AddrPort) bool {
	return trusted(t.announced, peer.Addr())
}

// admit counts c by its client's address, and reports whether that may have one more connection.
func (c *conn) admit() bool {
	e, client := c.e, c.client.Peer.Addr()
	if e.gate.perAddress == 0 || trusted(c.terms.addressed, client) {
		return true
	}
	c.admitted = e.gate.admit(client)
	if !c.admitted {
		e.tally.local(exchange.Overload)
	}
	return c.admitted
}

// errPreambleTime says that what comes before HTTP did not come in time.
var errPreambleTime = errors.New("not complete in time")

// await reads, for at most limit and into at most size bytes of the codec's buffer, until parse has understood what comes before HTTP, or
// refuses it.
func (c *conn) await(limit time.Duration, size int, parse func([]byte) error) error {
	clock := &c.e.sweeper.now
	began := clock.Load()
	c.enter(firstByte, limit)
	err := c.h1.Await()
	if limit > 0 {
		limit = max(limit-time.Duration(clock.Load()-began)*time.Millisecond, time.Millisecond)
	}
	if c.enter(reading, limit) != unmarked {
		return errPreambleTime
	}
	for err == nil {
		if err = parse(c.h1.Unused()); !errors.Is(err, preamble.ErrShort) {
			break
		}
		err = c.h1.More(size)
	}
	if c.enter(working, 0) != unmarked {
		return errPreambleTime
	}
	return err
}

// readHeader reads the header of the PROXY protocol, and reports whether the connection may go on. From then on the client is who the header
// says: for limits, logs and the Pod.
func (c *conn) readHeader() bool {
	var h preamble.Header
	var n int
	err := c.await(c.terms.timeouts.ProxyHeader, preamble.MaxHeader, func(b []byte) (err error) {
		h, n, err = preamble.ParseHeader(b)
		return err
	})
	if err != nil {
		c.e.tally.ended(headerEndings, err)
		return false
	}
	c.h1.Skip(n)
	if !h.Source.IsValid() {
		// The proxy speaks for itself, or does not know for whom. Its health checks do not count against a client's limit.
		return true
	}
	c.client.Peer, c.client.Addr = h.Source, h.Source.Addr()
	c.client.Local, c.client.Port = h.Destination, h.Destination.Port()
	if c.client.Port == portHTTPS {
		// The client reached the proxy in front at the port of HTTPS. Where TLS ended there, this is how it tells; where it ends here,
		// the handshake will say the same.
		c.client.Proto = "https"
	}
	return c.admit()
}

const portHTTPS = 443

// sniff reads a ClientHello and leaves it where it is. The chain is that of the host where TLS passes through to the Pods of the host that it
// names, else nil. ok is false where the connection must end: what is no ClientHello is never handed to whoever else might take it.
func (c *conn) sniff() (ch *chain, generation uint64, ok bool) {
	var s preamble.Sniffer
	err := c.await(c.e.timeouts.Hello, preamble.MaxHello, func(b []byte) error {
		hello, err := s.Hello(b)
		c.client.ServerName = hello.ServerName
		return err
	})
	if err != nil {
		c.e.tally.ended(helloEndings, err)
		return nil, 0, false
	}
	l := c.e.live.Load()
	return l.passesThrough(c.client.ServerName), l.generation, true
}

// endings are the reasons for which a connection ends before HTTP, by what is read.
type endings uint8

// The kinds of endings.
const (
	headerEndings endings = iota
	helloEndings
)

// endingReasons are the values of the metric's label: what came was wrong, or did not come in time.
var endingReasons = [...][2]string{
	headerEndings: {"proxy-header-invalid", "proxy-header-timeout"},
	helloEndings:  {"client-hello-invalid", "client-hello-timeout"},
}

// ended counts a connection that ended before HTTP because of err. One that its client has closed is no fault: load balancers look that way
// whether a port is open.
func (t *tally) ended(kind endings, err error) {
	switch {
	case t.ends == nil, errors.Is(err, io.EOF):
	case errors.Is(err, errPreambleTime):
		t.ends[endingReasons[kind][1]].Inc()
	default:
		t.ends[endingReasons[kind][0]].Inc()
	}
}
