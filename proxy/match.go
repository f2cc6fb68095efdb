package proxy

import (
	"bytes"
	"strings"

	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
)

// match finds the chain for a validated request, and begins its trace: see find.
func (s *session) match() (c *chain, ambiguous bool) {
	l := s.e.live.Load()
	s.generation, s.settings = l.generation, l.settings
	start := l.tracer.Now()
	c, ambiguous = s.find(l)
	if l.tracer != nil && s.rehearsal == nil {
		s.beginTrace(l.tracer, c, start)
	}
	return c, ambiguous
}

// find returns the chain for a validated request: that of its route, or the one that answers 404. ambiguous says that the path can
// be read in two ways that lead to routes with different security policies: such a request must be refused.
func (s *session) find(l *live) (c *chain, ambiguous bool) {
	x := s.x
	r, ok := l.table.Match(text(x.Request.Hostname), text(x.Request.Path), s.rehearsal.watch(l))
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
// wrong with them. Few Pods know both: each kind is read by itself too, or one could lead the other reading back to where it is harmless. Where the
// host is read as ingress-nginx reads it they were separators already, and the Pod that takes them for text is the other reader.
func (s *session) evades(c *chain, t *router.Table) bool {
	path := s.x.Request.Path
	for _, escapes := range [...]string{"%2F", "%5C", "%2F%5C"} {
		if s.leadsAway(c, t, appendReplaced(s.scratch(), path, escapes, "/")) {
			return true
		}
	}
	return c.route.Compat && s.leadsAway(c, t, appendKept(s.scratch(), path))
}

// scratch is the free memory of the exchange: what is appended is given up at once.
func (s *session) scratch() []byte { return s.x.Scratch[len(s.x.Scratch):] }

// leadsAway reports whether read, another reading of the path, leads to a route with other security policies than those of c. It overwrites read.
func (s *session) leadsAway(c *chain, t *router.Table, read []byte) bool {
	if len(read) == len(s.x.Request.Path) {
		return false // nothing was replaced
	}
	other, ok := t.Lookup(text(s.x.Request.Hostname), text(router.ResolvePath(read)))
	return ok && other != c.route && filters.Guard(s.e.opts.Policies, other) != filters.Guard(s.e.opts.Policies, c.route)
}

// appendKept appends a canonical path whose encoded slashes and backslashes stay what they are where escapes are decoded once.
func appendKept(dst, path []byte) []byte {
	dst = appendReplaced(dst, path, "%2F", "%252F")
	if bytes.Contains(dst, []byte("%5C")) {
		dst = appendReplaced(nil, dst, "%5C", "%255C")
	}
	return dst
}

// appendReplaced appends a canonical path with text in the place of those of its escapes that are in escapes.
func appendReplaced(dst, path []byte, escapes, text string) []byte {
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) && strings.Contains(escapes, string(path[i:i+3])) {
			dst = append(dst, text...)
			i += 2
			continue
		}
		dst = append(dst, path[i])
	}
	return dst
}
