package peers

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// haproxyText is a frontend with one host. Beyond HAProxy's defaults: one thread, as the proxy has one core; reuse of any idle
// connection; and a connection limit that holds the idle clients (it wants twice as many descriptors, and is not to insist). Bodies stream both ways; that is its only way.
const haproxyText = `global
	nbthread 1
	maxconn 15000
	no strict-limits
	pidfile DIR/haproxy.pid
LOGGLOBAL
defaults
	mode http
	timeout connect 5s
	timeout client 75s
	timeout http-keep-alive 75s
	timeout http-request 10s
	timeout server 60s
	timeout tunnel 1h
LOGDEFAULTS
frontend clients
	bind ADDRESS backlog 4096TLS
	http-request set-header X-Real-IP %[src]
	http-request set-header X-Forwarded-Host %[req.hdr(host)]
	http-request set-header X-Forwarded-Port %[dst_port]
	http-request set-header X-Forwarded-Proto SCHEME
	http-request set-header X-Request-ID %[uuid()]
	option forwardfor
	acl bench hdr(host) -i HOST
	use_backend pods if bench
backend pods
	balance random(2)
	http-reuse always
SERVERS`

// HAProxy is HAProxy with one thread.
func HAProxy() Peer {
	return Peer{Name: "haproxy", Program: "haproxy", Package: "haproxy", Version: []string{"-v"}, Launch: launchHAProxy}
}

func launchHAProxy(s Site) Launch {
	global, defaults := "", ""
	if s.AccessLog != "" {
		global, defaults = "\tlog stdout format raw local0 info\n", "\tlog global\n\toption httplog\n"
	}
	servers := lines(s.Backends, func(i int, b netip.AddrPort) string {
		return fmt.Sprintf("\tserver pod%d %s max-reuse 10000 pool-purge-delay 55s\n", i+1, b)
	})
	tls := ""
	if s.Mode != Plain {
		tls = " ssl crt " + s.file(bothFile) + " alpn h2,http/1.1"
	}
	return Launch{
		Files: s.withCertificate(map[string]string{"haproxy.cfg": render(haproxyText, "TLS", tls, "SCHEME", s.Mode.Scheme(), "LOGGLOBAL\n", global, "LOGDEFAULTS\n", defaults,
			"DIR", s.Dir, "ADDRESS", s.Address.String(), "HOST", Host, "SERVERS", servers)}),
		Args:   []string{"-db", "-f", filepath.Join(s.Dir, "haproxy.cfg")},
		Stdout: s.AccessLog,
	}
}
