package ingress

import (
	"fmt"
	"slices"
	"strings"

	"podlane.dev/podlane/router"
)

// This file decides how the paths of one host are read: by the Ingress specification, or as ingress-nginx reads them. The host's owner decides, by its
// class, because ingress-nginx has rules that go for every path of a host.

// hostPaths is how the paths of one host are read.
type hostPaths struct {
	compat bool
	// by is the Ingress that makes every path of the host a pattern, as ingress-nginx does; nil for none.
	by *compiled
	// exact are the paths of type Exact, where by is set.
	exact set[string]
}

// compat says whether the host is read as ingress-nginx reads it: its owner decides. s may be nil.
func (s *hostState) compat() bool {
	return s != nil && len(s.claimants) > 0 && s.claimants[0].mode == compatible
}

// readsPaths decides how the paths of the host are read.
func (s *hostState) readsPaths() hostPaths {
	h := hostPaths{compat: s.compat()}
	if !h.compat {
		return h
	}
	for _, c := range s.claimants {
		if c.rewrite.Regex || slices.ContainsFunc(c.claims.paths, func(p pathClaim) bool { return c.rewrite.Changes(p.path.written) }) {
			h.by = c.compiled
			break
		}
	}
	if h.by == nil {
		return h
	}
	h.exact = make(set[string])
	for _, c := range s.claimants {
		for i := range c.claims.paths {
			if p := &c.claims.paths[i].path; p.typ == router.Exact {
				h.exact.add(p.written)
			}
		}
	}
	return h
}

// patterns says whether the path of a claim is a regular expression.
func (h *hostPaths) patterns(c *compiled, claim *pathClaim) bool {
	if h.compat {
		return h.by != nil
	}
	return claim.path.own && (c.rewrite.Regex || c.rewrite.Changes(claim.path.written))
}

// readPath returns the ID and the Pattern of a claim; ok is false where it cannot be served. Its Problems are added to m's.
func (m *merger) readPath(c *compiled, claim *pathClaim) (id router.RouteID, pattern *router.Pattern, ok bool) {
	id = router.RouteID{Namespace: c.object.Namespace, Ingress: c.object.Name, Host: m.name, Path: claim.path.written, Type: claim.path.typ}
	if !m.paths.patterns(c, claim) {
		return id, nil, m.readLiteral(c, claim)
	}
	id.Type = router.Regex
	if m.paths.compat {
		if id.Path == "/" && claim.path.typ == router.Exact {
			m.report(c, pathField(claim.rule, claim.index), Problem{
				Reason: CompatPattern, Effect: Notice,
				Message: "Exact / matches nothing where paths are patterns, as in ingress-nginx, which has a pattern for all paths before it: write pathType Prefix",
			})
			return id, nil, false
		}
	}
	compile := router.NewPattern
	under := m.paths.compat && m.leavesExact(c, claim)
	switch {
	case under:
		id.Path += "/"
		compile = router.NewNginxPatternUnder
	case m.paths.compat:
		compile = router.NewNginxPattern
	}
	if old := m.old[id]; old != nil && old.Pattern.Nginx() == m.paths.compat && old.Pattern.Under() == under {
		m.noticePattern(c, claim, old.Pattern)
		return id, old.Pattern, true
	}
	pattern, err := compile(claim.path.written)
	if err != nil {
		m.report(c, pathField(claim.rule, claim.index)+".path", Problem{
			Reason: InvalidPattern, Effect: RouteDropped,
			Message: fmt.Sprintf("%q is read as a regular expression, and cannot be: %v", claim.path.written, err),
		})
		return id, nil, false
	}
	m.noticePattern(c, claim, pattern)
	return id, pattern, true
}

// leavesExact says whether a Prefix, as ingress-nginx makes a pattern of it, is what lies under its path, because the path itself is Exact too.
func (m *merger) leavesExact(c *compiled, claim *pathClaim) bool {
	path := claim.path.written
	if claim.path.typ != router.Prefix || !m.paths.exact.has(path) || c.rewrite.Regex || c.rewrite.Changes(path) || strings.HasSuffix(path, "/") {
		return false
	}
	_, taken := m.taken[pathKey{path, router.Regex}]
	return !taken // else nothing is left for it
}

// readLiteral says whether the path of a claim can be served as it stands.
func (m *merger) readLiteral(c *compiled, claim *pathClaim) bool {
	field := pathField(claim.rule, claim.index)
	if err := claim.path.literal; err != nil {
		m.report(c, field+".path", Problem{Reason: InvalidPath, Effect: RouteDropped, Message: err.Error()})
		return false
	}
	if looksLikePattern(claim.path.written) {
		m.report(c, field+".path", Problem{Reason: PathNotPattern, Effect: Notice, Message: fmt.Sprintf("%q is matched as it stands, not as a pattern", claim.path.written)})
	}
	if c.rewrite.Changes(claim.path.written) || c.rewrite.Regex {
		m.report(c, field+".pathType", Problem{
			Reason: PathNotPattern, Effect: Ignored,
			Message: fmt.Sprintf("rewrite-target and use-regex are for paths of type ImplementationSpecific, and this one is %s: it is matched as it stands and not rewritten", claim.path.typ),
		})
	}
	return true
}

// noticePattern tells of the surprises of ingress-nginx's that a path relies on.
func (m *merger) noticePattern(c *compiled, claim *pathClaim, pattern *router.Pattern) {
	if !m.paths.compat {
		return
	}
	p := Problem{Reason: CompatPattern, Effect: Notice}
	const how = "is matched as ingress-nginx does: as a regular expression, at the beginning of the path, without regard to case"
	switch {
	case c.rewrite.Regex:
		p.Message = fmt.Sprintf("%q %s", claim.path.written, how)
	case c.rewrite.Changes(claim.path.written):
		p.Message = fmt.Sprintf("%q %s, because rewrite-target implies use-regex", claim.path.written, how)
	default:
		p.Message = fmt.Sprintf("%q %s, because Ingress %s has use-regex or rewrite-target on %s", claim.path.written, how, m.paths.by.name(), hostText(m.name))
	}
	if pattern.Unbound() {
		p.Message += `; of the alternatives only the first is bound to the beginning, and the others match anywhere in a path: write them in parentheses`
	}
	m.report(c, pathField(claim.rule, claim.index)+".path", p)
}

// report adds a Problem of c.
func (m *merger) report(c *compiled, field string, p Problem) {
	p.Object, p.Field = c.object, field
	m.problems = append(m.problems, p)
}

// slashes adds, for each path that ends in a slash, a Route that sends requests without it there, where nothing else is for them: nginx does so.
func (m *merger) slashes() {
	if !m.paths.compat || m.paths.by != nil {
		return
	}
	sent := make(set[string])
	for _, key := range m.order {
		taken := m.taken[key]
		path := taken.claim.path
		bare, found := strings.CutSuffix(path.canonical, "/")
		if !found || bare == "" || sent.has(bare) || m.has(bare) {
			continue
		}
		sent.add(bare)
		id := router.RouteID{Namespace: taken.by.object.Namespace, Ingress: taken.by.object.Name, Host: m.name, Path: strings.TrimSuffix(path.written, "/"), Type: router.Exact}
		state := m.state(taken.by, id, noRoot)
		state.appendSlash = true
		m.routes = append(m.routes, newRoute(taken.by, taken.claim.backend, state))
		m.report(taken.by, pathField(taken.claim.rule, taken.claim.index)+".path", Problem{
			Reason: CompatSlash, Effect: Notice,
			Message: fmt.Sprintf("requests to %s get 301 to %s, as ingress-nginx answers", id.Path, path.written),
		})
	}
}

// has says whether a path without a slash at its end is somebody's.
func (m *merger) has(bare string) bool {
	for _, typ := range []router.PathType{router.Exact, router.Prefix} {
		if taken, ok := m.taken[pathKey{bare, typ}]; ok && (typ == router.Exact || !strings.HasSuffix(taken.claim.path.canonical, "/")) {
			return true
		}
	}
	return false
}
