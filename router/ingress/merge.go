package ingress

import (
	"cmp"
	"fmt"
	"slices"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// This file decides between Ingresses: who gets which path and default backend of one host, and the catch-all.

// claimant is an Ingress that names a host.
type claimant struct {
	*compiled
	claims *hostClaims
}

// hostState is one host: everybody who names it, the oldest first, and what that came to.
type hostState struct {
	claimants []claimant
	// canaries are those that share the requests of others, the oldest first.
	canaries []claimant
	host     *router.Host
	// lastOwner is the namespace of the owner as of the last Build.
	lastOwner string
}

// add keeps the lists sorted.
func (s *hostState) add(c *compiled, claims *hostClaims) {
	list := s.listOf(c)
	i, _ := findClaimant(*list, c)
	*list = slices.Insert(*list, i, claimant{c, claims})
}

// remove takes out c, which is there.
func (s *hostState) remove(c *compiled) {
	list := s.listOf(c)
	i, _ := findClaimant(*list, c)
	*list = slices.Delete(*list, i, i+1)
}

// listOf returns the list that c is in.
func (s *hostState) listOf(c *compiled) *[]claimant {
	if c.canary.On {
		return &s.canaries
	}
	return &s.claimants
}

func findClaimant(list []claimant, c *compiled) (int, bool) {
	return slices.BinarySearchFunc(list, c, func(o claimant, c *compiled) int { return o.age.compare(c.age) })
}

// owner returns the namespace of the Ingress that owns the host, "" where no rule names it. s may be nil.
func (s *hostState) owner() (namespace string) {
	if s == nil || len(s.claimants) == 0 {
		return ""
	}
	return s.claimants[0].object.Namespace
}

// merger merges the claims on one host.
type merger struct {
	name           string
	hasCertificate bool
	auth           hostAuth
	ciphers        *router.TLSCiphers
	through        hostPassthrough
	paths          hostPaths
	canaries       map[pathKey][]*canaryClaim
	old            map[router.RouteID]*router.Route
	taken          map[pathKey]claimedPath
	order          []pathKey // of taken
	routes         []*router.Route
	problems       []Problem
}

// claimedPath is a path that is taken, and by whom.
type claimedPath struct {
	by    *compiled
	claim *pathClaim
}

// merge returns the host's routes under a name and the Problems of those who lost. Routes that are equal to one of old, which may be nil, are that
// one, and if all are, the result is old.
func (s *hostState) merge(name string, hasCertificate bool, old *router.Host) (*router.Host, []Problem) {
	m := &merger{name: name, hasCertificate: hasCertificate, taken: make(map[pathKey]claimedPath), canaries: make(map[pathKey][]*canaryClaim), paths: s.readsPaths()}
	m.auth, m.problems = s.decideAuth(name)
	m.decideCiphers(s)
	m.decidePassthrough(s)
	if old != nil {
		m.old = make(map[router.RouteID]*router.Route, len(old.Routes()))
		for _, r := range old.Routes() {
			m.old[r.ID] = r
		}
	}
	m.collectCanaries(s)
	for _, c := range s.claimants {
		for i := range c.claims.paths {
			m.path(c.compiled, &c.claims.paths[i])
		}
	}
	m.slashes()
	m.appRoot()
	m.tellCanaries()
	// Rules without a host name no host: what matches none of their paths is the catch-all's.
	if name != "" {
		m.defaults(s.claimants)
	}
	if old != nil && len(m.routes) == len(m.old) && !slices.ContainsFunc(m.routes, func(r *router.Route) bool { return m.old[r.ID] != r }) {
		return old, m.problems
	}
	return router.NewHost(name, m.routes), m.problems
}

// path adds a path, or reports that it is taken.
func (m *merger) path(c *compiled, claim *pathClaim) {
	id, pattern, ok := m.readPath(c, claim)
	if !ok {
		return
	}
	key := claim.path.key()
	if pattern != nil {
		key = pathKey{id.Path, router.Regex}
	}
	winner, taken := m.taken[key]
	if !taken {
		m.taken[key] = claimedPath{c, claim}
		m.order = append(m.order, key)
		state := m.state(c, id, claim.path.rank())
		state.pattern = pattern
		state.canary, state.canaryBackend = m.canaryOf(claim)
		m.routes = append(m.routes, newRoute(c, claim.backend, state))
		return
	}
	p := Problem{Object: c.object, Field: pathField(claim.rule, claim.index), Reason: PathConflict, Effect: RouteDropped, Route: id}
	if winner.by == c {
		if sameBackend(winner.claim.backend, claim.backend) {
			return // said twice, nothing is lost
		}
		p.Message = fmt.Sprintf("%s %s of %s is %s of this Ingress already, which wins", claim.path.typ, claim.path.written, hostText(m.name), pathField(winner.claim.rule, winner.claim.index))
	} else {
		p.Message = fmt.Sprintf("%s %s of %s belongs to Ingress %s, which is %s", claim.path.typ, claim.path.written, hostText(m.name), winner.by.name(), olderText(winner.by, c))
	}
	m.problems = append(m.problems, p)
}

// state returns what a Route of c has on this host besides its backend.
func (m *merger) state(c *compiled, id router.RouteID, rank rootRank) routeState {
	return routeState{
		id: id, hasCertificate: m.hasCertificate, compat: m.paths.compat, old: m.old[id], tls: m.auth.policy, ciphers: m.ciphers, through: m.through.of(c, rank),
		denied: cmp.Or(c.policies.denied, c.auth.deniedBy(), m.auth.denied, m.auth.refused[c]),
	}
}

// defaults adds the default backend of the oldest claimant that has one.
func (m *merger) defaults(claimants []claimant) {
	var winner *compiled
	for _, c := range claimants {
		switch {
		case c.defaultBackend == nil:
		case winner == nil:
			winner = c.compiled
			id := router.RouteID{Namespace: c.object.Namespace, Ingress: c.object.Name, Host: m.name}
			state := m.state(c.compiled, id, defaultRoot)
			state.isDefault = true
			m.routes = append(m.routes, newRoute(c.compiled, *c.defaultBackend, state))
		default:
			m.problems = append(m.problems, Problem{
				Object: c.object, Field: "spec.defaultBackend", Reason: DefaultBackendConflict, Effect: Ignored,
				Route:   router.RouteID{Namespace: c.object.Namespace, Ingress: c.object.Name, Host: m.name},
				Message: fmt.Sprintf("the default backend of %s is that of Ingress %s, which is %s", hostText(m.name), winner.name(), olderText(winner, c.compiled)),
			})
		}
	}
}

// mergeDefaults returns the catch-all of the sorted Ingresses that have a default backend, and the Problems of those whose
// default backend gets no request at all: an Ingress that names hosts has it for these.
func mergeDefaults(sorted []*compiled, old *router.Route) (*router.Route, []Problem) {
	if len(sorted) == 0 {
		return nil, nil
	}
	winner := sorted[0]
	route := newRoute(winner, *winner.defaultBackend, defaultState(winner, old))
	var problems []Problem
	for _, c := range sorted[1:] {
		if c.namesHost() {
			continue
		}
		problems = append(problems, Problem{
			Object: c.object, Field: "spec.defaultBackend", Reason: DefaultBackendConflict, Effect: Ignored,
			Route:   router.RouteID{Namespace: c.object.Namespace, Ingress: c.object.Name},
			Message: fmt.Sprintf("the default backend for all hosts is that of Ingress %s, which is %s", winner.name(), olderText(winner, c)),
		})
	}
	return route, problems
}

// routeState is what a Route has besides what its Ingress says.
type routeState struct {
	id             router.RouteID
	isDefault      bool
	hasCertificate bool
	compat         bool
	appendSlash    bool
	sendTo         string
	pattern        *router.Pattern
	tls            *router.TLSPolicy
	ciphers        *router.TLSCiphers
	through        router.Passthrough
	denied         string
	// canary is the Ingress that shares its requests, nil for none.
	canary        *compiled
	canaryBackend *router.Backend
	old           *router.Route // nil where there was none
}

// newRoute returns the Route of a backend, which is state.old if that is equal.
func newRoute(c *compiled, backend router.Backend, state routeState) *router.Route {
	old := state.old
	next := &router.Route{
		ID: state.id, UID: c.object.UID, Backends: []router.Backend{backend},
		Policies: c.policies.values, Denied: state.denied, Pattern: state.pattern, Compat: state.compat, AppendSlash: state.appendSlash, SendTo: state.sendTo,
		HasCertificate: state.hasCertificate, IsDefault: state.isDefault, TLS: state.tls, Ciphers: state.ciphers, Passthrough: state.through, ErrorBackend: c.errorBackend,
	}
	if state.canary != nil {
		var before *router.Alternative
		if old != nil {
			before = old.Alternative
		}
		next.Alternative = alternative(state.canary, before)
		next.Backends = append(next.Backends, *state.canaryBackend)
	}
	if old == nil {
		return next
	}
	for i := range next.Backends {
		if i < len(old.Backends) && old.Backends[i].TLS.Same(next.Backends[i].TLS) {
			next.Backends[i].TLS = old.Backends[i].TLS
		}
	}
	if a, b := old.ErrorBackend, next.ErrorBackend; a != nil && b != nil && a.TLS.Same(b.TLS) {
		same := *b
		if same.TLS = a.TLS; same == *a {
			next.ErrorBackend = a
		}
	}
	if sameRoute(old, next) {
		return old
	}
	return next
}

// sameBackend says whether two Backends of one Ingress are the same, however their port is written.
func sameBackend(a, b router.Backend) bool {
	a.Written = b.Written
	return a == b
}

// sameRoute says whether two Routes of one ID are equal, but for what hangs from them.
func sameRoute(a, b *router.Route) bool {
	return a.ID == b.ID && a.UID == b.UID && a.HasCertificate == b.HasCertificate && a.IsDefault == b.IsDefault && a.Denied == b.Denied &&
		sameHandshake(a, b) && a.Pattern == b.Pattern && a.Compat == b.Compat && a.AppendSlash == b.AppendSlash && a.SendTo == b.SendTo &&
		a.Alternative == b.Alternative && a.ErrorBackend == b.ErrorBackend && slices.Equal(a.Backends, b.Backends) && sameValues(a.Policies, b.Policies)
}

// sameHandshake says whether two Routes say the same about what comes before a request.
func sameHandshake(a, b *router.Route) bool {
	return a.TLS == b.TLS && a.Ciphers == b.Ciphers && a.Passthrough == b.Passthrough
}

// sameValues says whether a and b are one slice, or empty. Values of unknown types cannot be compared, but a policySet is
// kept as long as the annotations are the same.
func sameValues(a, b []policy.Value) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// hostText names a host in a message.
func hostText(name string) string {
	if name == "" {
		return "all hosts"
	}
	return "host " + name
}

// olderText says why winner comes before loser.
func olderText(winner, loser *compiled) string {
	if winner.age.created.Equal(loser.age.created) {
		return "as old, and first by namespace and name"
	}
	return "older"
}
