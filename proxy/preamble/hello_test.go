package preamble_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/preamble"
)

// script is a connection whose other end has sent some bytes and says no more. What is written to it is kept.
type script struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// helloOf returns what a real client begins with.
func helloOf(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	s := &script{in: bytes.NewReader(nil)}
	c := config.Clone()
	c.InsecureSkipVerify = true
	if err := tls.Client(s, c).Handshake(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return s.out.Bytes()
}

// record is one record of a handshake.
func record(content string) string {
	return string(binary.BigEndian.AppendUint16([]byte{22, 3, 1}, uint16(len(content)))) + content
}

// fragmented returns a connection's first records cut into others, of size bytes each.
func fragmented(b []byte, size int) []byte {
	var out []byte
	for len(b) > 5 {
		n := int(binary.BigEndian.Uint16(b[3:]))
		for part := range slices.Chunk(b[5:5+n], size) {
			out = append(out, b[:3]...)
			out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
			out = append(out, part...)
		}
		b = b[5+n:]
	}
	return out
}

// byCryptoTLS is what crypto/tls reads of b; ok is false where it refuses it or wants more.
func byCryptoTLS(b []byte) (h preamble.Hello, ok bool) {
	stop := errors.New("seen")
	config := &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		h, ok = preamble.Hello{ServerName: i.ServerName, Protocols: i.SupportedProtos}, true
		return nil, stop
	}}
	_ = tls.Server(&script{in: bytes.NewReader(b)}, config).Handshake()
	return h, ok
}

func equal(a, b preamble.Hello) bool {
	return a.ServerName == b.ServerName && slices.Equal(a.Protocols, b.Protocols)
}

// fed sniffs b as it comes in pieces of the given size.
func fed(b []byte, size int) (h preamble.Hello, n int, err error) {
	var s preamble.Sniffer
	err = preamble.ErrShort
	for n < len(b) && errors.Is(err, preamble.ErrShort) {
		n = min(n+size, len(b))
		h, err = s.Hello(b[:n])
	}
	return h, n, err
}

// configs are clients of all kinds.
func configs() map[string]*tls.Config {
	return map[string]*tls.Config{
		"a name":          {ServerName: "a.test"},
		"mixed case":      {ServerName: "A.Test"},
		"no name":         {},
		"protocols":       {ServerName: "a.test", NextProtos: []string{"h2", "http/1.1"}},
		"acme":            {ServerName: "a.test", NextProtos: []string{"acme-tls/1"}},
		"TLS 1.2":         {ServerName: "a.test", MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		"TLS 1.0":         {ServerName: "a.test", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"a long name":     {ServerName: strings.Repeat("a.", 120) + "test"},
		"many protocols":  {ServerName: "a.test", NextProtos: slices.Repeat([]string{strings.Repeat("p", 200)}, 70)},
		"classic curves":  {ServerName: "a.test", CurvePreferences: []tls.CurveID{tls.X25519}},
		"an IP, no name":  {ServerName: "192.0.2.1"},
		"no post-quantum": {ServerName: "b.test", CurvePreferences: []tls.CurveID{tls.CurveP256}, NextProtos: []string{"h2"}},
	}
}

func TestHellos(t *testing.T) {
	for story, config := range configs() {
		t.Run(story, func(t *testing.T) {
			whole := helloOf(t, config)
			want, ok := byCryptoTLS(whole)
			if !ok {
				t.Fatal("crypto/tls refuses its own")
			}
			t.Logf("%d bytes", len(whole))
			for _, size := range []int{1, 2, 3, 5, 100, len(whole)} {
				wire := fragmented(whole, size)
				if len(wire) > preamble.MaxHello {
					continue
				}
				for _, step := range []int{1, 4, 1000, len(wire)} {
					h, n, err := fed(append(wire, "behind"...), step)
					if !equal(h, want) || err != nil || n < len(wire) || n-len(wire) >= step && step > 1 {
						t.Fatalf("records of %d bytes in steps of %d: %v after %d of %d, %v; want %v", size, step, h, n, len(wire), err, want)
					}
				}
				if h, ok := byCryptoTLS(wire); !ok || !equal(h, want) {
					t.Errorf("crypto/tls reads %v of records of %d bytes", h, size)
				}
			}
		})
	}
}

// The bytes are not consumed: the handshake that follows is done with them.
func TestHelloLeavesTheHandshakeAlone(t *testing.T) {
	whole := fragmented(helloOf(t, &tls.Config{ServerName: "a.test"}), 7)
	before := bytes.Clone(whole)
	if _, _, err := fed(whole, 3); err != nil || !bytes.Equal(whole, before) {
		t.Errorf("%v, or the bytes have changed", err)
	}
}

// message is a ClientHello with the given rest behind version and random bytes.
func message(rest string) string {
	body := "\x03\x03" + strings.Repeat("r", 32) + rest
	return "\x01" + string([]byte{byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}) + body
}

func u16(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }

func ext(kind byte, data string) string { return "\x00" + string(kind) + u16(data) }

// basics are session, suites and compression.
const basics = "\x00" + "\x00\x02\x13\x01" + "\x01\x00"

func withExtensions(list ...string) string {
	return record(message(basics + u16(strings.Join(list, ""))))
}

func sni(names ...string) string {
	list := ""
	for _, n := range names {
		list += "\x00" + u16(n)
	}
	return ext(0, u16(list))
}

func TestMadeUpHellos(t *testing.T) {
	for text, want := range map[string]preamble.Hello{
		record(message(basics)):                                        {},
		record(message(basics + "\x00\x00")):                           {},
		withExtensions(sni("a.test")):                                  {ServerName: "a.test"},
		withExtensions(sni("a")):                                       {ServerName: "a"},
		withExtensions(sni("a\x00.test")):                              {ServerName: "a\x00.test"},
		withExtensions(ext(10, "\x00\x02\x00\x1d"), sni("a.test")):     {ServerName: "a.test"},
		withExtensions(ext(0, u16("\x01"+u16("x")))):                   {},
		withExtensions(ext(0, u16("\x01"+u16("x")+"\x00"+u16("a.b")))): {ServerName: "a.b"},
		withExtensions(ext(16, u16("\x02h2\x08http/1.1"))):             {Protocols: []string{"h2", "http/1.1"}},
		withExtensions(ext(16, u16("\x02h2")), sni("a.test")):          {ServerName: "a.test", Protocols: []string{"h2"}},
		withExtensions(ext(99, "anything"), ext(98, "")):               {},
		// Something lies behind the message in its record: whoever does the handshake will have a word.
		record(message(basics) + "\x01\x00\x00\x00"): {},
	} {
		for _, step := range []int{1, len(text)} {
			if h, _, err := fed([]byte(text), step); !equal(h, want) || err != nil {
				t.Errorf("%q: %v, %v; want %v", text, h, err, want)
			}
		}
		if h, ok := byCryptoTLS([]byte(text)); !ok || !equal(h, want) {
			t.Errorf("%q: crypto/tls reads %v, %v; want %v", text, h, ok, want)
		}
	}
}

// noHellos are refused, with all of their bytes or sooner.
func noHellos() map[string]string {
	long := strings.Repeat("x", 1<<14)
	return map[string]string{
		"HTTP":                          "GET / HTTP/1.1\r\n\r\n",
		"a PROXY header":                "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
		"SSLv2":                         "\x80\x2e\x01\x03\x01",
		"an alert":                      "\x15\x03\x01\x00\x02\x01\x00",
		"application data":              "\x17\x03\x03\x00\x05hello",
		"another version":               "\x16\x02\x00\x00\x05\x01\x00\x00\x01x",
		"an empty record":               record(""),
		"an empty record between":       record("\x01\x00") + record(""),
		"a record too long":             "\x16\x03\x01\x40\x01" + long,
		"a ServerHello":                 record("\x02" + message(basics)[1:]),
		"a message too long":            record("\x01\x00\x40\x01"),
		"the same, its length in parts": record("\x01\x00") + record("\x3f\xfd"),
		"a message of megabytes":        record("\x01\xff\xff\xff"),
		"an alert between":              record("\x01\x00\x00") + "\x15\x03\x01\x00\x02\x01\x00",
		"nothing in it":                 record("\x01\x00\x00\x00"),
		"half a random":                 record("\x01\x00\x00\x05\x03\x03abc"),
		"a session too long":            record(message("\x20short")),
		"suites too long":               record(message("\x00\x00\x40\x13\x01")),
		"half a suite":                  record(message("\x00\x00\x03\x13\x01\x13\x01\x00")),
		"no compression":                record(message("\x00\x00\x02\x13\x01")),
		"compression too long":          record(message("\x00\x00\x02\x13\x01\x05\x00")),
		"half a length":                 record(message(basics + "\x00")),
		"extensions too long":           record(message(basics + "\x00\x09\x00\x00\x00\x00")),
		"something behind extensions":   record(message(basics + "\x00\x00x")),
		"half an extension":             record(message(basics + u16("\x00\x17\x00"))),
		"an extension too long":         record(message(basics + u16("\x00\x17\x00\x05abcd"))),
		"too many extensions":           tooManyExtensions(),
		"an extension twice":            withExtensions(ext(23, ""), sni("a.test"), ext(23, "")),
		"two lists of names":            withExtensions(sni("a.test"), sni("b.test")),
		"two names":                     withExtensions(sni("a.test", "b.test")),
		"the same name twice":           withExtensions(sni("a.test", "a.test")),
		"an empty name":                 withExtensions(sni("")),
		"no names":                      withExtensions(ext(0, u16(""))),
		"no list of names":              withExtensions(ext(0, "")),
		"something behind the names":    withExtensions(ext(0, u16("\x00"+u16("a.test"))+"x")),
		"a name too long":               withExtensions(ext(0, u16("\x00\x00\x09a.test"))),
		"a final dot":                   withExtensions(sni("a.test.")),
		"no protocols":                  withExtensions(ext(16, u16(""))),
		"an empty protocol":             withExtensions(ext(16, u16("\x02h2\x00"))),
		"a protocol too long":           withExtensions(ext(16, u16("\x03h2"))),
		"something behind protocols":    withExtensions(ext(16, u16("\x02h2")+"x")),
		"one-byte records without end":  strings.Repeat(record("\x01"), 1) + strings.Repeat(record("\x00"), preamble.MaxHello/6+1),
	}
}

func tooManyExtensions() string {
	list := ""
	for i := range 257 {
		list += string([]byte{1 + byte(i/256), byte(i), 0, 0})
	}
	return record(message(basics + u16(list)))
}

func TestNoHellos(t *testing.T) {
	for story, text := range noHellos() {
		for _, step := range []int{1, 3, len(text)} {
			h, n, err := fed([]byte(text), step)
			if err == nil || errors.Is(err, preamble.ErrShort) || !equal(h, preamble.Hello{}) {
				t.Errorf("%s in steps of %d: %v after %d of %d bytes, %v", story, step, h, n, len(text), err)
			}
		}
	}
}

// A client that is not understood is refused as soon as its bytes tell, and never after more than MaxHello.
func TestHelloIsBounded(t *testing.T) {
	for text, most := range map[string]int{
		"GET / HTTP/1.1": 1, "\x16\x02": 2, "\x16\x03\x01\x40\x01": 5, "\x16\x03\x01\x00\x00": 5, record("\x02") + "x": 6,
		record("\x01") + strings.Repeat(record("\x00"), preamble.MaxHello): preamble.MaxHello,
	} {
		if _, n, err := fed([]byte(text), 1); errors.Is(err, preamble.ErrShort) || n > most {
			t.Errorf("%.20q: %d bytes were looked at, at most %d: %v", text, n, most, err)
		}
	}
	// The largest message that is taken, in the smallest records whose headers leave room.
	huge := message(basics + u16(ext(99, strings.Repeat("x", 1<<14-4-34-len(basics)-2-4))))
	if len(huge) != 1<<14 {
		t.Fatalf("%d bytes", len(huge))
	}
	if _, _, err := fed([]byte(record(huge)), 1000); err != nil {
		t.Error(err)
	}
	if _, _, err := fed(fragmented([]byte(record(huge)), 2), 1000); err != nil {
		t.Error(err)
	}
	if _, n, err := fed(fragmented([]byte(record(huge)), 1), 1000); err == nil || errors.Is(err, preamble.ErrShort) || n > preamble.MaxHello+1000 {
		t.Errorf("%d bytes: %v", n, err)
	}
}

// Looking at a ClientHello costs its name and its list of protocols, however it comes.
func TestHelloAllocations(t *testing.T) {
	whole := helloOf(t, &tls.Config{ServerName: "a.test"})
	pieces := fragmented(whole, 100)
	for _, c := range []struct {
		story  string
		b      []byte
		step   int
		budget float64
	}{
		{"one record", whole, len(whole), 1}, {"one record, byte by byte", whole, 1, 1},
		{"many records", pieces, len(pieces), 1 + 8}, {"no TLS", []byte("GET / HTTP/1.1"), 1, 0},
	} {
		if n := testing.AllocsPerRun(100, func() { _, _, _ = fed(c.b, c.step) }); n > c.budget {
			t.Errorf("%s: %v allocations, at most %v", c.story, n, c.budget)
		}
	}
}

func BenchmarkHello(b *testing.B) {
	whole := helloOf(b, &tls.Config{ServerName: "a.test", NextProtos: []string{"h2", "http/1.1"}})
	tiny := fragmented(whole, 1)
	for _, c := range []struct {
		name string
		b    []byte
		step int
	}{{"whole", whole, len(whole)}, {"one-byte-records", tiny, len(tiny)}, {"one-byte-records-byte-by-byte", tiny, 1}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := fed(c.b, c.step); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Whoever reads a name of bytes reads the same one as crypto/tls, and whatever crypto/tls takes is taken, but for what is listed here.
func FuzzHello(f *testing.F) {
	for _, config := range configs() {
		whole := helloOf(f, config)
		f.Add(whole, uint8(1))
		f.Add(fragmented(whole, 50), uint8(9))
	}
	for _, text := range noHellos() {
		f.Add([]byte(text), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		size := int(step)%64 + 1
		h, _, err := fed(b, size)
		atOnce, _, errAtOnce := fed(b, max(len(b), 1))
		if !equal(h, atOnce) || (err == nil) != (errAtOnce == nil) || errors.Is(err, preamble.ErrShort) != errors.Is(errAtOnce, preamble.ErrShort) {
			t.Fatalf("in steps of %d: %v %v; at once: %v %v", size, h, err, atOnce, errAtOnce)
		}
		theirs, ok := byCryptoTLS(b)
		switch {
		case ok && err == nil && !equal(h, theirs):
			t.Fatalf("%v, crypto/tls reads %v", h, theirs)
		case ok && errors.Is(err, preamble.ErrShort):
			t.Fatalf("short, crypto/tls reads %v", theirs)
		case ok && err != nil && !slices.ContainsFunc(stricter, func(s string) bool { return strings.Contains(err.Error(), s) }):
			t.Fatalf("%v, crypto/tls reads %v", err, theirs)
		}
	})
}

// stricter is what crypto/tls takes and we refuse: alerts before or among the records, which only delay, versions that no record has had,
// and sizes that no client needs.
var stricter = []string{"does not begin with a handshake", "the ClientHello is too long", "too many extensions"}
