package main

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"

	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
)

// tryLine returns a curl command for a route of t, one that somebody answers where there is one; "" where there is nothing to try.
func tryLine(t *router.Table, f *front, alive map[router.ServicePort]bool) string {
	var second string
	for _, r := range routes(t) {
		if r.Denied != "" || len(r.Backends) == 0 || r.Backends[0].Unavailable != router.Available || !typed(r) {
			continue
		}
		line := curl(r, f)
		if line != "" && alive[r.Backends[0].Service] {
			return line
		}
		second = cmp.Or(second, line)
	}
	return second
}

// typed says whether a path and a host of r can be typed: for one that is a pattern nobody knows what would match.
func typed(r *router.Route) bool {
	if r.Pattern != nil && !r.Pattern.Matches(r.Pattern.Literal()) {
		return false
	}
	return !strings.HasPrefix(r.ID.Host, "~")
}

// alive returns the Service ports that have an endpoint to answer.
func (f *front) alive() map[router.ServicePort]bool {
	ports := map[router.ServicePort]bool{}
	for _, pool := range f.engine.Endpoints() {
		ports[pool.ServicePort] = slices.ContainsFunc(pool.Endpoints, func(e upstream.EndpointStatus) bool {
			return e.State == upstream.StateReady || e.State == upstream.StateServing
		})
	}
	return ports
}

// curl returns the command that reaches r at an address of f.
func curl(r *router.Route, f *front) string {
	path := r.ID.Path
	if r.Pattern != nil {
		path = r.Pattern.Literal()
	}
	path = cmp.Or(path, "/")
	host := r.ID.Host
	if rest, wildcard := strings.CutPrefix(host, "*."); wildcard {
		host = "any." + rest
	}
	switch {
	case r.HasCertificate && host != "" && len(f.https) > 0:
		address := reachable(f.https[0])
		ip, port, err := net.SplitHostPort(address)
		if err != nil {
			return ""
		}
		if strings.Contains(ip, ":") {
			ip = "[" + ip + "]"
		}
		return fmt.Sprintf("curl -k --resolve %s:%s:%s %s", host, port, ip, quoteWord("https://"+host+":"+port+path))
	case len(f.http) == 0:
		return ""
	case host == "":
		return "curl " + quoteWord("http://"+reachable(f.http[0])+path)
	}
	return fmt.Sprintf("curl -H 'Host: %s' %s", host, quoteWord("http://"+reachable(f.http[0])+path))
}

// quoteWord quotes s for a shell where it must be.
func quoteWord(s string) string {
	plain := func(c rune) bool {
		return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || strings.ContainsRune("-._~/:%@=+,", c)
	}
	if strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
