package http1_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
)

// errSilent is what a piecewise connection returns where a real one would wait for ever.
var errSilent = errors.New("the peer is silent")

// piecewise is a connection whose reads return given pieces, one each, and then end. It is no plain socket, so that the codec
// takes the way that TLS connections take.
type piecewise struct {
	net.Conn // nil: what the codec does not need panics
	pieces   [][]byte
	end      error
	read     int
	wrote    bytes.Buffer
}

func (p *piecewise) Read(b []byte) (int, error) {
	for len(p.pieces) > 0 && len(p.pieces[0]) == 0 {
		p.pieces = p.pieces[1:]
	}
	if len(p.pieces) == 0 {
		return 0, p.end
	}
	n := copy(b, p.pieces[0])
	p.pieces[0] = p.pieces[0][n:]
	p.read += n
	return n, nil
}

func (p *piecewise) Write(b []byte) (int, error)      { return p.wrote.Write(b) }
func (p *piecewise) SetReadDeadline(time.Time) error  { return nil }
func (p *piecewise) SetWriteDeadline(time.Time) error { return nil }

// split cuts s at the given offsets.
func split(s string, at ...int) [][]byte {
	var out [][]byte
	from := 0
	for _, i := range at {
		out = append(out, []byte(s[from:i]))
		from = i
	}
	return append(out, []byte(s[from:]))
}

// every cuts s behind every byte.
func every(s string) [][]byte {
	at := make([]int, 0, len(s))
	for i := 1; i < len(s); i++ {
		at = append(at, i)
	}
	return split(s, at...)
}

// cuts are the offsets at which a long input is cut in two: all of a short one, and of a long one those around line ends, at both
// ends, and some between.
func cuts(s string) []int {
	var at []int
	for i := 1; i < len(s); i++ {
		near := bytes.IndexByte([]byte(s[max(0, i-3):min(len(s), i+3)]), '\n') >= 0
		if len(s) < 400 || i < 20 || len(s)-i < 20 || len(s) < 20_000 && near && i < 600 || i%4093 == 0 {
			at = append(at, i)
		}
	}
	return at
}

// sockets returns two ends of a local socket. With SOCK_SEQPACKET each write of one end is one read of the other, which makes splits
// certain on the codec's way for plain sockets.
func sockets(t testing.TB, kind int) (server, peer net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return ends[0], ends[1]
}

// overSocket returns a connection on which the pieces arrive one by one, and then the client's end where end is io.EOF, and a function
// that ends it.
func overSocket(t testing.TB, pieces [][]byte, end error) (net.Conn, func()) {
	t.Helper()
	kind := syscall.SOCK_SEQPACKET
	for _, p := range pieces {
		if len(p) > 4<<10 {
			kind = syscall.SOCK_STREAM // a packet that is longer than the reader's buffer would be cut
		}
	}
	server, peer := sockets(t, kind)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, p := range pieces {
			if len(p) == 0 {
				continue
			}
			if _, err := peer.Write(p); err != nil {
				return
			}
		}
		if errors.Is(end, io.EOF) {
			_ = peer.(*net.UnixConn).CloseWrite()
		}
	}()
	if err := server.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return server, func() {
		server.Close()
		<-done
		peer.Close()
	}
}

// outcome is what became of one message: everything about it that must not depend on how its bytes arrive.
type outcome struct {
	// status is that of the refusal, 0 where the message is good.
	status int
	err    string
	head   string
	body   string
	// used counts the bytes of the connection up to the message's end, where it is good.
	used int
}

// String is for messages of failing tests.
func (o outcome) String() string {
	return fmt.Sprintf("{%d %s %.300q %.60q %d}", o.status, o.err, o.head, o.body, o.used)
}

// failed describes an error. Details of refusals belong to the outcome: the client reads them.
func failed(o outcome, err error) outcome {
	if reject, ok := errors.AsType[*exchange.Reject](err); ok {
		o.status = reject.Status
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		o.status = 400
	}
	o.err = err.Error()
	return o
}

// drain pulls a whole body.
func drain(b exchange.Body) (string, error) {
	if b == nil {
		return "", nil
	}
	var all []byte
	for {
		p, err := b.Next()
		if (len(p) > 0) != (err == nil) {
			return string(all), fmt.Errorf("%d bytes with error %w", len(p), err)
		}
		all = append(all, p...)
		if errors.Is(err, io.EOF) {
			return string(all), nil
		}
		if err != nil {
			return string(all), err
		}
	}
}

// describe is the whole head as the codec and the message model understood it.
func describe(x *exchange.Exchange) string {
	r := &x.Request
	length := int64(-2)
	if r.Body != nil {
		length = r.Body.Length()
	}
	return fmt.Sprintf("%s %s %v %q close=%v expect=%v upgrade=%q length=%d\n%s", r.Method, r.Target, r.Version, r.Hostname,
		r.Close, r.ExpectContinue, r.Upgrade, length, r.Fields.AppendTo(nil))
}

// readRequests reads up to n requests from conn, and stops behind the first that is refused or ends the connection.
func readRequests(conn net.Conn, n int, limits http1.Limits) []outcome {
	var clock http1.Clock
	srv := http1.NewServer(conn, limits, &clock)
	defer srv.Close()
	var all []outcome
	for range n {
		o, again := readRequest(srv, conn)
		all = append(all, o)
		if !again {
			break
		}
		srv.Next()
	}
	return all
}

func readRequest(srv *http1.Server, conn net.Conn) (o outcome, again bool) {
	x := exchange.New()
	defer x.Release()
	if err := srv.ReadRequest(x); err != nil {
		return failed(o, err), false
	}
	if reject := x.Validate(); reject != nil {
		return failed(o, reject), false
	}
	o.head = describe(x)
	var err error
	if o.body, err = drain(x.Request.Body); err != nil {
		return failed(o, err), false
	}
	o.head += string(x.Request.Trailers.AppendTo(nil))
	if !srv.BodyDone() {
		o.err = "body is not done"
	}
	if p, ok := conn.(*piecewise); ok {
		o.used = p.read - srv.Buffered()
	}
	return o, !x.Request.Close
}
