package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"podlane.dev/podlane/proxy/upstream/dns"
	"podlane.dev/podlane/router"
)

// names is a NameResolver on the fake clock.
type names struct {
	mu    sync.Mutex
	addrs []string
	ttl   time.Duration
	err   error
	delay time.Duration
	asked []time.Duration // since the start
	start time.Time
}

func (n *names) Lookup(ctx context.Context, _ string) (dns.Answer, error) {
	n.mu.Lock()
	n.asked = append(n.asked, time.Since(n.start))
	a, err, delay := dns.Answer{TTL: n.ttl}, n.err, n.delay
	for _, s := range n.addrs {
		a.Addrs = append(a.Addrs, netip.MustParseAddr(s))
	}
	n.mu.Unlock()
	select {
	case <-ctx.Done():
		return dns.Answer{}, ctx.Err()
	case <-time.After(delay):
	}
	if err != nil {
		return dns.Answer{}, err
	}
	return a, nil
}

func (n *names) set(ttl time.Duration, err error, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs, n.ttl, n.err = addrs, ttl, err
}

// log returns when the name was resolved since the last call.
func (n *names) log() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer func() { n.asked = nil }()
	return n.asked
}

func inUse(p *Pool) string {
	var all []string
	for _, e := range p.members.Load().inUse {
		all = append(all, e.AddrPort().String())
	}
	return fmt.Sprint(all)
}

func externalError(p *Pool) error {
	s, _ := p.status()
	return s.Err
}

func followName(t *testing.T, n *names, x External, test func(t bubble, r *Registry, p *Pool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n.start = time.Now()
		x.Resolver = n
		if x.Own == nil {
			x.Own = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.7.7.7")}, nil }
		}
		r := NewRegistry(Options{External: x, Dial: (&pipes{}).dial})
		defer r.Close()
		p, _ := r.Ensure(web)
		test(bubble{t}, r, p)
	})
}

// S5: a name is followed by its TTL; what is not resolved anew keeps its addresses, and what is equal its connections.
func TestExternalNameIsFollowed(t *testing.T) {
	n := &names{addrs: []string{"192.0.2.2", "192.0.2.1", "2001:db8::1"}, ttl: 30 * time.Second}
	followName(t, n, External{}, func(t bubble, r *Registry, p *Pool) {
		<-r.SetExternalName(web, "db.example", 5432)
		if got := inUse(p); got != "[192.0.2.1:5432 192.0.2.2:5432]" {
			t.Errorf("in use: %v", got)
		}
		c := dial(t, p.members.Load().inUse[0])
		c.Put()
		n.set(10*time.Second, nil, "192.0.2.1", "192.0.2.3")
		time.Sleep(30*time.Second - 1)
		if got := inUse(p); got != "[192.0.2.1:5432 192.0.2.2:5432]" {
			t.Errorf("changed before its time: %v", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := inUse(p); got != "[192.0.2.1:5432 192.0.2.3:5432]" {
			t.Errorf("after the TTL: %v", got)
		}
		if again := dial(t, p.members.Load().inUse[0]); again != c {
			t.Error("an address that stayed lost its connections")
		}
		c.Discard()
		n.set(0, nil, "192.0.2.1")
		time.Sleep(14500 * time.Millisecond)
		n.set(48*time.Hour, nil, "192.0.2.1")
		time.Sleep(3 * time.Hour)
		// A TTL of 0 means once a second, one of two days once an hour.
		want := "[0s 30s 40s 41s 42s 43s 44s 45s 1h0m45s 2h0m45s]"
		if got := fmt.Sprint(n.log()); got != want {
			t.Errorf("resolved at %v, want %v", got, want)
		}
	})
}

// While resolution fails the last addresses stay, and it is tried again after 1, 2, 4 … 30 s.
func TestExternalNameKeepsLastGood(t *testing.T) {
	n := &names{addrs: []string{"192.0.2.1"}, ttl: time.Minute}
	followName(t, n, External{}, func(t bubble, r *Registry, p *Pool) {
		<-r.SetExternalName(web, "db.example", 80)
		broken := errors.New("server does not answer")
		n.set(0, broken)
		time.Sleep(time.Minute + 100*time.Second)
		if inUse(p) != "[192.0.2.1:80]" || !errors.Is(externalError(p), broken) {
			t.Errorf("in use: %v, error %v", inUse(p), externalError(p))
		}
		want := "[0s 1m0s 1m1s 1m3s 1m7s 1m15s 1m31s 2m1s 2m31s]"
		if got := fmt.Sprint(n.log()); got != want {
			t.Errorf("resolved at %v, want %v", got, want)
		}
		n.set(time.Minute, nil, "192.0.2.2")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if inUse(p) != "[192.0.2.2:80]" || externalError(p) != nil {
			t.Errorf("in use: %v, error %v", inUse(p), externalError(p))
		}
	})
}

// That the name is not there is an answer: after the third in a row the addresses are given up.
func TestExternalNameThatIsGone(t *testing.T) {
	n := &names{addrs: []string{"192.0.2.1"}, ttl: time.Minute}
	followName(t, n, External{}, func(t bubble, r *Registry, p *Pool) {
		<-r.SetExternalName(web, "db.example", 80)
		n.set(0, &dns.NotFoundError{Name: "db.example"})
		time.Sleep(62 * time.Second)
		if inUse(p) != "[192.0.2.1:80]" {
			t.Errorf("given up after two answers: %v", inUse(p))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if inUse(p) != "[]" || externalError(p) == nil {
			t.Errorf("in use: %v, error %v", inUse(p), externalError(p))
		}
	})
}

// SECURITY.md C6: refused addresses are no endpoints, and the status says why.
func TestExternalNameRefused(t *testing.T) {
	n := &names{ttl: time.Minute}
	deny := []netip.Prefix{netip.MustParsePrefix("10.96.0.1/32")}
	for _, c := range []struct {
		addrs []string
		want  string
		err   string
	}{
		{[]string{"127.0.0.1"}, "[]", "db.example resolves to 127.0.0.1, which is refused: it is loopback"},
		{[]string{"169.254.169.254"}, "[]", "db.example resolves to 169.254.169.254, which is refused: it is link-local, where clouds have their metadata service"},
		{[]string{"10.96.0.1"}, "[]", "db.example resolves to 10.96.0.1, which is refused: the operator denies it"},
		{[]string{"10.7.7.7"}, "[]", "db.example resolves to 10.7.7.7, which is refused: it is an address of this machine"},
		{[]string{"192.0.2.1", "::1"}, "[192.0.2.1:80]", "db.example resolves to ::1, which is refused: it is loopback"},
		{[]string{"192.0.2.1"}, "[192.0.2.1:80]", "<nil>"},
	} {
		n.set(time.Minute, nil, c.addrs...)
		followName(t, n, External{Deny: deny}, func(t bubble, r *Registry, p *Pool) {
			<-r.SetExternalName(web, "db.example", 80)
			if got := inUse(p); got != c.want || fmt.Sprint(externalError(p)) != c.err {
				t.Errorf("%v: in use %v, error %v", c.addrs, got, externalError(p))
			}
			if s := r.Pools(); s[0].ExternalName != "db.example" {
				t.Errorf("status: %+v", s)
			}
		})
	}
	// A name that was good and is pointed at something else (DNS rebinding) loses its endpoints at once.
	n.set(time.Minute, nil, "192.0.2.1")
	followName(t, n, External{}, func(t bubble, r *Registry, p *Pool) {
		<-r.SetExternalName(web, "db.example", 80)
		n.set(time.Minute, nil, "127.0.0.1")
		time.Sleep(time.Minute)
		synctest.Wait()
		if inUse(p) != "[]" {
			t.Errorf("in use: %v", inUse(p))
		}
	})
	followName(t, n, External{Own: func() ([]netip.Addr, error) { return nil, errors.New("no netlink") }}, func(t bubble, r *Registry, p *Pool) {
		n.set(time.Minute, nil, "192.0.2.1")
		<-r.SetExternalName(web, "db.example", 80)
		if inUse(p) != "[]" || externalError(p) == nil {
			t.Errorf("without the own addresses: in use %v, error %v", inUse(p), externalError(p))
		}
	})
}

func TestExternalNameChanges(t *testing.T) {
	n := &names{addrs: []string{"192.0.2.1"}, ttl: time.Minute}
	followName(t, n, External{}, func(t bubble, r *Registry, p *Pool) {
		first := r.SetExternalName(web, "db.example", 80)
		<-first
		if r.SetExternalName(web, "db.example", 80) != first {
			t.Error("the same name was begun anew")
		}
		// What the Service's slices say counts again when the name is gone.
		set(r, pods(2)...)
		if inUse(p) != "[192.0.2.1:80]" {
			t.Errorf("addresses of slices were mixed in: %v", inUse(p))
		}
		<-r.SetExternalName(web, "", 0)
		if inUse(p) != "[10.0.0.1:80 10.0.0.2:80]" || externalError(p) != nil {
			t.Errorf("in use: %v", inUse(p))
		}
		n.log()
		time.Sleep(time.Hour)
		if len(n.log()) != 0 {
			t.Error("the old name is still resolved")
		}
		// Another name's addresses are not this one's last good ones.
		<-r.SetExternalName(web, "db.example", 80)
		n.set(0, errors.New("broken"))
		<-r.SetExternalName(web, "other.example", 80)
		if inUse(p) != "[]" {
			t.Errorf("in use: %v", inUse(p))
		}
		// A lookup that is under way when the name changes means nothing any more.
		n.set(time.Minute, nil, "192.0.2.66")
		n.mu.Lock()
		n.delay = time.Second
		n.mu.Unlock()
		slow := r.SetExternalName(web, "slow.example", 80)
		synctest.Wait()
		<-r.SetExternalName(web, "", 0)
		<-slow
		time.Sleep(time.Minute)
		if inUse(p) != "[10.0.0.1:80 10.0.0.2:80]" {
			t.Errorf("in use: %v", inUse(p))
		}
	})
}

func TestExternalNameEnds(t *testing.T) {
	n := &names{addrs: []string{"192.0.2.1"}, ttl: time.Minute}
	followName(t, n, External{}, func(t bubble, r *Registry, p *Pool) {
		<-r.SetExternalName(router.ServicePort{Name: "none"}, "db.example", 80) // no pool
		<-r.SetExternalName(web, "192.0.2.9", 80)                               // an address needs no DNS
		if inUse(p) != "[192.0.2.9:80]" || len(n.log()) != 0 {
			t.Errorf("in use: %v", inUse(p))
		}
		<-r.SetExternalName(web, "169.254.169.254", 80)
		if inUse(p) != "[]" {
			t.Errorf("in use: %v", inUse(p))
		}
		<-r.SetExternalName(web, "db.example", 80)
		n.set(time.Second, nil, "2001:db8::1")
		time.Sleep(time.Minute)
		synctest.Wait()
		if inUse(p) != "[[2001:db8::1]:80]" {
			t.Errorf("in use: %v", inUse(p))
		}
		r.Sweep(func(router.ServicePort) bool { return false })
		time.Sleep(linger)
		synctest.Wait()
		n.log()
		time.Sleep(time.Hour)
		if len(n.log()) != 0 || p.Len() != 0 {
			t.Error("the name of a dropped pool is still followed")
		}
		<-r.SetExternalName(web, "db.example", 80)
	})
}

// The whole way: a DNS server, a resolv.conf, a record that changes, a server at each address.
func TestExternalNameOverTheNetwork(t *testing.T) {
	sameDescriptors(t)
	old := listen(t, "127.0.3.1:0", echo)
	fresh := listen(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.3.2"), old.Port()).String(), echo)
	server := &zone{addr: old.Addr()}
	server.serve(t)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+server.at.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r := registry(t, Options{External: External{
		Resolver: &dns.Resolver{File: conf},
		Allow:    []netip.Prefix{netip.MustParsePrefix("127.0.3.0/24")},
	}})
	p, _ := r.Ensure(web)
	<-r.SetExternalName(web, "db.example", old.Port())
	v := p.View(ViewSpec{})
	c := dial(t, v.Next(nil, nil))
	say(t, c, "old")
	c.Put()
	server.point(fresh.Addr())
	eventually(t, "the name is followed", func() bool {
		e := v.Next(nil, nil)
		return e != nil && e.AddrPort() == fresh
	})
	eventually(t, "the old address is let go", func() bool { return r.Open() == 0 })
	c = dial(t, v.Next(nil, nil))
	say(t, c, "new")
	c.Put()
	server.point(netip.MustParseAddr("127.0.0.1"))
	eventually(t, "a refused address is no endpoint", func() bool { return v.Next(nil, nil) == nil })
}

// zone is a DNS server with one A record of one second.
type zone struct {
	at   netip.AddrPort
	mu   sync.Mutex
	addr netip.Addr
}

func (z *zone) point(a netip.Addr) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addr = a
}

func (z *zone) serve(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z.at = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = conn.Close(); wg.Wait() })
	wg.Go(func() {
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil {
				continue
			}
			m.Response, m.RecursionAvailable = true, true
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				z.mu.Lock()
				h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
				m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: z.addr.As4()}}}
				z.mu.Unlock()
			}
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	})
}
