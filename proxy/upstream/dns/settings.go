package dns

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// settings is a parsed resolv.conf(5).
type settings struct {
	servers  []netip.AddrPort
	search   []string // each with a trailing dot
	ndots    int
	timeout  time.Duration
	attempts int
	tcp      bool
}

const (
	systemFile  = "/etc/resolv.conf"
	maxFile     = 64 << 10
	maxServers  = 3  // as the C library
	maxNdots    = 15 // as the C library
	maxSearch   = 32 // as Kubernetes
	maxTimeout  = 30 * time.Second
	maxAttempts = 5
)

// settings returns the file's settings, reading it if it is not the one that was read last.
func (r *Resolver) settings() (settings, error) {
	name := r.File
	if name == "" {
		name = systemFile
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	stat, err := os.Stat(name)
	if err != nil {
		return settings{}, err
	}
	if old := r.stat; old != nil && os.SameFile(old, stat) && old.ModTime().Equal(stat.ModTime()) && old.Size() == stat.Size() {
		return r.loaded, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return settings{}, err
	}
	defer f.Close()
	s, err := parseSettings(io.LimitReader(f, maxFile))
	if err != nil {
		return settings{}, err
	}
	r.loaded, r.stat = s, stat
	return s, nil
}

// parseSettings reads a resolv.conf. Like the C library it skips what it does not understand.
func parseSettings(in io.Reader) (settings, error) {
	s := settings{ndots: 1, timeout: 5 * time.Second, attempts: 2}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxFile)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil && len(s.servers) < maxServers {
				s.servers = append(s.servers, netip.AddrPortFrom(a, 53))
			} else if p, err := netip.ParseAddrPort(words[1]); err == nil && len(s.servers) < maxServers {
				s.servers = append(s.servers, p)
			}
		case "domain":
			s.setSearch(words[1:2])
		case "search":
			s.setSearch(words[1:])
		case "options":
			for _, o := range words[1:] {
				s.option(o)
			}
		}
	}
	if len(s.servers) == 0 {
		s.servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:53")}
	}
	return s, lines.Err()
}

// setSearch replaces the search list: the last line of the file counts.
func (s *settings) setSearch(domains []string) {
	s.search = nil
	for _, d := range domains {
		if d = strings.TrimSuffix(d, "."); d != "" && len(s.search) < maxSearch {
			s.search = append(s.search, d+".")
		}
	}
}

func (s *settings) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "use-vc":
		s.tcp = true
	case err != nil || n < 0:
	case name == "ndots":
		s.ndots = min(n, maxNdots)
	case name == "timeout" && n > 0:
		s.timeout = min(time.Duration(n)*time.Second, maxTimeout)
	case name == "attempts" && n > 0:
		s.attempts = min(n, maxAttempts)
	}
}

// candidates returns the full names that name may stand for, in the order in which they are tried.
func (s *settings) candidates(name string) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	var all []string
	asIs := strings.Count(name, ".") >= s.ndots
	if asIs {
		all = append(all, name+".")
	}
	for _, domain := range s.search {
		all = append(all, name+"."+domain)
	}
	if !asIs {
		all = append(all, name+".")
	}
	return all
}
