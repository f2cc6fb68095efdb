package dns

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

type fake struct {
	addr netip.AddrPort

	mu    sync.Mutex
	asked []string
	zone  map[string]func(m *dnsmessage.Message) // by name, in lower case: fills in the answer
	raw   func(packed []byte, tcp bool) [][]byte // replaces what is sent
}

// listenBoth returns a UDP and a TCP socket on one port.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			return udp, tcp
		}
		_ = udp.Close() // the number is taken by someone's TCP
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func serve(t testing.TB) *fake {
	t.Helper()
	udp, tcp := listenBoth(t)
	f := &fake{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort(), zone: map[string]func(*dnsmessage.Message){}}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			for _, m := range f.answer(b[:n], false) {
				_, _ = udp.WriteTo(m, from)
			}
		}
	})
	wg.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 2)
			if _, err := io.ReadFull(c, b); err == nil {
				q := make([]byte, binary.BigEndian.Uint16(b))
				_, _ = io.ReadFull(c, q)
				for _, m := range f.answer(q, true) {
					_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
				}
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = udp.Close(); _ = tcp.Close(); wg.Wait() })
	return f
}

func (f *fake) answer(packed []byte, tcp bool) [][]byte { //nolint:revive // which of its two sockets asks
	var m dnsmessage.Message
	if err := m.Unpack(packed); err != nil {
		return nil
	}
	q := m.Questions[0]
	f.mu.Lock()
	defer f.mu.Unlock()
	proto := "udp"
	if tcp {
		proto = "tcp"
	}
	f.asked = append(f.asked, proto+" "+q.Name.String()+" "+strings.TrimPrefix(q.Type.String(), "Type"))
	m.Response, m.RecursionAvailable, m.RCode = true, true, dnsmessage.RCodeNameError
	if fill := f.zone[strings.ToLower(q.Name.String())]; fill != nil {
		m.RCode = dnsmessage.RCodeSuccess
		fill(&m)
	}
	if m.Truncated && tcp {
		m.Truncated = false
	} else if m.Truncated {
		m.Answers = nil
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	if f.raw != nil {
		return f.raw(b, tcp)
	}
	return [][]byte{b}
}

func (f *fake) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.asked = nil }()
	return f.asked
}

func records(lines ...string) func(*dnsmessage.Message) {
	return func(m *dnsmessage.Message) {
		for _, line := range lines {
			w := strings.Fields(line)
			ttl, err := time.ParseDuration(w[1])
			if err != nil {
				panic(err)
			}
			h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(w[0]), Class: dnsmessage.ClassINET, TTL: uint32(ttl / time.Second)}
			var body dnsmessage.ResourceBody
			if a, err := netip.ParseAddr(w[2]); err != nil {
				body = &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(w[2])}
			} else if a.Is4() && m.Questions[0].Type == dnsmessage.TypeA {
				body = &dnsmessage.AResource{A: a.As4()}
			} else if a.Is6() && m.Questions[0].Type == dnsmessage.TypeAAAA {
				body = &dnsmessage.AAAAResource{AAAA: a.As16()}
			} else {
				continue
			}
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: body})
		}
	}
}

func resolver(t testing.TB, rest string, servers ...netip.AddrPort) *Resolver {
	t.Helper()
	text := rest
	for _, s := range servers {
		text += "\nnameserver " + s.String()
	}
	name := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Resolver{File: name}
}

func addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func (f *fake) put(name string, fill func(*dnsmessage.Message)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.zone[name] = fill
}

func (f *fake) replace(raw func(packed []byte, tcp bool) [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.raw = raw
}
