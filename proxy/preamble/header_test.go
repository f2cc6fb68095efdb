package preamble_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"podlane.dev/podlane/proxy/preamble"
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// v2 is a header of version 2 with the given bytes 13 and 14.
func v2(command, family byte, payload string) string {
	return signature + string(binary.BigEndian.AppendUint16([]byte{command, family}, uint16(len(payload)))) + payload
}

const (
	ends4 = "\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb" // 192.0.2.1:56324 to 192.0.2.2:443
	src6  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	dst6  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"
	ends6 = src6 + dst6 + "\xdc\x04\x01\xbb"
	tlvs  = "\x02\x00\x06a.test" + "\x05\x00\x02id" + "\xee\x00\x00"
)

func header(source, destination string) preamble.Header {
	return preamble.Header{Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
}

// headers are valid, and what they say.
func headers() map[string]preamble.Header {
	four, six, unknown := header("192.0.2.1:56324", "192.0.2.2:443"), header("[2001:db8::1]:56324", "[2001:db8::2]:443"), preamble.Header{}
	return map[string]preamble.Header{
		"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n":                        four,
		"PROXY TCP6 2001:db8::1 2001:DB8::2 56324 443\r\n":                    six,
		"PROXY TCP6 2001:0db8:0:0:0:0:0:1 2001:db8:0:0:0:0:0:2 56324 443\r\n": six,
		"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 56324 443\r\n":           four,
		"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n":                      header("255.255.255.255:65535", "0.0.0.0:0"),
		"PROXY UNKNOWN\r\n": unknown,
		"PROXY UNKNOWN 2001:db8::1 2001:db8::2 56324 443\r\n":                          unknown,
		"PROXY UNKNOWN \x00\xff any thing\r\n":                                         unknown,
		"PROXY UNKNOWN " + strings.Repeat("f", 107-len("PROXY UNKNOWN \r\n")) + "\r\n": unknown,
		v2(0x21, 0x11, ends4):                                      four,
		v2(0x21, 0x21, ends6):                                      six,
		v2(0x21, 0x11, ends4+tlvs):                                 four,
		v2(0x21, 0x21, ends6+tlvs):                                 six,
		v2(0x21, 0x11, ends4+strings.Repeat("x", 4096-len(ends4))): four,
		v2(0x21, 0x21, strings.Repeat("\x00", 10)+"\xff\xff"+ends4[:4]+ends6[16:]): header("192.0.2.1:56324", "[2001:db8::2]:443"),
		v2(0x21, 0x00, ""):                       unknown,
		v2(0x21, 0x00, tlvs):                     unknown,
		v2(0x21, 0x31, strings.Repeat("/", 216)): unknown,
		v2(0x20, 0x00, ""):                       unknown,
		v2(0x20, 0x11, ""):                       unknown,
		v2(0x20, 0x11, ends4+tlvs):               unknown,
		v2(0x20, 0xff, "anything"):               unknown,
	}
}

// noHeaders are refused.
var noHeaders = []string{
	"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "PRI * HTTP/2.0\r\n", "\r\n\r\nGET / HTTP/1.1\r\n", "\x00",
	"proxy TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "PROXY\r\n", "PROXY \r\n", "PROXY\tTCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "PROXYTCP4\r\n",
	"PROXY  TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "PROXY tcp4 192.0.2.1 192.0.2.2 56324 443\r\n", "PROXY TCP 192.0.2.1 192.0.2.2 56324 443\r\n",
	"PROXY UDP4 192.0.2.1 192.0.2.2 56324 443\r\n", "PROXY UNKNOWNX\r\n", "PROXY TCP4\r\n", "PROXY TCP4 \r\n",
	"PROXY TCP4 192.0.2.1\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 56324 \r\n",
	"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n", "PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
	"PROXY TCP4 192.0.2.1 192.0.2.2 56324  443\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n", "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\r\n",
	"PROXY TCP4 192.0.2.1 192.0.2.2\r 56324 443\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 +5632 443\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 56324 -1\r\n",
	"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 56324 0443\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 00 443\r\n",
	"PROXY TCP4 192.0.2.1 192.0.2.2 99999 443\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 100000 443\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 0x50 443\r\n",
	"PROXY TCP4 192.0.2.1:80 192.0.2.2 56324 443\r\n", "PROXY TCP4 192.0.2 192.0.2.2 56324 443\r\n", "PROXY TCP4 192.0.2.256 192.0.2.2 56324 443\r\n",
	"PROXY TCP4 192.0.2.01 192.0.2.2 56324 443\r\n", "PROXY TCP4 a.test 192.0.2.2 56324 443\r\n", "PROXY TCP4 2001:db8::1 192.0.2.2 56324 443\r\n",
	"PROXY TCP4 192.0.2.1 2001:db8::2 56324 443\r\n", "PROXY TCP4 ::ffff:192.0.2.1 ::ffff:192.0.2.2 56324 443\r\n",
	"PROXY TCP6 192.0.2.1 2001:db8::2 56324 443\r\n", "PROXY TCP6 2001:db8::1 192.0.2.2 56324 443\r\n", "PROXY TCP6 [2001:db8::1] 2001:db8::2 56324 443\r\n",
	"PROXY TCP6 fe80::1%eth0 2001:db8::2 56324 443\r\n", "PROXY TCP6 2001:::1 2001:db8::2 56324 443\r\n", "PROXY TCP6 12001:db8::1 2001:db8::2 56324 443\r\n",
	"PROXY UNKNOWN\n", "PROXY UNKNOWN a\rb\r\n", "PROXY UNKNOWN " + strings.Repeat("f", 108-len("PROXY UNKNOWN \r\n")) + "\r\n",
	"PROXY UNKNOWN " + strings.Repeat("f", 1000),
	v2(0x22, 0x11, ends4), v2(0x2f, 0x11, ends4), v2(0x11, 0x11, ends4), v2(0x31, 0x11, ends4), v2(0x01, 0x11, ends4),
	v2(0x21, 0x12, ends4), v2(0x21, 0x22, ends6), v2(0x21, 0x32, strings.Repeat("/", 216)), v2(0x21, 0x10, ends4), v2(0x21, 0x13, ends4),
	v2(0x21, 0x41, ends4), v2(0x21, 0x01, ""), v2(0x21, 0xff, ends6),
	v2(0x21, 0x11, ""), v2(0x21, 0x11, ends4[:11]), v2(0x21, 0x21, ends6[:35]), v2(0x21, 0x21, ends4), v2(0x21, 0x31, strings.Repeat("/", 215)),
	v2(0x21, 0x11, strings.Repeat("x", 4097)), v2(0x20, 0x00, strings.Repeat("x", 4097)), v2(0x21, 0x11, strings.Repeat("x", 65535)),
	signature[:11] + "\r" + "\x21\x11\x00\x0c" + ends4, "\r\n\r\n\x00\r\nQUIT\r\n",
}

func TestHeaders(t *testing.T) {
	for text, want := range headers() {
		for _, behind := range []string{"", "G", "\x16\x03\x01", text, "\r\n"} {
			h, n, err := preamble.ParseHeader([]byte(text + behind))
			if h != want || n != len(text) || err != nil {
				t.Errorf("%.60q and %.5q: %v, %d of %d bytes, %v; want %v", text, behind, h, n, len(text), err, want)
			}
		}
		if len(text) > preamble.MaxHeader {
			t.Errorf("a header of %d bytes, MaxHeader is %d", len(text), preamble.MaxHeader)
		}
	}
}

// Whatever is split off, the rest is short, and nothing is ever taken for a shorter header.
func TestHeadersSplitAtEveryByte(t *testing.T) {
	for text := range headers() {
		for i := range len(text) {
			if h, n, err := preamble.ParseHeader([]byte(text[:i])); !errors.Is(err, preamble.ErrShort) || n != 0 || h != (preamble.Header{}) {
				t.Fatalf("%d bytes of %.60q: %v, %d, %v", i, text, h, n, err)
			}
		}
	}
}

func TestNoHeaders(t *testing.T) {
	for _, text := range noHeaders {
		refused := false
		for i := range len(text) + 1 {
			h, n, err := preamble.ParseHeader([]byte(text[:i]))
			short := errors.Is(err, preamble.ErrShort)
			if err == nil || n != 0 || h != (preamble.Header{}) || short && refused {
				t.Fatalf("%d bytes of %.60q: %v, %d, %v", i, text, h, n, err)
			}
			refused = !short
		}
		if !refused {
			t.Errorf("%.60q is not refused", text)
		}
	}
}

// More than MaxHeader bytes are never asked for.
func TestHeaderIsBounded(t *testing.T) {
	for text := range headers() {
		whole := []byte(text)
		for i := range whole {
			for _, c := range []byte{0, ' ', 'A', 0xff} {
				long := append(append([]byte(nil), whole...), make([]byte, preamble.MaxHeader)...)
				long[i] = c
				if _, n, err := preamble.ParseHeader(long[:preamble.MaxHeader]); errors.Is(err, preamble.ErrShort) || n > preamble.MaxHeader {
					t.Fatalf("%.60q with %#x at %d: %d, %v", text, c, i, n, err)
				}
			}
		}
	}
}

// What AppendHeader writes ParseHeader reads, and writes the same again.
func TestHeaderRoundTrip(t *testing.T) {
	address := rapid.Custom(func(t *rapid.T) netip.AddrPort {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes")
		a := netip.AddrFrom16([16]byte(b))
		switch rapid.IntRange(0, 2).Draw(t, "family") {
		case 0:
			a = netip.AddrFrom4([4]byte(b))
		case 1:
			a = netip.AddrFrom16(netip.AddrFrom4([4]byte(b)).As16())
		}
		return netip.AddrPortFrom(a, rapid.Uint16().Draw(t, "port"))
	})
	rapid.Check(t, func(t *rapid.T) {
		h := preamble.Header{Source: address.Draw(t, "source"), Destination: address.Draw(t, "destination")}
		want := preamble.Header{Source: unmapped(h.Source), Destination: unmapped(h.Destination)}
		for _, v := range []preamble.Version{preamble.V1, preamble.V2} {
			text := preamble.AppendHeader([]byte("before"), v, h)[len("before"):]
			got, n, err := preamble.ParseHeader(append(text, "behind"...))
			if got != want || n != len(text) || err != nil {
				t.Fatalf("%v as %q: %v, %d, %v", h, text, got, n, err)
			}
			if again := preamble.AppendHeader(nil, v, got); string(again) != string(text) {
				t.Fatalf("%q again is %q", text, again)
			}
		}
	})
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func TestAppendHeader(t *testing.T) {
	four, mixed := header("192.0.2.1:56324", "192.0.2.2:443"), header("192.0.2.1:56324", "[2001:db8::2]:443")
	six := header("[fe80::1%eth0]:56324", "[2001:db8::2]:443")
	for _, c := range []struct {
		version preamble.Version
		h       preamble.Header
		want    string
	}{
		{preamble.V1, four, "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"},
		{preamble.V1, mixed, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 56324 443\r\n"},
		{preamble.V1, six, "PROXY TCP6 fe80::1 2001:db8::2 56324 443\r\n"},
		{preamble.V1, preamble.Header{}, "PROXY UNKNOWN\r\n"},
		{preamble.V1, preamble.Header{Source: four.Source}, "PROXY UNKNOWN\r\n"},
		{preamble.V2, four, v2(0x21, 0x11, ends4)},
		{preamble.V2, mixed, v2(0x21, 0x21, strings.Repeat("\x00", 10)+"\xff\xff"+ends4[:4]+ends6[16:])},
		{preamble.V2, preamble.Header{}, v2(0x20, 0x00, "")},
		{preamble.V2, preamble.Header{Destination: four.Source}, v2(0x20, 0x00, "")},
	} {
		if got := string(preamble.AppendHeader(nil, c.version, c.h)); got != c.want {
			t.Errorf("version %d of %v:\n%q, want\n%q", c.version, c.h, got, c.want)
		}
	}
}

func TestHeaderAllocations(t *testing.T) {
	for text, budget := range map[string]float64{
		v2(0x21, 0x11, ends4+tlvs): 0, v2(0x21, 0x21, ends6): 0, v2(0x20, 0x00, ""): 0, v2(0x21, 0x11, ends4)[:20]: 0,
		// The text of the line, from which addresses are parsed.
		"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n": 1, "PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n": 1, "PROXY TCP4": 0, "GET": 0,
	} {
		b := []byte(text)
		if n := testing.AllocsPerRun(100, func() { _, _, _ = preamble.ParseHeader(b) }); n > budget {
			t.Errorf("%.30q: %v allocations, at most %v", text, n, budget)
		}
	}
	h, buf := header("192.0.2.1:56324", "192.0.2.2:443"), make([]byte, 0, 128)
	for _, v := range []preamble.Version{preamble.V1, preamble.V2} {
		if n := testing.AllocsPerRun(100, func() { _ = preamble.AppendHeader(buf, v, h) }); n > 0 {
			t.Errorf("AppendHeader, version %d: %v allocations", v, n)
		}
	}
}

func BenchmarkParseHeader(b *testing.B) {
	for name, text := range map[string]string{
		"v1": "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "v2": v2(0x21, 0x11, ends4+tlvs),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			in := []byte(text)
			for b.Loop() {
				if _, n, err := preamble.ParseHeader(in); n != len(in) {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleParseHeader() {
	h, n, err := preamble.ParseHeader([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n"))
	fmt.Println(h.Source, h.Destination, n, err)
	// Output: 192.0.2.1:56324 192.0.2.2:443 42 <nil>
}

// A verdict stays what it is: more bytes never change one that was given, and fewer never give another than "short".
func FuzzParseHeader(f *testing.F) {
	for text := range headers() {
		f.Add([]byte(text), []byte("GET"))
	}
	for _, text := range noHeaders {
		f.Add([]byte(text), []byte{})
	}
	f.Fuzz(func(t *testing.T, b, behind []byte) {
		h, n, err := preamble.ParseHeader(b)
		if n > len(b) || n > preamble.MaxHeader || (n > 0) != (err == nil) {
			t.Fatalf("%d of %d bytes, %v", n, len(b), err)
		}
		for i := range min(len(b), preamble.MaxHeader) {
			h2, n2, err2 := preamble.ParseHeader(b[:i])
			switch {
			case errors.Is(err2, preamble.ErrShort):
			case err2 != nil && err == nil, err2 == nil && (err != nil || n2 != n || h2 != h), err2 != nil && errors.Is(err, preamble.ErrShort):
				t.Fatalf("%d bytes: %v %d %v; all: %v %d %v", i, h2, n2, err2, h, n, err)
			}
		}
		if errors.Is(err, preamble.ErrShort) {
			if len(b) >= preamble.MaxHeader {
				t.Fatalf("%d bytes are short", len(b))
			}
			return
		}
		h2, n2, err2 := preamble.ParseHeader(append(slices.Clip(b), behind...))
		if h2 != h || n2 != n || (err2 == nil) != (err == nil) {
			t.Fatalf("%v %d %v; with more behind %v %d %v", h, n, err, h2, n2, err2)
		}
		if err == nil {
			for _, v := range []preamble.Version{preamble.V1, preamble.V2} {
				if h2, _, err := preamble.ParseHeader(preamble.AppendHeader(nil, v, h)); h2 != h || err != nil {
					t.Fatalf("%v is %v after version %d, %v", h, h2, v, err)
				}
			}
		}
	})
}
