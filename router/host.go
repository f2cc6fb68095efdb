package router

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// This file is the index of one host's paths. Exact paths are in a map. Prefix paths are in a trie by path element, as
// net/http's routing tree: a request's path is cut once, each of its elements is compared once, and the deepest node that
// has a route wins. So the cost is the length of the path; neither the number of paths nor what they are adds to it.

// Host is the routes of one host, as a Table holds them. It is immutable and may be shared by any number of Tables.
type Host struct {
	name        string
	namePattern *regexp.Regexp // where the name is a regular expression
	exact       map[string]*Route
	root        node
	patterns    []*Route // in match order
	defaultPath *Route
	routes      []*Route // in match order, the default last
	tls         *TLSPolicy
	ciphers     *TLSCiphers
}

// node is one path element of the trie of Prefix routes.
type node struct {
	route *Route
	// few and many are the children: few while they are so few that comparing them is cheaper than hashing. The nodes lie
	// in the slice itself, so that a step of a lookup is one read from memory, not two.
	few  []edge
	many map[string]*node
}

type edge struct {
	element string
	node    node
}

// maxFew is how many children are compared one by one.
const maxFew = 8

// NewHost returns the index of routes, all of which belong to the host name as rules write it: lower-case, "*.suffix" for
// one label and suffix, "~" and a regular expression, which must compile, for host names that match it, "" for requests whose host no rule names. There may be no routes: the host is then known, and
// requests to it get the Table's catch-all.
//
// A Route is matched by its ID.Path in canonical form and its ID.Type, or by its Pattern; one with IsDefault matches what no other does. Of
// two that would match the same paths the first wins, and the other is left out; so is one whose path has no canonical
// form, because no request's path equals it.
func NewHost(name string, routes []*Route) *Host {
	h := &Host{name: name}
	if isHostPattern(name) {
		h.namePattern = regexp.MustCompile("(?i)" + name[1:]) // as nginx does where there is a capital letter
	}
	keyed := make([]keyedRoute, 0, len(routes))
	for _, r := range routes {
		if h.tls == nil {
			h.tls = r.TLS
		}
		if h.ciphers == nil {
			h.ciphers = r.Ciphers
		}
		if r.IsDefault {
			if h.defaultPath == nil {
				h.defaultPath = r
			}
			continue
		}
		if r.ID.Type == Regex {
			keyed = append(keyed, keyedRoute{r.Pattern.place(), r})
			continue
		}
		path, _, err := CanonicalPathString(r.ID.Path)
		if err == nil && h.insert(path, r) {
			keyed = append(keyed, keyedRoute{path, r})
		}
	}
	slices.SortFunc(keyed, compareMatchOrder)
	h.routes = make([]*Route, 0, len(keyed)+1)
	for _, k := range keyed {
		h.routes = append(h.routes, k.route)
		if k.route.ID.Type == Regex {
			h.patterns = append(h.patterns, k.route)
		}
	}
	if h.defaultPath != nil {
		h.routes = append(h.routes, h.defaultPath)
	}
	return h
}

// keyedRoute is a Route and its canonical path.
type keyedRoute struct {
	path  string
	route *Route
}

// compareMatchOrder sorts Exact before Regex and that before Prefix, and longer paths before shorter ones. Of patterns of one length that may match the
// same, the last by text comes first, as in ingress-nginx.
func compareMatchOrder(a, b keyedRoute) int {
	rank := [...]int{Exact: 0, Regex: 1, Prefix: 2}
	byText := strings.Compare(a.path, b.path)
	if a.route.ID.Type == Regex {
		byText = -byText
	}
	return cmp.Or(
		cmp.Compare(rank[a.route.ID.Type], rank[b.route.ID.Type]),
		cmp.Compare(len(b.path), len(a.path)),
		byText,
		cmp.Compare(len(b.route.ID.Path), len(a.route.ID.Path)),
	)
}

// insert adds r under its canonical path, and says whether there was room for it.
func (h *Host) insert(path string, r *Route) bool {
	if r.ID.Type == Exact {
		if h.exact[path] != nil {
			return false
		}
		if h.exact == nil {
			h.exact = make(map[string]*Route)
		}
		h.exact[path] = r
		return true
	}
	n := &h.root
	for element := range strings.SplitSeq(path[1:], "/") {
		// Only the last element can be empty: /foo and /foo/ are the same Prefix.
		if element != "" {
			n = n.addChild(element)
		}
	}
	if n.route != nil {
		return false
	}
	n.route = r
	return true
}

// addChild returns the child for element, and makes it where there is none. The children may move: pointers to those that
// an earlier call returned must not be written through any more.
func (n *node) addChild(element string) *node {
	if c := n.child(element); c != nil {
		return c
	}
	if n.many == nil && len(n.few) < maxFew {
		few := make([]edge, len(n.few)+1)
		copy(few, n.few)
		n.few = few
		last := &few[len(few)-1]
		last.element = element
		return &last.node
	}
	if n.many == nil {
		n.many = make(map[string]*node, 2*maxFew)
		for i := range n.few {
			n.many[n.few[i].element] = &n.few[i].node
		}
		n.few = nil
	}
	c := new(node)
	n.many[element] = c
	return c
}

// child returns the child for element, or nil.
func (n *node) child(element string) *node {
	for i := range n.few {
		if n.few[i].element == element {
			return &n.few[i].node
		}
	}
	return n.many[element]
}

// leaf says whether n has no children.
func (n *node) leaf() bool { return len(n.few) == 0 && n.many == nil }

// match returns the Route for the canonical path, which may be the host's default, or nil.
func (h *Host) match(path string, trace *Trace) *Route {
	if h.exact != nil {
		r := h.exact[path]
		if trace.visit(ExactPath, path, r); r != nil {
			return r
		}
	}
	if len(h.patterns) > 0 {
		if r := h.matchPattern(path, trace); r != nil {
			return r
		}
	}
	if r := h.matchPrefix(path, trace); r != nil {
		return r
	}
	if h.defaultPath != nil {
		trace.visit(HostDefault, h.name, h.defaultPath)
	}
	return h.defaultPath
}

// matchPattern returns the first route whose Pattern matches path, or nil.
func (h *Host) matchPattern(path string, trace *Trace) *Route {
	decoded := ""
	for _, r := range h.patterns {
		form := path
		if r.Pattern.nginx {
			if decoded == "" {
				decoded = decodedString(path)
			}
			form = decoded
		}
		trace.step()
		if r.Pattern.matches(form) {
			trace.visit(RegexPath, r.ID.Path, r)
			return r
		}
	}
	return nil
}

// matchPrefix returns the longest Prefix route that path lies under, or nil.
func (h *Host) matchPrefix(path string, trace *Trace) *Route {
	if path == "" || path[0] != '/' {
		return nil
	}
	n := &h.root
	best := n.route
	if best != nil {
		trace.visit(PrefixPath, "/", best)
	}
	for start := 1; start < len(path) && !n.leaf(); {
		end := start + strings.IndexByte(path[start:], '/')
		if end < start {
			end = len(path)
		}
		n = n.child(path[start:end])
		trace.step()
		if n == nil {
			break
		}
		if n.route != nil {
			best = n.route
			trace.visit(PrefixPath, path[:end], best)
		}
		start = end + 1
	}
	return best
}

// Name returns the host as rules write it: "*.suffix" for a wildcard, "" for rules without a host.
func (h *Host) Name() string { return h.name }

// TLS returns what the host asks of its clients, nil for nothing.
func (h *Host) TLS() *TLSPolicy { return h.tls }

// Ciphers returns the cipher suites that the host offers, nil for those of all hosts.
func (h *Host) Ciphers() *TLSCiphers { return h.ciphers }

// Routes returns the host's routes in the order in which they match: Exact before Prefix, longer paths first, the default
// last. The caller must not change the slice.
func (h *Host) Routes() []*Route { return h.routes }
