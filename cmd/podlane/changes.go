package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"podlane.dev/podlane/router"
)

// scene is what is live at one moment, as a person sees it: routes, and who gets their traffic.
type scene struct {
	table *router.Table
	// endpoints are the addresses that get traffic, sorted.
	endpoints map[router.ServicePort][]netip.AddrPort
}

// newScene returns the scene of a table and the addresses of its Services by port name.
func newScene(t *router.Table, addresses map[router.Service]map[string][]router.Address) scene {
	s := scene{table: t, endpoints: map[router.ServicePort][]netip.AddrPort{}}
	for p := range t.Ports() {
		s.endpoints[p] = inUse(addresses[p.Service()][p.Port])
	}
	return s
}

// inUse returns the ready addresses, or where there are none those that still serve while they terminate.
func inUse(all []router.Address) []netip.AddrPort {
	var ready, serving []netip.AddrPort
	for _, a := range all {
		switch {
		case a.Ready:
			ready = append(ready, a.AddrPort)
		case a.Serving:
			serving = append(serving, a.AddrPort)
		}
	}
	if len(ready) == 0 {
		ready = serving
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return slices.Compact(ready)
}

// changesSince returns a line for each difference that a user would call one: "+" for what is new, "~" for what changed, "-" for
// what is gone; routes first, then endpoints of Services that were there before, then certificates.
func (s scene) changesSince(before scene) []string {
	return slices.Concat(s.routeChanges(before), s.endpointChanges(before), s.certificateChanges(before))
}

// routeKey tells routes apart for a person: what is matched, not which Ingress it comes from.
type routeKey struct {
	host, path string
	kind       router.PathType
	isDefault  bool
}

func keyOf(r *router.Route) routeKey {
	k := routeKey{host: r.ID.Host, path: r.ID.Path, kind: r.ID.Type, isDefault: r.IsDefault}
	if k.isDefault {
		k.path = ""
	}
	return k
}

// routes returns the routes of a table in its order.
func routes(t *router.Table) []*router.Route {
	var list []*router.Route
	for h := range t.Hosts() {
		list = append(list, h.Routes()...)
	}
	if catchAll := t.CatchAll(); catchAll != nil && !slices.Contains(list, catchAll) {
		list = append(list, catchAll)
	}
	return list
}

func (s scene) routeChanges(before scene) []string {
	var lines []string
	old := map[routeKey]*router.Route{}
	for _, r := range routes(before.table) {
		old[keyOf(r)] = r
	}
	for _, r := range routes(s.table) {
		was, known := old[keyOf(r)]
		delete(old, keyOf(r))
		switch {
		case !known:
			lines = append(lines, "+ "+urlOf(r)+" → "+s.destination(r))
		case was != r && (urlOf(was) != urlOf(r) || was.String() != r.String()):
			line := "~ " + urlOf(r) + " → " + s.destination(r)
			if from := before.destination(was); from != s.destination(r) {
				line += ", was " + from
			}
			lines = append(lines, line)
		}
	}
	for _, r := range routes(before.table) {
		if old[keyOf(r)] == r {
			lines = append(lines, "- "+urlOf(r))
		}
	}
	return lines
}

// urlOf is how a user reaches r.
func urlOf(r *router.Route) string {
	scheme := "http"
	if r.HasCertificate {
		scheme = "https"
	}
	url := scheme + "://" + cmp.Or(r.ID.Host, "*")
	switch {
	case r.IsDefault:
		return url + " (default backend)"
	case r.ID.Type == router.Exact:
		return url + r.ID.Path + " (exact)"
	}
	return url + r.ID.Path
}

// destination says where requests on r go, and under which policies.
func (s scene) destination(r *router.Route) string {
	if r.Denied != "" {
		return "503 (denied: " + r.Denied + ")"
	}
	var parts []string
	for i := range r.Backends {
		b := &r.Backends[i]
		part := serviceText(b.Service)
		switch {
		case b.Unavailable != router.Available:
			part += " (503: " + string(b.Unavailable) + ")"
		case b.ExternalName != "":
			part += " (" + b.ExternalName + ")"
		default:
			part += " (" + count(len(s.endpoints[b.Service]), "endpoint") + ")"
		}
		if len(r.Backends) > 1 {
			part += fmt.Sprintf(" weight %d", b.Weight)
		}
		parts = append(parts, part)
	}
	policies := []string{strings.Join(parts, ", ")}
	for _, v := range r.Policies {
		policies = append(policies, v.String())
	}
	return strings.Join(policies, "; ")
}

// serviceText leaves out the colon of a port without a name.
func serviceText(p router.ServicePort) string { return strings.TrimSuffix(p.String(), ":") }

// count writes "1 endpoint" and "2 endpoints".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// endpointChanges tells of Services that both scenes have; the endpoints of a new one are told with its routes.
func (s scene) endpointChanges(before scene) []string {
	var lines []string
	for p, now := range s.endpoints {
		was, known := before.endpoints[p]
		if !known || slices.Equal(was, now) {
			continue
		}
		words := []string{fmt.Sprintf("~ %s: %s, was %d", serviceText(p), count(len(now), "endpoint"), len(was))}
		words = append(words, missing(now, was, "+")...)
		words = append(words, missing(was, now, "-")...)
		lines = append(lines, strings.Join(words, " "))
	}
	slices.Sort(lines)
	return lines
}

// missing returns, with a sign before each, the addresses of list that the other list lacks. Both are sorted.
func missing(list, other []netip.AddrPort, sign string) []string {
	var words []string
	for _, a := range list {
		if _, there := slices.BinarySearchFunc(other, a, netip.AddrPort.Compare); !there {
			words = append(words, sign+a.String())
		}
	}
	return shorten(words)
}

func (s scene) certificateChanges(before scene) []string {
	var lines []string
	old := map[string]*router.Certificate{}
	for _, c := range certificates(before.table) {
		old[certificateText(c)] = c
	}
	for _, c := range certificates(s.table) {
		text := certificateText(c)
		was, known := old[text]
		delete(old, text)
		switch {
		case !known:
			lines = append(lines, "+ "+text)
		case !sameKeyPair(was, c) && c.KeyPair == nil:
			lines = append(lines, "~ "+text+": unusable, the last good one stays")
		case !sameKeyPair(was, c):
			lines = append(lines, "~ "+text+": replaced")
		}
	}
	gone := make([]string, 0, len(old))
	for text := range old {
		gone = append(gone, "- "+text)
	}
	slices.Sort(gone)
	return append(lines, gone...)
}

// certificates returns those of a table, the operator's default last.
func certificates(t *router.Table) []*router.Certificate {
	list := slices.Clone(t.Certificates())
	if c := t.DefaultCertificate(); c != nil {
		list = append(list, c)
	}
	return list
}

func certificateText(c *router.Certificate) string {
	text := "certificate " + c.Namespace + "/" + c.Secret
	if len(c.Hosts) > 0 {
		text += " for " + strings.Join(c.Hosts, ", ")
	}
	return text
}

// sameKeyPair compares the certificates that clients see.
func sameKeyPair(a, b *router.Certificate) bool {
	if a.KeyPair == nil || b.KeyPair == nil {
		return a.KeyPair == b.KeyPair
	}
	return a == b || slices.EqualFunc(a.KeyPair.Certificate, b.KeyPair.Certificate, slices.Equal[[]byte])
}
