package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// bench is an engine, the Pods behind it, and what they got. It is used by one goroutine.
type bench struct {
	*record
	t      testing.TB
	engine *proxy.Engine
	// scheme is that of the connections that dial opens, "http" or "https".
	scheme string
	// mayAbort says that Pods may get beginnings of requests.
	mayAbort bool

	listeners map[string]string // addresses, by what makes a listener special
	serving   sync.WaitGroup
	dials     int      // encrypted ones
	accepted  sync.Map // the engine's ends of watched connections, by the client's address
}

// place is where requests go: a host and a path to a Pod. A Pod without an address has no endpoint.
type place struct {
	host, path, pod string
	// denied is why the route is closed, policies what its owner asks for.
	denied   string
	policies []policy.Value
}

// newBench starts an engine with routes to the Pods at places.
func newBench(t testing.TB, o proxy.Options, r *record, places ...place) *bench {
	t.Helper()
	b := &bench{record: r, t: t, engine: proxy.New(o), scheme: "http", listeners: map[string]string{}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := b.engine.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		b.serving.Wait()
	})
	b.publish(places)
	return b
}

func (b *bench) publish(places []place) {
	var routes []*router.Route
	for i, p := range places {
		routes = append(routes, &router.Route{
			ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: p.host, Path: p.path},
			Backends: []router.Backend{{Service: router.ServicePort{Namespace: "default", Name: "s" + strconv.Itoa(i)}, Weight: 1}},
			Denied:   p.denied, Policies: p.policies,
		})
	}
	table := router.NewTable(routes, nil)
	b.engine.Prepare(table)
	for i, p := range places {
		if p.pod == "" {
			continue
		}
		b.engine.SetAddresses(routes[i].Backends[0].Service.Service(), map[string][]router.Address{
			"": {{AddrPort: netip.MustParseAddrPort(p.pod), UID: "u" + strconv.Itoa(i), Ready: true, Serving: true}},
		})
	}
	b.engine.Publish(table)
}

// encrypted makes dial speak TLS.
func (b *bench) encrypted() *bench {
	b.scheme = "https"
	return b
}

// The listeners of a bench; "http" and "https" too.
const watchedHTTP = "watched"

// address returns where a listener of the given kind is, and starts it when it is first asked for: the engine does not like to
// be shut down before it has begun to serve.
func (b *bench) address(kind string) string {
	b.t.Helper()
	if addr := b.listeners[kind]; addr != "" {
		return addr
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	addr := l.Addr().String()
	served := &proxy.Listener{Listener: l}
	switch kind {
	case watchedHTTP:
		served.Listener = watchedListener{l, &b.accepted}
	case "https":
		served.Handshake = handshaker(b.t)
	}
	b.serving.Go(func() {
		if err := b.engine.Serve(served); err != nil {
			b.t.Errorf("serve: %v", err)
		}
	})
	b.listeners[kind] = addr
	return addr
}

// handshaker does what the product's own encrypted listener does, with a certificate that it makes itself.
func handshaker(t testing.TB) func(net.Conn) (*tls.Conn, error) {
	t.Helper()
	store, err := certs.NewStore(certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := server.NewConfig(store, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := server.NewHandshaker(server.HandshakerOptions{})
	return func(c net.Conn) (*tls.Conn, error) {
		tc := h.Server(c, config)
		return tc, h.Handshake(context.Background(), tc)
	}
}

// client is the client's end of a connection to the engine.
type client interface {
	net.Conn
	CloseWrite() error
}

// dial opens a connection to the engine.
func (b *bench) dial() client {
	b.t.Helper()
	c := b.dialTo(b.scheme)
	if b.scheme == "http" {
		return c
	}
	// Every other connection is of the version in which an alert can be told from data.
	config := &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.CurveP256}, MinVersion: tls.VersionTLS12} // the cheapest curve
	if b.dials++; b.dials%2 == 0 {
		config.MaxVersion = tls.VersionTLS12
	}
	r := &records{Conn: c}
	return &tlsClient{tls.Client(r, config), r}
}

// tlsClient is the client's end of an encrypted connection.
type tlsClient struct {
	*tls.Conn
	records *records
}

// truncated reports whether the connection has ended without close_notify (RFC 8446 section 6.1), which crypto/tls does not mind where a
// record is whole.
func (c *tlsClient) truncated() bool {
	const alert = 21
	return c.ConnectionState().Version == tls.VersionTLS12 && c.records.last != alert
}

// records remembers the type of the last TLS record that was read.
type records struct {
	net.Conn
	head []byte // of the record that is being read
	left int    // bytes of it that are still to come
	last byte
}

func (r *records) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	for data := b[:n]; len(data) > 0; {
		if r.left > 0 {
			skip := min(r.left, len(data))
			r.left, data = r.left-skip, data[skip:]
			continue
		}
		const headSize = 5
		take := min(headSize-len(r.head), len(data))
		r.head, data = append(r.head, data[:take]...), data[take:]
		if len(r.head) == headSize {
			r.last, r.left = r.head[0], int(r.head[3])<<8|int(r.head[4])
			r.head = r.head[:0]
		}
	}
	return n, err
}

// dialTo opens a TCP connection to a listener of the given kind.
func (b *bench) dialTo(kind string) *net.TCPConn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.address(kind))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// send writes pieces to c, each when the engine has read the one before: on a connection of dialWatched that is certain, and on an
// encrypted one each is a record, which is read by itself. An engine that has closed the connection already is no error: it has
// heard enough.
func (b *bench) send(c client, pieces []string) {
	for i, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			return
		}
		if i == len(pieces)-1 {
			return
		}
		if w, ok := c.(*watchingClient); ok && !w.awaitRead() {
			return
		}
	}
}
