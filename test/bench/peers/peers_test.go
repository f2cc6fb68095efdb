package peers

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/manifest"
)

// modes are all there are.
var modes = []Mode{Plain, TLS, H2}

// shown is the certificate of all tests.
var shown = sync.OnceValues(NewCertificate)

func site(t *testing.T, dir, log string) Site {
	t.Helper()
	c, err := shown()
	if err != nil {
		t.Fatal(err)
	}
	return Site{
		Certificate: c,
		Address:     netip.MustParseAddrPort("127.0.0.1:4080"),
		Backends:    []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5001"), netip.MustParseAddrPort("127.0.0.1:5002")},
		Dir:         dir, AccessLog: log,
	}
}

// everyone are all peers, those of this tree too.
func everyone() []Peer {
	return append(Installed(), ReverseProxy("/bin/reverseproxy"), Podlane("podlane", "/bin/podlane"))
}

// said is all that a launch tells a proxy.
func said(l Launch) string {
	text := strings.Join(l.Args, " ") + " " + l.Stdout
	for _, file := range l.Files {
		text += "\n" + file
	}
	return text
}

// TestLaunch: every proxy is told of the same site, and of nothing that was a placeholder.
func TestLaunch(t *testing.T) {
	t.Parallel()
	for _, p := range everyone() {
		for _, mode := range modes {
			t.Run(p.Name+" "+mode.String(), func(t *testing.T) { testLaunch(t, p, mode) })
		}
	}
}

func testLaunch(t *testing.T, p Peer, mode Mode) {
	t.Helper()
	quiet, logged := site(t, "/dir", ""), site(t, "/dir", "/dir/access.log")
	quiet.Mode, logged.Mode = mode, mode
	// One in which nothing looks like a placeholder.
	quiet.Certificate = &Certificate{Chain: []byte("chain"), Key: []byte("key")}
	logged.Certificate = quiet.Certificate
	off, on := said(p.Launch(quiet)), said(p.Launch(logged))
	for _, want := range []string{"4080", "5001", "5002", Host} {
		if !strings.Contains(off, want) {
			t.Errorf("%s is not told of %s:\n%s", p.Name, want, off)
		}
	}
	if strings.Contains(off, "/dir/access.log") || !strings.Contains(on, "/dir/access.log") {
		t.Errorf("%s: the access log is not where it is asked for:\n%s\n%s", p.Name, off, on)
	}
	for _, placeholder := range []string{"ADDRESS", "HOST", "HEADERS", "SERVERS", "BACKENDS", "INDEX", "LOG", "DIR/", "LISTEN", "CERTIFICATE", "PROTOCOLS", "SCHEME", "CHAIN", "KEY"} {
		if strings.Contains(on+off, placeholder) {
			t.Errorf("%s: %s was not replaced:\n%s", p.Name, placeholder, on)
		}
	}
	if told := strings.Contains(on, "tls."); told != (mode != Plain) {
		t.Errorf("%s has a certificate: %v", p.Name, told)
	}
}

// TestNGINX: of its upstream the balancing method has to stand before keepalive, or connections are not kept.
func TestNGINX(t *testing.T) {
	t.Parallel()
	text := launchNGINX(site(t, "/dir", "")).Files["nginx.conf"]
	random, keep := strings.Index(text, "random two least_conn;"), strings.Index(text, "\t\tkeepalive 1024;")
	if random < 0 || keep < random {
		t.Errorf("random at %d, keepalive at %d", random, keep)
	}
	if strings.Count(text, "proxy_set_header X-Forwarded-For ") != 2 || strings.Count(text, "access_log off;") != 1 {
		t.Errorf("both locations have the headers, and the log is off:\n%s", text)
	}
}

// TestManifests: Podlane's own reader has nothing to say against them.
func TestManifests(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		dir := t.TempDir()
		of := site(t, dir, "")
		of.Mode = mode
		write(t, dir, launchPodlane(of).Files)
		set, err := manifest.Read(os.DirFS(filepath.Join(dir, "manifests")))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range set.Problems {
			t.Error(p)
		}
		secrets := map[bool]int{true: 0, false: 1}[mode == Plain]
		if n, m := len(set.Snapshot.Ingresses), len(set.Slices[router.Service{Namespace: "default", Name: "pods"}]); n != 1 || m != 2 {
			t.Errorf("%d Ingresses and %d slices, want 1 and 2", n, m)
		}
		if n := len(set.Snapshot.Secrets); n != secrets {
			t.Errorf("%v: %d Secrets, want %d", mode, n, secrets)
		}
	}
}

// write writes the files of a launch.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInstalledAccept asks the proxies that are installed what they think of their files.
func TestInstalledAccept(t *testing.T) {
	t.Parallel()
	check := map[string][]string{
		"nginx":   {"-e", "/dev/null", "-t", "-p", "DIR", "-c", "DIR/nginx.conf"},
		"haproxy": {"-c", "-f", "DIR/haproxy.cfg"},
		"caddy":   {"validate", "--config", "DIR/Caddyfile", "--adapter", "caddyfile"},
	}
	for _, p := range Installed() {
		for _, mode := range modes {
			for _, log := range []string{"", "access.log"} {
				t.Run(p.Name+" "+mode.String()+log, func(t *testing.T) {
					t.Parallel()
					path, err := p.Find()
					if err != nil {
						t.Skip(err)
					}
					dir := t.TempDir()
					if log != "" {
						log = filepath.Join(dir, log)
					}
					s := site(t, dir, log)
					s.Mode = mode
					// nginx -t binds it.
					if s.Address, err = FreeAddress(t.Context()); err != nil {
						t.Fatal(err)
					}
					launch := p.Launch(s)
					write(t, dir, launch.Files)
					var args []string
					for _, a := range check[p.Name] {
						args = append(args, strings.ReplaceAll(a, "DIR", dir))
					}
					cmd := exec.Command(path, args...)
					cmd.Env = append(os.Environ(), launch.Env...)
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Errorf("%v: %s", err, out)
					}
				})
			}
		}
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	names := func(list []Peer) string {
		var all []string
		for _, p := range list {
			all = append(all, p.Name)
		}
		return strings.Join(all, " ")
	}
	all := everyone()
	if got, err := Named(all, nil); err != nil || len(got) != len(all) {
		t.Errorf("Named of no names = %s, %v", names(got), err)
	}
	if got, err := Named(all, []string{"podlane", "nginx"}); err != nil || names(got) != "nginx podlane" {
		t.Errorf("Named = %s, %v; want them in their own order", names(got), err)
	}
	if _, err := Named(all, []string{"nginx", "apache"}); err == nil || !strings.Contains(err.Error(), `"apache"`) {
		t.Errorf("Named with a name that nobody has: %v", err)
	}
}

func TestAbsent(t *testing.T) {
	t.Parallel()
	_, err := Peer{Name: "x", Program: "no-such-proxy", Package: "x-light"}.Find()
	if !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "apt-get install x-light") {
		t.Errorf("Find = %v", err)
	}
	_, err = Peer{Name: "x", Program: "/no/such/build"}.Find()
	if err == nil || errors.Is(err, ErrAbsent) {
		t.Errorf("Find of what should have been built = %v", err)
	}
}

// shell is a peer that is a shell script, which gets the address's port as $0.
func shell(script string) Peer {
	return Peer{Name: "shell", Program: "sh", Package: "dash", Launch: func(s Site) Launch {
		return Launch{Args: []string{"-c", script}}
	}}
}

// TestStartFails: what a proxy said when it ended is in the error.
func TestStartFails(t *testing.T) {
	t.Parallel()
	s := site(t, t.TempDir(), "")
	var err error
	if s.Address, err = FreeAddress(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = shell("echo port is taken; exit 3").Start(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "port is taken") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Start = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := shell("sleep 60").Start(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("Start with a context that has ended = %v", err)
	}
}

// TestStartAndStop: the process runs on its core, and is gone with all that it started when it has been stopped.
func TestStartAndStop(t *testing.T) {
	t.Parallel()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	core := 0
	for !may.IsSet(core) {
		core++
	}
	// This test listens in the process's place.
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := site(t, t.TempDir(), "")
	s.Address, s.Core = netip.MustParseAddrPort(l.Addr().String()), core
	p, err := shell("echo hello; exec sleep 600").Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var on unix.CPUSet
	if err := unix.SchedGetaffinity(p.PID(), &on); err != nil {
		t.Error(err)
	}
	if on.Count() != 1 || !on.IsSet(core) {
		t.Errorf("the process may use %d cores, not only %d", on.Count(), core)
	}
	var after unix.CPUSet
	if err := unix.SchedGetaffinity(0, &after); err != nil || after != may {
		t.Errorf("this process's cores changed: %v", err)
	}
	p.Stop()
	p.Stop() // again does nothing
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is there after Stop: %v", err)
	}
}

// TestStopInsists: a process that does not end when it is asked to is killed, and its children with it.
func TestStopInsists(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := site(t, t.TempDir(), "")
	s.Address = netip.MustParseAddrPort(l.Addr().String())
	p, err := shell("trap '' TERM; echo ready; sleep 600; sleep 600").Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.Said(), "ready"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the script does not run")
		}
	}
	p.stop(50 * time.Millisecond)
	// Its group is empty as soon as init has reaped the child.
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(-p.PID(), 0) == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a process of the group is there after Stop")
		}
	}
}
