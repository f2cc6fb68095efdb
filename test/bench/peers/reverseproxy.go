package peers

import (
	"net/netip"
	"strings"
)

// ReverseProxy is test/bench/cmd/reverseproxy: what Go's standard library makes of the same task.
func ReverseProxy(program string) Peer {
	return Peer{Name: "reverseproxy", Program: program, Launch: launchReverseProxy}
}

func launchReverseProxy(s Site) Launch {
	backends := lines(s.Backends, func(_ int, b netip.AddrPort) string { return b.String() + "," })
	args := []string{
		"-listen", s.Address.String(), "-host", Host, "-backends", strings.TrimSuffix(backends, ","), "-access-log", s.AccessLog,
	}
	if s.Mode != Plain {
		args = append(args, "-certificate", s.file(chainFile), "-key", s.file(keyFile))
	}
	return Launch{
		Files: s.withCertificate(map[string]string{}), Args: args,
		Env: []string{"GOMAXPROCS=1"},
	}
}
