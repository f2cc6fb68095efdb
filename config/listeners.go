package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Listeners are the addresses that Podlane serves on. Each list may be empty.
type Listeners struct {
	// HTTP and HTTPS carry the traffic of Ingresses.
	HTTP, HTTPS Addresses
	// PublicHTTP and PublicHTTPS are the ports that clients use where something in front maps them; 0 means those of the addresses.
	PublicHTTP, PublicHTTPS uint16
	// Admin carries metrics, probes, debug pages and the dashboard; it shows routes and problems, so it stays on loopback by default.
	Admin Addresses
	// Metrics carries metrics and probes only, for Prometheus and the kubelet.
	Metrics Addresses
	// Dashboard adds the dashboard to Admin.
	Dashboard bool
	// Profiling adds /debug/pprof/ to Admin.
	Profiling bool

	// hasMetrics says that the command has --metrics-address.
	hasMetrics bool
}

// ControllerListeners returns the defaults of `podlane controller`, which suit a Pod.
func ControllerListeners() *Listeners {
	return &Listeners{
		HTTP: Addresses{":8080"}, HTTPS: Addresses{":8443"},
		Admin: Addresses{"127.0.0.1:9091"}, Metrics: Addresses{":9090"}, Dashboard: true, hasMetrics: true,
	}
}

// ServeListeners returns the defaults of `podlane serve`, which stay on this machine.
func ServeListeners() *Listeners {
	return &Listeners{
		HTTP: Addresses{"127.0.0.1:8080"}, HTTPS: Addresses{"127.0.0.1:8443"}, Admin: Addresses{"127.0.0.1:9090"}, Dashboard: true,
	}
}

// Title is the heading in --help.
func (*Listeners) Title() string { return "Addresses" }

// AddFlags binds the options to fs.
func (l *Listeners) AddFlags(fs *pflag.FlagSet) {
	fs.Var(&l.HTTP, "http-address", "addresses for plain HTTP, comma-separated; off for none")
	fs.Var(&l.HTTPS, "https-address", "addresses for HTTPS, comma-separated; off for none")
	fs.Uint16Var(&l.PublicHTTP, "public-http-port", l.PublicHTTP,
		"port at which clients reach --http-address, where a Service or a load balancer maps it, for X-Forwarded-Port and redirects; 0 means the same")
	fs.Uint16Var(&l.PublicHTTPS, "public-https-port", l.PublicHTTPS, "port at which clients reach --https-address, likewise")
	fs.Var(&l.Admin, "admin-address",
		"addresses for the dashboard, /metrics, /healthz, /readyz and the pages /debug/routes, /debug/endpoints, /debug/certs, /debug/problems and /debug/explain; they show the whole table, so keep them private")
	if l.hasMetrics {
		fs.Var(&l.Metrics, "metrics-address", "addresses for /metrics, /healthz and /readyz only")
	}
	fs.BoolVar(&l.Dashboard, "dashboard", l.Dashboard, "serve a read-only page for browsers under /dashboard/ on --admin-address: routes, endpoints, certificates, Problems, rates, explanations")
	fs.BoolVar(&l.Profiling, "profiling", l.Profiling, "serve Go profiles under /debug/pprof/ on --admin-address")
}

// HTTPSPort is the port at which clients reach HTTPS: the public one where there is one, else that of the first address; 0 where there is
// none or the system chooses it.
func (l *Listeners) HTTPSPort() uint16 {
	if l.PublicHTTPS != 0 {
		return l.PublicHTTPS
	}
	if len(l.HTTPS) == 0 {
		return 0
	}
	_, text, _ := net.SplitHostPort(l.HTTPS[0])
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0 // Set refuses it
	}
	return uint16(port)
}

// Validate refuses one address in two places.
func (l *Listeners) Validate() error {
	if len(l.HTTP)+len(l.HTTPS) == 0 {
		return fmt.Errorf("--http-address and --https-address are both off: write an address for at least one")
	}
	seen := map[string]string{}
	for _, list := range []struct {
		flag      string
		addresses Addresses
	}{
		{"--http-address", l.HTTP}, {"--https-address", l.HTTPS},
		{"--admin-address", l.Admin}, {"--metrics-address", l.Metrics},
	} {
		for _, address := range list.addresses {
			if strings.HasSuffix(address, ":0") {
				continue // the system chooses another port each time
			}
			host, port, _ := net.SplitHostPort(address)
			if host == "localhost" {
				address = net.JoinHostPort("127.0.0.1", port)
			}
			if before, ok := seen[address]; ok {
				return fmt.Errorf("%s: %s is also in %s: write another port", list.flag, address, before)
			}
			seen[address] = list.flag
		}
	}
	return nil
}
