// Package peers knows how each proxy of the benchmark is told to do the same work: to send every request for one host to the
// less busy of two backends drawn at random, over connections that are kept, with the same forwarded headers. It starts and
// stops the processes, and neither loads nor measures them.
//
// What is the same everywhere: one thread of work on one core; HTTP/1.1 to the backends, and kept connections on both sides, closed after 10,000
// requests where a proxy counts them; Host unchanged, X-Real-IP, X-Forwarded-For, -Host, -Port and -Proto, and an X-Request-ID of 128 random bits;
// request bodies that stream, up to 16 MiB; the same limits of time; one certificate, and TLS 1.3 with what the client offers, which is one
// cipher suite and one key exchange. Everything else is each proxy's default, unless its file
// here says why not.
package peers

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Mode is what a proxy's listener speaks.
type Mode int

// The modes.
const (
	// Plain is HTTP/1.1 without TLS.
	Plain Mode = iota
	// TLS is HTTP/1.1 over TLS.
	TLS
	// H2 is HTTP/2 over TLS.
	H2
)

// String is what a proxy speaks with its clients.
func (m Mode) String() string {
	return [...]string{"HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2 over TLS"}[m]
}

// Protocol is the mode's name in ALPN, "" without TLS.
func (m Mode) Protocol() string {
	switch m {
	case TLS:
		return "http/1.1"
	case H2:
		return "h2"
	default:
		return ""
	}
}

// Scheme is that of the mode's URLs.
func (m Mode) Scheme() string {
	if m == Plain {
		return "http"
	}
	return "https"
}

// Host is the one that requests are for. For others every proxy has no route.
const Host = "bench.example"

// A Site is what a proxy is to serve.
type Site struct {
	// Mode is what Address speaks.
	Mode Mode
	// Address is where the proxy listens.
	Address netip.AddrPort
	// Certificate is for Host, where the mode has TLS.
	Certificate *Certificate
	// Backends are where requests go.
	Backends []netip.AddrPort
	// Dir is a folder of the proxy's own, an absolute path.
	Dir string
	// AccessLog is the file that requests are logged to, "" for none.
	AccessLog string
	// Core is the processor core that the proxy may use.
	Core int
}

// A Launch is how a proxy is started for a Site.
type Launch struct {
	// Files are to be written before, by path below the Site's Dir.
	Files map[string]string
	// Args follow the program's name.
	Args []string
	// Env is added to the environment.
	Env []string
	// Stdout is the file for standard output, "" for the one that keeps what the proxy says.
	Stdout string
}

// A Peer is one proxy.
type Peer struct {
	// Name is what reports call it.
	Name string
	// Program is the name of its executable, or the path.
	Program string
	// Package is the Debian package that brings it, "" where the benchmark builds it.
	Package string
	// Version are the arguments that print its version.
	Version []string
	// Launch says how it is started.
	Launch func(Site) Launch
}

// ErrAbsent says that a peer is not installed.
var ErrAbsent = errors.New("not installed")

// Find returns the peer's executable. Where there is none the error is ErrAbsent and says which package has it.
func (p Peer) Find() (string, error) {
	path, err := exec.LookPath(p.Program)
	if err == nil || p.Package == "" {
		return path, err
	}
	// Debian's daemons are in a folder that is not on every user's path.
	if path, err := exec.LookPath("/usr/sbin/" + p.Program); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%s: %w: on Debian, apt-get install %s", p.Name, ErrAbsent, p.Package)
}

// Describe returns the first line of what the peer says of its version.
func (p Peer) Describe() string {
	path, err := p.Find()
	if err != nil || p.Version == nil {
		return ""
	}
	cmd := exec.Command(path, p.Version...)
	cmd.Env = os.Environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// Installed are the proxies that come from packages, in the order of reports.
func Installed() []Peer {
	return []Peer{NGINX(), HAProxy(), Caddy()}
}

// Named returns the peers whose names are listed, in their own order, and an error for a name that no peer has.
func Named(all []Peer, names []string) ([]Peer, error) {
	if len(names) == 0 {
		return all, nil
	}
	var found, known []string
	var chosen []Peer
	for _, p := range all {
		known = append(known, p.Name)
		if slices.Contains(names, p.Name) {
			chosen, found = append(chosen, p), append(found, p.Name)
		}
	}
	for _, name := range names {
		if !slices.Contains(found, name) {
			return nil, fmt.Errorf("there is no peer %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// render replaces NAME in a text by its value, for each pair.
func render(text string, pairs ...string) string {
	return strings.NewReplacer(pairs...).Replace(text)
}

// lines renders a text for each backend.
func lines(backends []netip.AddrPort, format func(i int, b netip.AddrPort) string) string {
	var b strings.Builder
	for i, at := range backends {
		b.WriteString(format(i, at))
	}
	return b.String()
}
