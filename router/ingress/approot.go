package ingress

import (
	"fmt"
	"slices"
	"strings"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// This file sends requests for / to an application's start page as ingress-nginx does: for the whole host, whoever else has that path.

// appRootOf returns where values send requests for /, "" for nowhere.
func appRootOf(values []policy.Value) string {
	for i := range values {
		if values[i].Family == router.AppRootFamily {
			path, _ := values[i].Parsed.(string)
			return path
		}
	}
	return ""
}

// appRoot adds the Route by which requests for / get the app-root of an Ingress that has other paths of the host: nginx looks at it before it
// looks for a location. Of several the one of the longest path wins, which nginx reads first.
func (m *merger) appRoot() {
	if !m.paths.compat {
		return
	}
	var winner *claimedPath
	for _, key := range m.order {
		taken := m.taken[key]
		if taken.by.policies.denied == "" && appRootOf(taken.by.policies.values) != "" && (winner == nil || readBefore(taken.claim.path.written, winner.claim.path.written)) {
			winner = &taken
		}
	}
	if winner == nil || m.answersRoot(winner.by) {
		return
	}
	id := router.RouteID{Namespace: winner.by.object.Namespace, Ingress: winner.by.object.Name, Host: m.name, Path: "/", Type: router.Exact}
	state := m.state(winner.by, id, noRoot)
	if state.denied != "" {
		return // a closed Route must not shut what others have at /
	}
	if loser, ok := m.taken[pathKey{"/", router.Exact}]; ok {
		m.routes = slices.DeleteFunc(m.routes, isExactRoot)
		m.report(loser.by, pathField(loser.claim.rule, loser.claim.index), Problem{
			Reason: PathConflict, Effect: RouteDropped,
			Message: fmt.Sprintf("Exact / of %s answers nothing: app-root of Ingress %s sends all requests for / away, as ingress-nginx does", hostText(m.name), winner.by.name()),
		})
	}
	m.routes = append(m.routes, newRoute(winner.by, winner.claim.backend, state))
	m.report(winner.by, pathField(winner.claim.rule, winner.claim.index)+".path", Problem{
		Reason: CompatAppRoot, Effect: Notice,
		Message: fmt.Sprintf("requests for / of %s get 302 to %s, as ingress-nginx answers: app-root holds for the whole host", hostText(m.name), appRootOf(winner.by.policies.values)),
	})
}

// readBefore says whether nginx reads what ingress-nginx writes for path a before what it writes for b.
func readBefore(a, b string) bool {
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return strings.Compare(a, b) > 0
}

// answersRoot says whether requests for / go to c alone anyway.
func (m *merger) answersRoot(c *compiled) bool {
	found := false
	for _, r := range m.routes {
		own := r.ID.Namespace == c.object.Namespace && r.ID.Ingress == c.object.Name
		switch {
		case isExactRoot(r):
			return own
		case r.Pattern != nil && !r.Pattern.Matches("/"), r.Pattern == nil && r.ID.Path != "/":
		case !own:
			return false
		default:
			found = true
		}
	}
	return found
}

// isExactRoot says whether r is for / and nothing else.
func isExactRoot(r *router.Route) bool { return r.ID.Type == router.Exact && r.ID.Path == "/" }
