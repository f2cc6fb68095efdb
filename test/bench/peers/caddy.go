package peers

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// caddyText is a site of which one host is routed, without TLS or with a certificate that is given. Caddy itself sets X-Forwarded-For, -Host and -Proto. Beyond its defaults: idle connections to
// the backends enough for all clients (by default 32, which would make connecting what is measured), and no asking for gzip.
const caddyText = `{
	admin off
	auto_https off
	log {
		level ERROR
	}
	servers {
		protocols PROTOCOLS
		timeouts {
			idle 75s
		}
	}
}
SCHEME://:PORT {
	bind ADDRESS
CERTIFICATELOG	@bench host HOST
	handle @bench {
		reverse_proxy BACKENDS {
			lb_policy random_choose 2
			header_up X-Real-IP {remote_host}
			header_up X-Forwarded-Port PORT
			header_up X-Request-ID {http.request.uuid}
			transport http {
				dial_timeout 5s
				keepalive 55s
				keepalive_idle_conns 4096
				keepalive_idle_conns_per_host 2048
				compression off
			}
		}
	}
	handle {
		respond 404
	}
}
`

// Caddy is Caddy with one processor.
func Caddy() Peer {
	return Peer{Name: "caddy", Program: "caddy", Package: "caddy", Version: []string{"version"}, Launch: launchCaddy}
}

func launchCaddy(s Site) Launch {
	log := ""
	if s.AccessLog != "" {
		log = "\tlog {\n\t\toutput file " + s.AccessLog + " {\n\t\t\troll_disabled\n\t\t}\n\t\tlevel INFO\n\t}\n"
	}
	backends := lines(s.Backends, func(i int, b netip.AddrPort) string { return fmt.Sprintf("%s ", b) })
	file, protocols, certificate := filepath.Join(s.Dir, "Caddyfile"), "h1", ""
	if s.Mode != Plain {
		protocols, certificate = "h1 h2", "\ttls "+s.file(chainFile)+" "+s.file(keyFile)+"\n"
	}
	return Launch{
		Files: s.withCertificate(map[string]string{"Caddyfile": render(caddyText, "CERTIFICATE", certificate, "PROTOCOLS", protocols,
			"SCHEME", s.Mode.Scheme(), "LOG", log, "HOST", Host, "PORT", fmt.Sprint(s.Address.Port()),
			"ADDRESS", s.Address.Addr().String(), "BACKENDS ", backends)}),
		Args: []string{"run", "--config", file, "--adapter", "caddyfile"},
		Env:  []string{"HOME=" + s.Dir, "XDG_CONFIG_HOME=" + s.Dir, "XDG_DATA_HOME=" + s.Dir, "GOMAXPROCS=1"},
	}
}
