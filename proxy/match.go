package proxy

import (
	"bytes"

	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
)

// match finds the chain for a validated request: that of its route, or the one that answers 404. ambiguous says that the path can
// be read in two ways that lead to routes with different security policies: such a request must be refused.
func (s *session) match() (c *chain, ambiguous bool) {
	x := s.x
	l := s.e.live.Load()
	s.generation = l.generation
	r, ok := l.table.Lookup(text(x.Request.Hostname), text(x.Request.Path))
	if !ok {
		return s.e.fallback, false
	}
	x.Route = r
	c = r.Attachment().(*chain)
	return c, bytes.IndexByte(x.Request.Path, '%') >= 0 && s.evades(c, l.table)
}

// evades reports whether a Pod that takes encoded slashes or backslashes for separators would read the path as one that another route,
// with other security policies, answers for. They are in the paths of honest applications (GitLab, npm scopes, RabbitMQ), so nothing else is
// wrong with them.
func (s *session) evades(c *chain, t *router.Table) bool {
	x := s.x
	at := len(x.Scratch)
	x.Scratch = appendSeparated(x.Scratch, x.Request.Path)
	read := x.Scratch[at:]
	if len(read) == len(x.Request.Path) {
		return false
	}
	read, _, err := router.CanonicalPath(nil, read)
	if err != nil {
		// It would climb above the root: nothing of ours is there.
		return false
	}
	other, ok := t.Lookup(text(x.Request.Hostname), text(read))
	return ok && other != c.route && filters.Guard(s.e.opts.Policies, other) != filters.Guard(s.e.opts.Policies, c.route)
}

// appendSeparated appends a canonical path with its encoded slashes and backslashes as slashes.
func appendSeparated(dst, path []byte) []byte {
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if e := text(path[i+1 : i+3]); e == "2F" || e == "5C" {
				dst = append(dst, '/')
				i += 2
				continue
			}
		}
		dst = append(dst, path[i])
	}
	return dst
}
