package proxy

import (
	"bytes"
	"strings"

	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
)

// match finds the chain for a validated request: that of its route, or the one that answers 404. ambiguous says that the path can
// be read in two ways that lead to routes with different security policies: such a request must be refused.
func (s *session) match() (c *chain, ambiguous bool) {
	x := s.x
	l := s.e.live.Load()
	s.generation, s.settings = l.generation, l.settings
	r, ok := l.table.Lookup(text(x.Request.Hostname), text(x.Request.Path))
	x.Route = r // nil where there is none
	if s.direction = l.direction(x); !ok {
		return s.e.fallback, false
	}
	c = r.Attachment().(*chain)
	if r.Compat {
		x.Request.Dots = false // the Pod gets the path as the client sent it, which ingress-nginx leaves to it
	}
	return c, bytes.IndexByte(x.Request.Path, '%') >= 0 && s.evades(c, l.table)
}

// evades reports whether a Pod that takes encoded slashes or backslashes for separators would read the path as one that another route,
// with other security policies, answers for. They are in the paths of honest applications (GitLab, npm scopes, RabbitMQ), so nothing else is
// wrong with them. Few Pods know both: each kind is read by itself too, or one could lead the other reading back to where it is harmless.
func (s *session) evades(c *chain, t *router.Table) bool {
	for _, escapes := range [...]string{"%2F", "%5C", "%2F%5C"} {
		if s.leadsAway(escapes, c, t) {
			return true
		}
	}
	return false
}

// leadsAway reports whether the path leads to a route with other security policies than those of c where escapes are separators.
func (s *session) leadsAway(escapes string, c *chain, t *router.Table) bool {
	x := s.x
	at := len(x.Scratch)
	x.Scratch = appendSeparated(x.Scratch, x.Request.Path, escapes)
	read := x.Scratch[at:]
	if len(read) == len(x.Request.Path) {
		return false
	}
	read = router.ResolvePath(read)
	other, ok := t.Lookup(text(x.Request.Hostname), text(read))
	return ok && other != c.route && filters.Guard(s.e.opts.Policies, other) != filters.Guard(s.e.opts.Policies, c.route)
}

// appendSeparated appends a canonical path with slashes in the place of those of its escapes that are in escapes.
func appendSeparated(dst, path []byte, escapes string) []byte {
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) && strings.Contains(escapes, text(path[i:i+3])) {
			dst = append(dst, '/')
			i += 2
			continue
		}
		dst = append(dst, path[i])
	}
	return dst
}
