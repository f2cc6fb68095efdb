package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/preamble"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// doors is a rig whose listeners, a plain and an encrypted one, let the test know when the engine has read.
type doors struct {
	*rig
	metrics    *observe.Metrics
	plain, tls string
	accepted   sync.Map
}

// newDoors returns doors to which loopback may speak the PROXY protocol, unless o says otherwise.
func newDoors(t testing.TB, o proxy.Options) *doors {
	t.Helper()
	m, err := observe.NewMetrics(observe.MetricsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.Metrics = m
	d := &doors{metrics: m}
	d.rig = newRig(t, o)
	d.plain, d.tls = d.listen(nil), d.listen(handshakerOf(t, "h2", "http/1.1"))
	return d
}

func (d *doors) listen(handshake func(net.Conn) (*tls.Conn, error)) string {
	d.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	go func() {
		_ = d.engine.Serve(&proxy.Listener{Listener: watchedListener{l, &d.accepted}, Handshake: handshake})
	}()
	return l.Addr().String()
}

// handshakerOf does what the product's own encrypted listener does, with a certificate that it makes itself.
func handshakerOf(t testing.TB, protocols ...string) func(net.Conn) (*tls.Conn, error) {
	t.Helper()
	store, err := certs.NewStore(certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := server.NewConfig(store, server.Options{Protocols: protocols})
	if err != nil {
		t.Fatal(err)
	}
	h, ctx := server.NewHandshaker(server.HandshakerOptions{}), t.Context()
	return func(c net.Conn) (*tls.Conn, error) {
		tc := h.Server(c, config)
		return tc, h.Handshake(ctx, tc)
	}
}

// dial opens a connection whose writes the test can wait for.
func (d *doors) dial(addr string) *watchingClient {
	d.t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	key := c.LocalAddr().String()
	slot, _ := d.accepted.LoadOrStore(key, make(chan *watchedConn, 1))
	other := <-slot.(chan *watchedConn)
	d.accepted.Delete(key) // the port may soon be another's
	return &watchingClient{c.(*net.TCPConn), other}
}

// send writes pieces, each when the engine has read the one before.
func send(t testing.TB, c *watchingClient, pieces ...string) {
	t.Helper()
	for i, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
		if i < len(pieces)-1 && !c.awaitRead() {
			t.Fatalf("the engine does not read piece %d of %d", i, len(pieces))
		}
	}
}

// closedSilently reports whether the engine has closed the connection without a byte of an answer.
func closedSilently(c net.Conn) error {
	b, err := io.ReadAll(c)
	switch {
	case len(b) > 0:
		return fmt.Errorf("it says %q", b)
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return errors.New("it is open")
	}
	return nil
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// count returns the value of a metric with the given label's value.
func (d *doors) count(name, label string) int {
	d.t.Helper()
	families, err := d.metrics.Gatherer().Gather()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || hasLabel(m, label)) {
				return int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	return 0
}

func hasLabel(m *dto.Metric, value string) bool {
	for _, l := range m.GetLabel() {
		if l.GetValue() == value {
			return true
		}
	}
	return false
}

// tellingPod answers with who it is told that the client is.
func tellingPod(t testing.TB) string {
	t.Helper()
	return backend(t, func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprint(w, told(q.Header.Get("X-Forwarded-Proto"), q.Header.Get("X-Forwarded-Port"), q.Header.Get("X-Real-Ip"), q.Header.Get("X-Forwarded-For")))
	})
}

func told(words ...string) string { return strings.Join(words, " ") }

// ask sends a request over c, returns the body of its answer, or the status where it is not 200, and closes c.
func ask(c net.Conn) (string, error) {
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return "", err
	}
	return answer(c)
}

const request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"

func answer(c net.Conn) (string, error) {
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if res.StatusCode != 200 {
		return strconv.Itoa(res.StatusCode), err
	}
	return string(b), err
}

var (
	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	announce = proxy.Options{ProxyProtocol: loopback}
	from     = preamble.Header{Source: netip.MustParseAddrPort("203.0.113.7:5000"), Destination: netip.MustParseAddrPort("198.51.100.1:8000")}
	from6    = preamble.Header{Source: netip.MustParseAddrPort("[2001:db8::7]:5000"), Destination: netip.MustParseAddrPort("[2001:db8::1]:8000")}
)

func headerText(v preamble.Version, h preamble.Header) string {
	return string(preamble.AppendHeader(nil, v, h))
}

// withTLV is a header of version 2 with something behind the addresses.
func withTLV(h preamble.Header, tlv string) string {
	b := preamble.AppendHeader(nil, preamble.V2, h)
	binary.BigEndian.PutUint16(b[14:], binary.BigEndian.Uint16(b[14:])+uint16(len(tlv)))
	return string(b) + tlv
}

// The client is who the header says, on every kind of listener and for each version.
func TestProxyHeader(t *testing.T) {
	d := newDoors(t, announce)
	d.route("a.test", tellingPod(t))
	port := strings.Split(d.plain, ":")[1]
	for _, c := range []struct{ story, header, want string }{
		{"v1", headerText(preamble.V1, from), "8000 203.0.113.7 203.0.113.7"},
		{"v2", headerText(preamble.V2, from), "8000 203.0.113.7 203.0.113.7"},
		{"v1 IPv6", headerText(preamble.V1, from6), "8000 2001:db8::7 2001:db8::7"},
		{"v2 IPv6", headerText(preamble.V2, from6), "8000 2001:db8::7 2001:db8::7"},
		{"v2 with TLVs", withTLV(from, "\x02\x00\x06a.test"), "8000 203.0.113.7 203.0.113.7"},
		{"v2 with 4 KiB", withTLV(from, "\xee\x0f\xf1"+strings.Repeat("x", 4096-12-3)), "8000 203.0.113.7 203.0.113.7"},
		{"v1 unknown", "PROXY UNKNOWN\r\n", port + " 127.0.0.1 127.0.0.1"},
		{"v2 local", headerText(preamble.V2, preamble.Header{}), port + " 127.0.0.1 127.0.0.1"},
	} {
		t.Run(c.story, func(t *testing.T) {
			plain := d.dial(d.plain)
			send(t, plain, c.header+request)
			if got, err := answer(plain); got != "http "+c.want || err != nil {
				t.Errorf("plain: %q %v, want %q", got, err, c.want)
			}
			secret := d.dial(d.tls)
			send(t, secret, c.header)
			want := "https " + strings.Replace(c.want, port, strings.Split(d.tls, ":")[1], 1)
			if got, err := ask(tls.Client(secret, &tls.Config{InsecureSkipVerify: true})); got != want || err != nil {
				t.Errorf("TLS: %q %v, want %q", got, err, want)
			}
		})
	}
	if n := d.count("podlane_connections_closed_total", "proxy-header-invalid"); n != 0 {
		t.Errorf("%d connections with invalid headers", n)
	}
}

// However the header and what follows are split, the answer is the same, and nothing behind the header is lost.
func TestProxyHeaderSplitAtEveryByte(t *testing.T) {
	d := newDoors(t, announce)
	d.route("a.test", tellingPod(t))
	const want = "http 8000 203.0.113.7 203.0.113.7"
	for _, v := range []preamble.Version{preamble.V1, preamble.V2} {
		header := headerText(v, from)
		text := header + request
		for i := 1; i <= len(header)+5; i++ {
			c := d.dial(d.plain)
			send(t, c, text[:i], text[i:])
			if got, err := answer(c); got != want || err != nil {
				t.Fatalf("version %d, split at %d: %q %v", v, i, got, err)
			}
			_ = c.Close()
		}
		c := d.dial(d.plain)
		send(t, c, strings.Split(text, "")...)
		if got, err := answer(c); got != want || err != nil {
			t.Errorf("version %d, byte by byte: %q %v", v, got, err)
		}
	}
}

// HTTP/2 follows the header like HTTP/1.1, and pipelined requests find each its own client.
func TestProxyHeaderBeforeHTTP2(t *testing.T) {
	o := announce
	o.H2C = true
	d := newDoors(t, o)
	d.route("a.test", tellingPod(t))
	for _, c := range []struct{ base, addr, want string }{
		{"http://a.test/", d.plain, "http 8000 203.0.113.7 203.0.113.7"},
		{"https://a.test/", d.tls, "https 8000 203.0.113.7 203.0.113.7"},
	} {
		tr := &http.Transport{
			Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				nc := d.dial(c.addr)
				_, err := io.WriteString(nc, headerText(preamble.V2, from))
				return nc, err
			},
		}
		tr.Protocols.SetHTTP2(true)
		tr.Protocols.SetUnencryptedHTTP2(true)
		for range 3 {
			res, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get(c.base)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if string(b) != c.want || res.ProtoMajor != 2 || err != nil {
				t.Errorf("%s %q %v, want %q", res.Proto, b, err, c.want)
			}
		}
		tr.CloseIdleConnections()
	}
}

// A proxy in front that ended TLS itself says so by the port that the client reached.
func TestProxyHeaderOfPort443(t *testing.T) {
	d := newDoors(t, announce)
	d.route("a.test", tellingPod(t))
	h := from
	h.Destination = netip.MustParseAddrPort("198.51.100.1:443")
	c := d.dial(d.plain)
	send(t, c, headerText(preamble.V1, h)+request)
	if got, err := answer(c); got != "https 443 203.0.113.7 203.0.113.7" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

// Whoever is trusted to send a header must send one: nothing else is read, nothing is answered, and no Pod hears of it.
func TestNoProxyHeader(t *testing.T) {
	d := newDoors(t, announce)
	asked := make(chan struct{}, 100)
	d.route("a.test", backend(t, func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	wrong := []string{
		request, "PROXY TCP4 203.0.113.7 198.51.100.1 5000\r\n" + request, "PROXY TCP5 203.0.113.7 198.51.100.1 5000 8000\r\n" + request,
		"PROXY " + strings.Repeat("x", 200), "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c", strings.Repeat("\x00", 100),
		withTLV(from, strings.Repeat("x", 5000)), " " + headerText(preamble.V1, from) + request,
	}
	for _, addr := range []string{d.plain, d.tls} {
		for _, text := range wrong {
			c := d.dial(addr)
			_, _ = io.WriteString(c, text)
			if err := closedSilently(c); err != nil {
				t.Errorf("%.40q: %v", text, err)
			}
		}
		// The header is taken once, and a second one is no request.
		c := d.dial(addr)
		_, _ = io.WriteString(c, headerText(preamble.V1, from)+headerText(preamble.V1, from)+request)
		if got, err := answer(c); err == nil && got != "400" {
			t.Errorf("two headers: %q", got)
		}
	}
	waitFor(t, "all to be counted", func() bool {
		return d.count("podlane_connections_closed_total", "proxy-header-invalid") == 2*len(wrong)
	})
	// A client that goes away has done nothing wrong.
	for _, text := range []string{"", "PROXY TCP4"} {
		c := d.dial(d.plain)
		send(t, c, text)
		_ = c.CloseWrite()
		if err := closedSilently(c); err != nil {
			t.Errorf("%q and the end: %v", text, err)
		}
	}
	waitFor(t, "no connection", func() bool { return d.engine.Connections() == 0 })
	if n := d.count("podlane_connections_closed_total", "proxy-header-invalid"); n != 2*len(wrong) {
		t.Errorf("%d invalid headers, want %d", n, 2*len(wrong))
	}
	if len(asked) > 0 {
		t.Error("a Pod was asked")
	}
}

// The time is that of the whole header, however often a byte of it comes.
func TestProxyHeaderTimeout(t *testing.T) {
	o := announce
	o.Timeouts = proxy.Timeouts{ProxyHeader: 200 * time.Millisecond, FirstByte: -1, Header: -1}
	d := newDoors(t, o)
	for _, text := range []string{"", "P", "PROXY TCP4 203.0.113.7", "\r\n\r\n\x00"} {
		c := d.dial(d.tls)
		send(t, c, text)
		if err := closedSilently(c); err != nil {
			t.Errorf("%q and nothing more: %v", text, err)
		}
	}
	c := d.dial(d.plain)
	sent := 0
	for line := "PROXY UNKNOWN" + strings.Repeat(" ", 80); sent < len(line); sent++ {
		if _, err := io.WriteString(c, line[sent:sent+1]); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if sent > 80 {
		t.Error("each byte puts the end off")
	}
	waitFor(t, "all to be counted", func() bool {
		return d.count("podlane_connections_closed_total", "proxy-header-timeout") == 5
	})
}

// Those who are not trusted are clients like all others, and cannot say that they are somebody else.
func TestProxyHeaderFromStrangers(t *testing.T) {
	for story, o := range map[string]proxy.Options{
		"nobody is trusted":      {},
		"others are trusted":     {ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}},
		"trusted for the fields": {TrustedProxies: loopback},
	} {
		t.Run(story, func(t *testing.T) {
			d := newDoors(t, o)
			d.route("a.test", tellingPod(t))
			c := d.dial(d.plain)
			send(t, c, request)
			if got, err := answer(c); !strings.HasSuffix(got, " 127.0.0.1 127.0.0.1") || err != nil {
				t.Errorf("without a header: %q %v", got, err)
			}
			if got, err := ask(tls.Client(d.dial(d.tls), &tls.Config{InsecureSkipVerify: true})); !strings.HasSuffix(got, " 127.0.0.1 127.0.0.1") || err != nil {
				t.Errorf("TLS without a header: %q %v", got, err)
			}
			for _, v := range []preamble.Version{preamble.V1, preamble.V2} {
				c := d.dial(d.plain)
				_, _ = io.WriteString(c, headerText(v, from)+request)
				if got, err := answer(c); got != "400" || err != nil {
					t.Errorf("version %d: %q %v, want 400", v, got, err)
				}
				c = d.dial(d.tls)
				_, _ = io.WriteString(c, headerText(v, from))
				if got, err := ask(tls.Client(c, &tls.Config{InsecureSkipVerify: true})); err == nil {
					t.Errorf("TLS, version %d: %q", v, got)
				}
			}
		})
	}
}

// The limit for one address counts the address in the header, and health checks not at all.
func TestProxyHeaderAndTheLimitForOneAddress(t *testing.T) {
	o := announce
	o.MaxPerAddress = 2
	d := newDoors(t, o)
	d.route("a.test", tellingPod(t))
	keep := strings.Replace(request, "Connection: close\r\n", "", 1)
	open := func(h preamble.Header) (*watchingClient, error) {
		c := d.dial(d.plain)
		_, _ = io.WriteString(c, headerText(preamble.V2, h)+keep)
		_, err := answer(c)
		return c, err
	}
	other := from
	other.Source = netip.MustParseAddrPort("203.0.113.8:5000")
	var first *watchingClient
	for i, c := range []struct {
		h  preamble.Header
		ok bool
	}{{from, true}, {from, true}, {from, false}, {other, true}, {other, true}, {other, false}, {preamble.Header{}, true}, {preamble.Header{}, true}, {preamble.Header{}, true}} {
		nc, err := open(c.h)
		if (err == nil) != c.ok {
			t.Fatalf("connection %d from %v: %v", i, c.h.Source, err)
		}
		if i == 0 {
			first = nc
		}
	}
	_ = first.Close()
	waitFor(t, "room", func() bool { _, err := open(from); return err == nil })
	waitFor(t, "the refusals to be counted", func() bool { return d.count("podlane_requests_rejected_total", "overload") >= 2 })
}

// The address in the header is the peer whose fields are believed, or not.
func TestProxyHeaderAndForwardedFields(t *testing.T) {
	o := announce
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	d := newDoors(t, o)
	d.route("a.test", tellingPod(t))
	for h, want := range map[preamble.Header]string{
		from:  "http 8000 192.0.2.99 192.0.2.99, 203.0.113.7",
		from6: "http 8000 2001:db8::7 2001:db8::7",
		// Loopback itself is not trusted for fields.
		{}: "http " + strings.Split(d.plain, ":")[1] + " 127.0.0.1 127.0.0.1",
	} {
		c := d.dial(d.plain)
		send(t, c, headerText(preamble.V1, h)+strings.Replace(request, "\r\n\r\n", "\r\nX-Forwarded-For: 192.0.2.99\r\n\r\n", 1))
		if got, err := answer(c); got != want || err != nil {
			t.Errorf("%v: %q %v, want %q", h.Source, got, err, want)
		}
	}
}

// A connection that waits with its header does not hold up the end of the process.
func TestDrainBeforeTheProxyHeader(t *testing.T) {
	d := newDoors(t, announce)
	d.dial(d.plain)
	d.dial(d.tls)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.engine.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
