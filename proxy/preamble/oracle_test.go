package preamble_test

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"

	"podlane.dev/podlane/proxy/preamble"
)

// byProxyproto is what the parser that most Go programs use makes of b.
func byProxyproto(b []byte) (h preamble.Header, n int, err error) {
	in := bytes.NewReader(b)
	// All of it in one read: that parser gives up on a line that comes in two.
	br := bufio.NewReaderSize(in, len(b)+16)
	theirs, err := proxyproto.Read(br)
	if err != nil {
		return h, 0, err
	}
	n = len(b) - in.Len() - br.Buffered()
	if source, destination, ok := theirs.TCPAddrs(); ok && theirs.Command == proxyproto.PROXY {
		h = preamble.Header{Source: addrPort(source), Destination: addrPort(destination)}
	}
	return h, n, nil
}

func addrPort(a *net.TCPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// otherwise reports whether b is a header on which the two differ on purpose: what the specification leaves to the receiver. We take PROXY
// for an unspecified family, as HAProxy does, whatever family comes with LOCAL, because it says to ignore that, no datagrams, and no CR
// in a line but at its end.
func otherwise(b []byte) bool {
	if line, _, ok := bytes.Cut(b, []byte("\r\n")); ok && bytes.HasPrefix(line, []byte("PROXY UNKNOWN")) {
		return bytes.IndexByte(line, '\r') >= 0
	}
	if len(b) < 16 || b[0] != '\r' {
		return false
	}
	command, family := b[12], b[13]
	return command == 0x20 || family == 0x00 || family&0x0f == 2
}

func TestAgainstProxyproto(t *testing.T) {
	for text := range headers() {
		if otherwise([]byte(text)) {
			continue
		}
		h, n, err := preamble.ParseHeader([]byte(text + "behind"))
		if theirs, m, theirErr := byProxyproto([]byte(text + "behind")); h != theirs || n != m || err != nil || theirErr != nil {
			t.Errorf("%.60q: %v %d %v, proxyproto says %v %d %v", text, h, n, err, theirs, m, theirErr)
		}
	}
	for _, text := range noHeaders {
		if h, n, err := byProxyproto([]byte(text)); err == nil && !otherwise([]byte(text)) {
			t.Errorf("%.60q is refused, proxyproto says %v %d", text, h, n)
		}
	}
}

func FuzzAgainstProxyproto(f *testing.F) {
	for text := range headers() {
		f.Add([]byte(text))
	}
	for _, text := range noHeaders {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := preamble.ParseHeader(b)
		theirs, m, theirErr := byProxyproto(b)
		switch {
		case otherwise(b):
		case (err == nil) != (theirErr == nil):
			t.Fatalf("%q: %v %v, proxyproto says %v %v", b, h, err, theirs, theirErr)
		case err == nil && (h != theirs || n != m):
			t.Fatalf("%q: %v %d, proxyproto says %v %d", b, h, n, theirs, m)
		}
	})
}
