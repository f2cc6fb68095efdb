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
	return Launch{
		Args: []string{
			"-listen", s.Address.String(), "-host", Host, "-backends", strings.TrimSuffix(backends, ","), "-access-log", s.AccessLog,
		},
		Env: []string{"GOMAXPROCS=1"},
	}
}
