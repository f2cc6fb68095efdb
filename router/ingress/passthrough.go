package ingress

import (
	"fmt"
	"slices"

	"podlane.dev/podlane/router"
)

// This file decides which hosts pass their TLS through to their Pods. One annotation takes all connections of a host away from everyone else
// who has paths there, so only the namespace that owns the host may write it.

// passthrough remembers the annotation, for Problems.
func (c *compiler) passthrough() {
	if asked, _ := c.out.policies.value(router.PassthroughFamily).(router.Passthrough); !asked.On {
		return
	}
	c.out.passthrough = c.policies.firstOf(c.out.policies, router.PassthroughFamily)
	if len(c.ingress.Spec.Rules) == 0 {
		c.report(annotationField(c.out.passthrough), Problem{Reason: PassthroughRefused, Effect: Ignored, Message: "TLS ends here and does not pass through: there is no rule with a host"})
	}
}

// hostPassthrough is which route of one host passes TLS through: that of the path /, if its Ingress asks for it. The zero value is none.
type hostPassthrough struct {
	by    *compiled
	rank  rootRank
	value router.Passthrough
}

// rootRank is the order in which the routes of a host match the path /.
type rootRank uint8

const (
	noRoot rootRank = iota
	defaultRoot
	prefixRoot
	exactRoot
)

// rank returns the standing of a path as the one that matches /.
func (p checkedPath) rank() rootRank {
	switch {
	case p.canonical != "/":
		return noRoot
	case p.typ == router.Exact:
		return exactRoot
	}
	return prefixRoot
}

// of returns what a Route of c with the given rank says about the host's TLS.
func (h *hostPassthrough) of(c *compiled, rank rootRank) router.Passthrough {
	if c != h.by || rank != h.rank {
		return router.Passthrough{}
	}
	return h.value
}

// root returns the Ingress whose route matches the path /, nil for none.
func (s *hostState) root() (by *compiled, rank rootRank) {
	offer := func(c *compiled, r rootRank) {
		if r > rank { // the oldest of equals
			by, rank = c, r
		}
	}
	for _, c := range s.claimants {
		for i := range c.claims.paths {
			offer(c.compiled, c.claims.paths[i].path.rank())
		}
		if c.defaultBackend != nil {
			offer(c.compiled, defaultRoot)
		}
	}
	return by, rank
}

// decidePassthrough decides where the TLS of the host ends, and reports those who want it otherwise.
func (m *merger) decidePassthrough(s *hostState) {
	if !slices.ContainsFunc(s.claimants, func(c claimant) bool { return c.passthrough != "" }) {
		return
	}
	root, rank := s.root()
	for _, c := range s.claimants {
		if c.passthrough == "" {
			continue
		}
		why := m.refusesPassthrough(s, c.compiled, root)
		if why == "" {
			value, _ := c.policies.value(router.PassthroughFamily).(router.Passthrough)
			m.through = hostPassthrough{c.compiled, rank, value}
			continue
		}
		m.problems = append(m.problems, Problem{
			Object: c.object, Field: annotationField(c.passthrough), Reason: PassthroughRefused, Effect: Ignored,
			Message: "TLS ends here and does not pass through: " + why,
		})
	}
}

// refusesPassthrough says why TLS does not pass through as c asks, "" if it does.
func (m *merger) refusesPassthrough(s *hostState, c, root *compiled) string {
	switch {
	case m.name == "":
		return "a rule without a host has no server name by which clients could ask for it"
	case c.object.Namespace != s.owner():
		return fmt.Sprintf("%s belongs to Ingress %s, which is %s", hostText(m.name), s.claimants[0].name(), olderText(s.claimants[0].compiled, c))
	case m.auth.policy != nil || m.auth.denied != "":
		return fmt.Sprintf("Ingress %s has the clients of %s asked for certificates", m.auth.by.name(), hostText(m.name))
	case root == nil:
		return fmt.Sprintf("this Ingress has no path / on %s: write one with the Pods that have the certificate", hostText(m.name))
	case root != c:
		return fmt.Sprintf("the path / of %s is that of Ingress %s, and only it could pass all paths through", hostText(m.name), root.name())
	}
	return ""
}
