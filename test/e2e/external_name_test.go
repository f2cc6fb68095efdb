package e2e_test

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"podlane.dev/podlane/test/cluster"
	"podlane.dev/podlane/test/e2e/load"
)

// nameServer is a DNS server at an address of its own, on the port where everybody looks for one.
type nameServer struct {
	addr string

	mu      sync.Mutex
	records map[string]record
	asked   map[string]int
}

// record is what the server knows about a name.
type record struct {
	addrs []string
	ttl   time.Duration
	// code is how it fails, where it does.
	code dnsmessage.RCode
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	s := &nameServer{addr: nextAddress(), records: map[string]record{}, asked: map[string]int{}}
	socket, err := net.ListenPacket("udp", s.addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := socket.ReadFrom(buf)
			if err != nil {
				return
			}
			if out := s.answer(buf[:n]); out != nil {
				_, _ = socket.WriteTo(out, from)
			}
		}
	})
	t.Cleanup(func() {
		_ = socket.Close()
		serving.Wait()
	})
	return s
}

func (s *nameServer) answer(packed []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(packed); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	s.mu.Lock()
	known, ok := s.records[name]
	s.asked[name]++
	s.mu.Unlock()
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	switch {
	case !ok:
		m.RCode = dnsmessage.RCodeNameError
	case known.code != 0:
		m.RCode = known.code
	}
	for _, text := range known.addrs {
		addr := netip.MustParseAddr(text)
		if q.Type != dnsmessage.TypeA {
			continue
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: uint32(known.ttl / time.Second)},
			Body:   &dnsmessage.AResource{A: addr.As4()},
		})
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

func (s *nameServer) set(name string, r record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[name] = r
}

// questions is how often a name was asked for.
func (s *nameServer) questions(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name]
}

// waitQuestions waits until a name was asked for n more times.
func (s *nameServer) waitQuestions(t *testing.T, name string, n int) {
	t.Helper()
	want := s.questions(name) + n
	for end := time.Now().Add(time.Minute); s.questions(name) < want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is not asked for any more", name)
		}
	}
}

// startWith runs a replica that sees a resolv.conf with this name server, in a mount namespace of its own.
func (i *installation) startWith(t *testing.T, s *nameServer, args ...string) *lane {
	t.Helper()
	const system = "/etc/resolv.conf"
	if _, err := os.Stat(system); err != nil {
		t.Skip("there is no file to put another in the place of:", err)
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+s.addr+"\noptions timeout:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ip := nextAddress()
	p := i.command([]string{ip}, append([]string{"--drain-delay=0s", "--shutdown-timeout=10s"}, args...)...)
	p.Args = append([]string{"--mount", "/bin/sh", "-c", "mount --bind " + file + " " + system + ` && exec "$0" "$@"`, p.Path}, p.Args...)
	p.Path = "unshare" // which becomes the program, by exec
	l := &lane{Process: i.cluster.Start(t, p), ip: ip}
	l.waitReady(t)
	return l
}

func externalName(name, target string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\n" +
		"spec: {type: ExternalName, externalName: " + target + ", ports: [{name: http, port: 80, targetPort: 8000}]}\n---\n"
}

// S5: a Service of type ExternalName, where the operator allows it. Its name is resolved by DNS and followed as it changes, by the time
// that each answer holds, off the path of requests: none fails, whatever DNS does, and DNS is not asked for each.
func TestS5ExternalName(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	dns := startNameServer(t)
	const name, address = "db.example.com", "http://db.goweb.com/"
	ns.Apply(pod("one", "app: outside", "--name=one") + pod("two", "app: outside", "--name=two"))
	ip := map[string]string{}
	for _, p := range ns.WaitPods("app=outside", 2) {
		ip[p.Name] = p.Status.PodIP
		cluster.WaitOK(t, "http://"+p.Status.PodIP+":8000/readyz")
	}
	dns.set(name, record{addrs: []string{ip["one"]}, ttl: time.Second})
	l := i.startWith(t, dns, "--allow-external-name")
	ns.Apply(externalName("db", name) + ingressOf(i.class, "db", "db.goweb.com", "db"))
	l.waitPods(t, address, "one")

	var loads []*load.Load
	for _, keep := range []bool{true, false} {
		loads = append(loads, load.Start(load.Options{
			Name: map[bool]string{true: "keep", false: "close"}[keep], Address: load.Fixed(l.address(80)), Host: "db.goweb.com", Rate: 100, KeepAlive: keep, Download: 1000,
		}))
	}
	began := time.Now()
	for _, step := range [][]string{{"two"}, {"one", "two"}, {"one"}} {
		var addrs, want []string
		for _, pod := range step {
			addrs, want = append(addrs, ip[pod]), append(want, ip[pod]+":8000")
		}
		changed := time.Now()
		dns.set(name, record{addrs: addrs, ttl: time.Second})
		l.waitEndpoints(t, ns.Name, "db", want...)
		t.Logf("S5: %v followed %s after the record had changed (it holds 1 s)", step, time.Since(changed).Round(time.Millisecond))
		seen := l.pods(t, address, 8)
		if len(seen) != len(step) || seen[step[0]] == 0 {
			t.Errorf("with records of %v the answers came from %v", step, seen)
		}
	}
	// Servers that fail, and then one that knows nothing for a moment, take nothing away.
	for _, code := range []dnsmessage.RCode{dnsmessage.RCodeServerFailure, dnsmessage.RCodeNameError} {
		dns.set(name, record{code: code})
		dns.waitQuestions(t, name, 2)
		if seen := l.pods(t, address, 4); seen["one"] != 4 {
			t.Errorf("while DNS says %s the answers come from %v", code, seen)
		}
		dns.set(name, record{addrs: []string{ip["one"]}, ttl: time.Second})
		dns.waitQuestions(t, name, 3)
	}
	sent := loads[0].Sent() + loads[1].Sent()
	t.Logf("S5: %d questions in %s, for %d requests", dns.questions(name), time.Since(began).Round(time.Millisecond), sent)
	if n := dns.questions(name); n > sent/5 {
		t.Errorf("DNS was asked %d times for %d requests", n, sent)
	}
	stopAll(t, loads)

	// An answer that holds an hour is not asked for again.
	dns.set(name, record{addrs: []string{ip["two"]}, ttl: time.Hour})
	l.waitEndpoints(t, ns.Name, "db", ip["two"]+":8000")
	before := dns.questions(name)
	dns.set(name, record{addrs: []string{ip["one"]}, ttl: time.Hour})
	time.Sleep(2500 * time.Millisecond)         // more than twice the time that the answers before it held
	if n := dns.questions(name); n > before+1 { // the question of another family may be on its way
		t.Errorf("DNS was asked %d times for an answer that holds an hour", n-before)
	}
	if seen := l.pods(t, address, 4); seen["two"] != 4 {
		t.Errorf("the answers come from %v", seen)
	}
}

// S5, the rest: what DNS must not lead to is refused whatever the operator allows, and a name that is gone for good is given up.
func TestS5ExternalNameRefusals(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	dns := startNameServer(t)
	ns.Apply(pod("one", "app: outside", "--name=one"))
	podIP := ns.WaitPods("app=outside", 1)[0].Status.PodIP
	cluster.WaitOK(t, "http://"+podIP+":8000/readyz")
	l := i.startWith(t, dns, "--allow-external-name", "--external-name-deny=198.51.100.0/24")
	refused := map[string]string{"metadata": "169.254.169.254", "loopback": "127.0.0.1", "own": c.NodeIP().String(), "denied": "198.51.100.7"}
	for name, addr := range refused {
		dns.set(name+".example.com", record{addrs: []string{addr}, ttl: time.Second})
		ns.Apply(externalName(name, name+".example.com") + ingressOf(i.class, name, name+".external.test", name))
	}
	for name, addr := range refused {
		dns.waitQuestions(t, name+".example.com", 2)
		if a := l.curl(t, "http://"+name+".external.test/"); a.Status != http.StatusServiceUnavailable {
			t.Errorf("%s, %s: status %d, want 503", name, addr, a.Status)
		}
		if have, err := l.endpoints(t.Context(), ns.Name, name); err != nil || len(have) > 0 {
			t.Errorf("%s has the endpoints %v %v", name, have, err)
		}
		// Once it leads to a place that may be reached too, that one is.
		dns.set(name+".example.com", record{addrs: []string{addr, podIP}, ttl: time.Second})
	}
	for name := range refused {
		l.waitEndpoints(t, ns.Name, name, podIP+":8000")
		if seen := l.pods(t, "http://"+name+".external.test/", 4); seen["one"] != 4 {
			t.Errorf("%s: the answers come from %v", name, seen)
		}
	}
	dns.set("denied.example.com", record{code: dnsmessage.RCodeNameError})
	l.waitStatus(t, "http://denied.external.test/", http.StatusServiceUnavailable)
}

// S5 by default: the Service is refused, with an Event that says how to allow it, and nobody asks DNS for its name.
func TestS5ExternalNameIsOff(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	dns := startNameServer(t)
	dns.set("db.example.com", record{addrs: []string{"192.0.2.1"}, ttl: time.Second})
	l := i.startWith(t, dns)
	ns.Apply(externalName("db", "db.example.com") + ingressOf(i.class, "db", "off.goweb.com", "db"))
	found := waitProblem(t, l, problem{Kind: "Ingress", Namespace: ns.Name, Name: "db", Reason: "ExternalNameRefused", Message: "--allow-external-name"})
	waitEvent(t, c, found)
	if a := l.curl(t, "http://off.goweb.com/"); a.Status != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", a.Status)
	}
	if n := dns.questions("db.example.com"); n > 0 {
		t.Errorf("DNS was asked %d times for a name that is refused", n)
	}
	if out := ns.Kubectl("describe", "ingress", "db"); !slices.Contains(strings.Fields(out), "ExternalNameRefused") {
		t.Errorf("kubectl describe says\n%s", out)
	}
}
