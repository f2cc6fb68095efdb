package proxy

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// This file turns the parts of an Explanation into plain data.

// Forward is a request on its way to a Pod.
type Forward struct {
	Backend
	Sent Sent `json:"sent"`
	// ErrorService says that it is the Ingress's service for errors that is asked, in place of Failure's status.
	ErrorService bool `json:"errorService,omitempty"`
	// Pinned is the endpoint that the client is kept with, nil where any may be chosen.
	Pinned *Pin `json:"pinned,omitempty"`
	// Timeouts and Retries say how long is waited, and what is tried again.
	Timeouts TimeoutsSeen `json:"timeouts"`
	Retries  string       `json:"retries"`
}

// Backend is a Service and its endpoints.
type Backend struct {
	Service  string `json:"service"`
	Protocol string `json:"protocol"`
	Balance  string `json:"balance,omitempty"`
	// InUse is how many of the endpoints requests are now balanced over.
	InUse     int            `json:"inUse"`
	Endpoints []EndpointSeen `json:"endpoints"`
}

// EndpointSeen is the state of an endpoint.
type EndpointSeen struct {
	Address    string  `json:"address"`
	Pod        string  `json:"pod,omitempty"`
	Node       string  `json:"node,omitempty"`
	Zone       string  `json:"zone,omitempty"`
	State      string  `json:"state"`
	EjectedFor float64 `json:"ejectedForSeconds,omitempty"`
	InFlight   int     `json:"inFlight"`
	Failures   int     `json:"failures,omitempty"`
}

// Pin is why a client is kept with an endpoint.
type Pin struct {
	Address string `json:"address"`
	By      string `json:"by"`
}

// Sent is what a Pod gets.
type Sent struct {
	Method string `json:"method"`
	// Target is path and query.
	Target string `json:"target"`
	Host   string `json:"host"`
	// Set are the fields that the client did not send like this; those that carry credentials have no value.
	Set     []exchange.Field `json:"set,omitempty"`
	Removed []string         `json:"removed,omitempty"`
}

// TimeoutsSeen are in seconds; 0 is no limit.
type TimeoutsSeen struct {
	Connect float64 `json:"connect"`
	Send    float64 `json:"send"`
	// Header is until the head of the answer, Body between two parts of it, Quiet takes their place for tunnels, event streams and gRPC.
	Header float64 `json:"header"`
	Body   float64 `json:"body"`
	Quiet  float64 `json:"quiet"`
	// MaxBody is how many bytes the request's body may have, 0 for no limit.
	MaxBody int64 `json:"maxBody"`
}

// forwardOf returns where a rehearsal arrived.
func forwardOf(s *session) *Forward {
	r, l, limits := s.rehearsal, s.rehearsal.asked, &s.chain.limits
	protocol := "HTTP/1.1"
	profile := l.speech.profile(s.x)
	if profile.Protocol == upstream.HTTP2 {
		protocol = "HTTP/2"
	}
	if profile == &l.speech.secure {
		protocol += " over TLS"
	}
	return &Forward{
		Backend: backendSeen(l, protocol), Sent: r.sent, ErrorService: r.erring || l == s.chain.errors, Pinned: r.pinned,
		Timeouts: TimeoutsSeen{
			Connect: cmp.Or(limits.connect, s.e.opts.Upstream.ConnectTimeout, upstream.DefaultConnectTimeout).Seconds(), Send: limits.send.Seconds(),
			Header: s.patience(limits.header).Seconds(), Body: s.patience(limits.body).Seconds(), Quiet: limits.quiet.Seconds(), MaxBody: limits.maxBody,
		},
		Retries: retriesText(s.chain.filters.Forwarding.Again),
	}
}

// retriesText says what is tried again.
func retriesText(rules *filters.Again) string {
	if rules == nil {
		return "connects that fail (3), a connection that was lost before the answer (once), requests that the Pod has not processed"
	}
	return rules.String()
}

func backendSeen(l *lane, protocol string) Backend {
	b := Backend{Service: serviceName(l.backend), Protocol: protocol, InUse: l.pool.Len(), Endpoints: []EndpointSeen{}}
	if l.view != nil {
		b.Balance = l.view.Spec().Algorithm.String()
	}
	for _, e := range l.pool.Status().Endpoints {
		b.Endpoints = append(b.Endpoints, EndpointSeen{
			Address: e.AddrPort.String(), Pod: e.Pod, Node: e.Node, Zone: e.Zone, State: string(e.State),
			EjectedFor: e.EjectedFor.Round(time.Millisecond).Seconds(), InFlight: e.InFlight, Failures: e.Fails,
		})
	}
	return b
}

// pin returns the endpoint that the client of x is kept with, or nil. It counts nothing.
func (l *lane) pin(x *exchange.Exchange) *Pin {
	var ep *upstream.Endpoint
	by := ""
	spec := l.view.Spec()
	switch {
	case l.sticky != nil:
		key, ok := l.sticky.Key(x)
		by = "the cookie " + l.sticky.Cookie
		if ok && l.sticky.Persistent {
			ep = l.view.PeekNamed(key)
		} else if ok {
			ep = l.view.PeekHome(upstream.HashBytes(key))
		}
	case spec.Algorithm == upstream.Hash && spec.Subset <= 1:
		if h, ok := spec.Key.Hash(x); ok {
			ep, by = l.view.PeekHome(h), "a hash of the request"
		}
	}
	if ep == nil || ep.Out() {
		return nil
	}
	return &Pin{ep.AddrPort().String(), by}
}

// sentOf returns what the Pod gets, where the client has sent the fields of before.
func sentOf(s *session, before []exchange.Field) Sent {
	q := &s.x.Request
	target := string(q.SendPath())
	if q.HasQuery {
		target += "?" + string(q.RawQuery)
	}
	sent := Sent{Method: string(q.Method), Target: target, Host: string(q.Fields.Get(exchange.Host))}
	set, removed := exchange.FieldChanges(before, q.Fields.List())
	for _, f := range set {
		if id := exchange.IDOf(f.Name); id == exchange.XRequestID && s.x.RequestIDMade {
			f.Value = "(made for each request)"
		}
		sent.Set = append(sent.Set, exchange.Field{Name: f.Name, Value: f.Shown()})
	}
	sent.Removed = removed
	return sent
}

func routeSeen(r *router.Route) RouteSeen {
	return RouteSeen{
		Namespace: r.ID.Namespace, Ingress: r.ID.Ingress, Host: r.ID.Host, Path: r.ID.Path, Type: r.ID.Type.String(), Default: r.IsDefault, Denied: r.Denied,
	}
}

func serviceName(b *router.Backend) string { return strings.TrimSuffix(b.Service.String(), ":") }

// hostSeen returns the host that a lookup ended at, nil where there is none.
func hostSeen(t *router.Table, trace *router.Trace) *HostSeen {
	for _, v := range trace.Visits {
		if v.Place > router.AnyHost || !v.Found {
			continue
		}
		seen := &HostSeen{Name: v.Key, Found: v.Place.String()}
		if h, ok := t.Host(v.Key); ok && len(h.Routes()) > 0 {
			seen.Compat = h.Routes()[0].Compat
		}
		return seen
	}
	return nil
}

// maxCandidates bounds the Routes that are listed although they do not match.
const maxCandidates = 20

// rivals are the Routes of a table that could have got a request and did not: it was for a path of the host name, which is owned by host, and
// went to chosen, which may be nil.
type rivals struct {
	table      *router.Table
	host       *HostSeen
	name, path string
	chosen     *router.Route
}

// list returns them: those of the host that owns the request, then those of the hosts that it takes the request from.
func (v *rivals) list() []Candidate {
	if v.host == nil {
		return nil
	}
	var list []Candidate
	if h, ok := v.table.Host(v.host.Name); ok {
		list = v.matching(h, func(r *router.Route) string { return outranked(r, v.chosen) })
		if v.chosen == nil || v.chosen.IsDefault {
			list = append(list, v.strangers(h)...)
		}
	}
	for _, other := range v.lesserHosts() {
		list = append(list, v.matching(other, func(*router.Route) string {
			return fmt.Sprintf("%s: less specific than %s, which owns the request", hostText(other.Name()), hostText(v.host.Name))
		})...)
	}
	return list
}

// matching returns the Routes of h that cover the path, and why they did not get the request.
func (v *rivals) matching(h *router.Host, why func(*router.Route) string) (list []Candidate) {
	for _, r := range h.Routes() {
		if r != v.chosen && r.Covers(v.path) {
			list = append(list, Candidate{RouteSeen: routeSeen(r), Matches: true, Why: why(r)})
		}
	}
	return list
}

// strangers returns the first Routes of h that do not cover the path.
func (v *rivals) strangers(h *router.Host) (list []Candidate) {
	for _, r := range h.Routes() {
		if len(list) < maxCandidates && !r.Covers(v.path) {
			list = append(list, Candidate{RouteSeen: routeSeen(r), Why: "its path does not match " + v.path})
		}
	}
	return list
}

// lesserHosts returns the hosts that would own the request if its host did not.
func (v *rivals) lesserHosts() []*router.Host {
	var list []*router.Host
	t, name := v.table, v.name
	add := func(lesser string) {
		if h, ok := t.Host(lesser); ok && lesser != v.host.Name {
			list = append(list, h)
		}
	}
	if dot := strings.IndexByte(name, '.'); dot > 0 {
		add("*" + name[dot:])
	}
	for h := range t.Hosts() {
		if strings.HasPrefix(h.Name(), "~") && new(router.Table).With(router.Change{Hosts: []*router.Host{h}}).HasHost(name) {
			add(h.Name())
		}
	}
	add("")
	return list
}

func hostText(name string) string {
	if name == "" {
		return "the rules without a host"
	}
	return name
}

// outranked says why r, which matches, comes behind chosen.
func outranked(r, chosen *router.Route) string {
	switch {
	case r.IsDefault:
		return "the default backend is for what no path matches"
	case chosen == nil:
		return ""
	case r.ID.Type != chosen.ID.Type:
		return fmt.Sprintf("%s comes before %s", typeText(chosen), typeText(r))
	case r.ID.Type == router.Regex && len(r.ID.Path) == len(chosen.ID.Path):
		return fmt.Sprintf("of patterns of one length the last by text comes first: %q", chosen.ID.Path)
	}
	return fmt.Sprintf("a longer path comes first: %q", chosen.ID.Path)
}

func typeText(r *router.Route) string {
	if r.ID.Type == router.Regex {
		return "a regular expression"
	}
	return r.ID.Type.String()
}

// userInfo finds the name and password of a URL.
var userInfo = regexp.MustCompile(`://[^/@\s]+@`)

// maxShown bounds the values that are shown.
const maxShown = 300

func shorten(text string) string {
	text = userInfo.ReplaceAllString(text, "://(not shown)@")
	if len(text) > maxShown {
		return strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return text
}

func valueText(v policy.Value) string {
	return shorten(strings.TrimSpace(strings.TrimPrefix(v.String(), v.Family)))
}

func givenSeen(r *router.Route, g policy.Given) GivenSeen {
	object := g.Object
	if g.By == policy.ByAnnotation {
		object = r.ID.Namespace + "/" + r.ID.Ingress
	}
	return GivenSeen{By: g.By, Object: object, Name: g.Name, Value: shorten(g.Value)}
}
