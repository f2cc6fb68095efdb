package ingress

import (
	"fmt"

	"podlane.dev/podlane/router"
)

// This file joins canaries to the routes whose requests they share. An Ingress with canary: "true" has no routes of its own and owns no host.

// canaryClaim is one path of a canary.
type canaryClaim struct {
	by      *compiled
	claim   *pathClaim
	matched bool
}

// collectCanaries remembers the paths of the host's canaries, those of the oldest first.
func (m *merger) collectCanaries(s *hostState) {
	for _, c := range s.canaries {
		for i := range c.claims.paths {
			claim := &c.claims.paths[i]
			m.canaries[claim.path.key()] = append(m.canaries[claim.path.key()], &canaryClaim{by: c.compiled, claim: claim})
		}
	}
}

// canaryOf returns the canary of a claim, or nil: the first one that has the same path and type.
func (m *merger) canaryOf(claim *pathClaim) (*compiled, *router.Backend) {
	candidates := m.canaries[claim.path.key()]
	if len(candidates) == 0 || candidates[0].matched {
		return nil, nil
	}
	candidates[0].matched = true
	return candidates[0].by, &candidates[0].claim.backend
}

// tellCanaries reports the canaries that take nothing.
func (m *merger) tellCanaries() {
	for _, candidates := range m.canaries {
		for i, c := range candidates {
			if c.matched {
				continue
			}
			p := Problem{Reason: CanaryUnused, Effect: RouteDropped, Message: fmt.Sprintf("a canary shares the requests of a path that another Ingress has, and nobody has %s %s of %s", c.claim.path.typ, c.claim.path.written, hostText(m.name))}
			if i > 0 {
				p.Message = fmt.Sprintf("%s %s of %s has a canary already, Ingress %s: only the first one counts", c.claim.path.typ, c.claim.path.written, hostText(m.name), candidates[0].by.name())
			}
			m.report(c.by, pathField(c.claim.rule, c.claim.index), p)
		}
	}
}

// alternative returns what a Route says about its canary; old is what it said before, or nil.
func alternative(c *compiled, old *router.Alternative) *router.Alternative {
	if old != nil && old.UID == c.object.UID && old.Namespace == c.object.Namespace && old.Ingress == c.object.Name &&
		old.Canary == c.canary && sameValues(old.Policies, c.policies.values) {
		return old
	}
	return &router.Alternative{Canary: c.canary, Namespace: c.object.Namespace, Ingress: c.object.Name, UID: c.object.UID, Policies: c.policies.values}
}
