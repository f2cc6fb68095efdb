package upstream_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/proxy/upstream/dns"
	"podlane.dev/podlane/test/e2e/load"
)

// anywhere is every address.
var anywhere = netip.MustParsePrefix("0.0.0.0/0")

// Requests, new tables and new endpoints ask no name server anything.
func TestF22NoNamesOnTheDataPath(t *testing.T) {
	r := newRig(t, proxy.Options{})
	_, addresses := newPods(t, 2)
	f := newFirewall(t)
	f.count(match{to: anywhere, port: 53, udp: true})
	f.count(match{to: anywhere, port: 53})
	r.serve(addresses...)
	l := r.begin(load.Options{Method: http.MethodPost, Upload: 100, Clients: 4})
	for i := range 20 {
		reach(t, l, 50*(i+1))
		r.publish(web())
		r.assign(web(), addresses[i%2])
	}
	sent := noneFailed(t, l.Stop())
	if n := f.packets(); n[0]+n[1] != 0 {
		t.Errorf("%d packets to name servers", n)
	}
	t.Logf("F22: %d requests, 20 tables and 20 changes of endpoints: 0 packets to any name server", sent)
}

// A zone is a name server that knows one name.
type zone struct {
	name    string
	address atomic.Pointer[netip.Addr]
	asked   atomic.Int64
}

// newZone starts the name server at an address.
func newZone(t testing.TB, at netip.Addr, name string) *zone {
	t.Helper()
	c, err := net.ListenPacket("udp", netip.AddrPortFrom(at, 53).String())
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{name: name}
	var task sync.WaitGroup
	task.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			z.asked.Add(1)
			if packed, err := z.answer(m); err == nil {
				_, _ = c.WriteTo(packed, from)
			}
		}
	})
	t.Cleanup(func() {
		_ = c.Close()
		task.Wait()
	})
	return z
}

// answer has a time to live of one second, the shortest that counts.
func (z *zone) answer(m dnsmessage.Message) ([]byte, error) {
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	q := m.Questions[0]
	switch {
	case q.Name.String() != z.name:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.AResource{A: z.address.Load().As4()},
		}}
	}
	return m.Pack()
}

// The name server of an ExternalName Service is lost: its requests go on to the addresses that it gave last, nobody waits for it, and
// when it is back with another address they follow.
func TestF22NamesFail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	server := podAddress(53).Addr()
	if err := os.WriteFile(file, fmt.Appendf(nil, "nameserver %s\noptions timeout:1 attempts:1\n", server), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, proxy.Options{Upstream: upstream.Options{External: upstream.External{Resolver: &dns.Resolver{File: file}}}})
	pods, addresses := newPods(t, 3)
	f := newFirewall(t)
	z := newZone(t, server, "db.example.")
	first, second := pods[0].at.Addr(), pods[1].at.Addr()
	z.address.Store(&first)
	outside := service{namespace: "default", name: "outside", host: "outside.test", external: "db.example."}
	r.publish(web(), outside)
	r.assign(web(), addresses[2])
	loads := []*load.Load{
		r.begin(load.Options{Name: "outside", Host: outside.host, Method: http.MethodPost, Upload: 100, Clients: 4, Rate: 300}),
		r.begin(load.Options{Name: "web", Clients: 4, Rate: 300, KeepAlive: true}),
	}
	reach(t, loads[0], 50)
	f.drop(match{to: netip.PrefixFrom(server, 32), port: 53, udp: true})
	await(t, "a resolution has failed", func() bool { return r.pool(outside).Err != nil })
	if n := f.packets()[0]; n == 0 {
		t.Error("no question was swallowed: nothing was injected")
	}
	reach(t, loads[0], loads[0].Sent()+50)
	if n := pods[1].requests(); n != 0 {
		t.Errorf("the other address got %d requests", n)
	}
	during := loads[0].Sent()
	z.address.Store(&second)
	f.clear()
	await(t, "requests follow the name", func() bool { return pods[1].requests() > 20 })
	var results []*load.Result
	for _, l := range loads {
		results = append(results, l.Stop())
	}
	sent := noneFailed(t, results...)
	t.Logf("F22: name server lost: %d requests of its Service went on to the last address, then followed to the new one; %d requests in all, 0 failed; slowest %s",
		during, sent, max(results[0].Quantile(1), results[1].Quantile(1)))
}
