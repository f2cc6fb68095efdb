package ingress

import (
	"cmp"
	"fmt"
	"strings"

	"podlane.dev/podlane/router"
)

// This file decides which clients a host admits. The annotations of the family router.ClientAuthFamily are for a whole host, because the
// handshake, in which a certificate is asked for, knows nothing of paths.

// clientAuth is what one Ingress asks of the clients of its hosts. It is immutable.
type clientAuth struct {
	// asked is the zero value where the annotations do not parse.
	asked router.ClientAuth
	// policy is nil where nothing is asked for, and where the Secret cannot be used.
	policy *router.TLSPolicy
	// denied is not empty where what is asked for cannot be had: the routes of the hosts are closed then.
	denied string
	// field is the annotation that speaks for the others.
	field string
}

// deniedBy returns why a's hosts are closed, "" if they are not. a may be nil.
func (a *clientAuth) deniedBy() string {
	if a == nil {
		return ""
	}
	return a.denied
}

// tlsPolicy returns what a asks of handshakes, nil for nothing. a may be nil.
func (a *clientAuth) tlsPolicy() *router.TLSPolicy {
	if a == nil {
		return nil
	}
	return a.policy
}

// admitsLike says whether a and b admit the same clients.
func (a *clientAuth) admitsLike(b *clientAuth) bool {
	return a.policy.Same(b.policy) && a.asked.MatchCN == b.asked.MatchCN
}

// clientAuth compiles the annotations; old is what they came to before, or nil.
func (c *compiler) clientAuth(old *clientAuth) {
	set := c.out.policies
	annotation := c.policies.firstOf(set, router.ClientAuthFamily)
	if annotation == "" {
		return
	}
	a := &clientAuth{field: annotationField(annotation)}
	c.out.auth = a
	var parsed bool
	if a.asked, parsed = set.value(router.ClientAuthFamily).(router.ClientAuth); !parsed {
		a.denied = router.ClientAuthFamily // the Problem is the parser's
		return
	}
	if a.asked.Verify == router.VerifyOff {
		return
	}
	by := c.clientAuthority(a)
	if by == nil {
		a.denied = router.ClientAuthFamily
		return
	}
	if old != nil && old.policy != nil && old.asked == a.asked && old.policy.Authority.Equal(by) {
		a.policy = old.policy
		return
	}
	a.policy = router.NewTLSPolicy(a.asked, c.out.name(), by)
}

// clientAuthority reads the Secret that a names, and returns nil where that is not possible.
func (c *compiler) clientAuthority(a *clientAuth) *router.Authority {
	p := Problem{Effect: RouteDenied}
	var found authority
	if name, ok := ownSecret(c.ingress.Namespace, a.asked.Secret); !ok {
		p.Reason, p.Message = SecretForbidden, fmt.Sprintf("%q is not a Secret of the Ingress's own namespace %q, and only those are read: copy it there", a.asked.Secret, c.ingress.Namespace)
	} else {
		c.out.secrets = append(c.out.secrets, name)
		var exists bool
		if found, exists = c.authority(name); !exists {
			p.Reason, p.Message = SecretMissing, fmt.Sprintf("there is no Secret %q in namespace %q", name.Name, name.Namespace)
		} else if found.err != nil {
			p.Reason, p.Message = SecretInvalid, fmt.Sprintf("Secret %q cannot be used to verify clients: %v", name.Name, found.err)
		}
	}
	if p.Reason != "" {
		c.out.unresolved = true
		p.Message += "; until then the hosts of this Ingress answer 503"
		c.report(a.field, p)
	}
	return found.authority
}

// hostAuth is which clients one host admits, and for whose routes that is not what they ask for.
type hostAuth struct {
	by     *compiled // the Ingress that decides, nil where nobody asks for anything
	policy *router.TLSPolicy
	denied string
	// refused are the Ingresses whose own demands differ: their routes are closed.
	refused map[*compiled]string
}

// decideAuth decides which clients the host admits: as the oldest Ingress that asks for something says, of those of the owner's namespace. The
// others have Problems: where theirs would be stricter, or of their own people, their routes are closed, because what they ask for
// cannot be had beside it.
func (s *hostState) decideAuth(name string) (hostAuth, []Problem) {
	var h hostAuth
	asking := 0
	for _, c := range s.claimants {
		if c.auth == nil {
			continue
		}
		asking++
		if h.by == nil && c.object.Namespace == s.owner() {
			h.by, h.policy, h.denied = c.compiled, c.auth.policy, c.auth.denied
		}
	}
	if asking == 0 {
		return h, nil
	}
	var problems []Problem
	for _, c := range s.claimants {
		if c.compiled == h.by {
			continue
		}
		p := Problem{Object: c.object, Reason: ClientAuthConflict, Effect: RouteDenied}
		if c.auth == nil {
			if h.denied != "" {
				p.Field, p.Message = "spec.rules", fmt.Sprintf("which clients %s admits is said by Ingress %s, where it cannot be used: until then the host answers 503", hostText(name), h.by.name())
				problems = append(problems, p)
			}
			continue
		}
		p.Field = c.auth.field
		if p.Effect, p.Message = h.compare(c.compiled, s.claimants[0].compiled); p.Message == "" {
			continue
		}
		p.Message = fmt.Sprintf("which clients %s admits is said by Ingress %s", hostText(name), p.Message)
		problems = append(problems, p)
		if p.Effect == RouteDenied {
			if h.refused == nil {
				h.refused = make(map[*compiled]string)
			}
			h.refused[c.compiled] = router.ClientAuthFamily
		}
	}
	return h, problems
}

// compare returns what becomes of the demands of c, which does not decide; "" is nothing to speak of. owner is the host's owner.
func (h *hostAuth) compare(c, owner *compiled) (Effect, string) {
	own := c.auth
	asksNothing := own.denied == "" && own.asked.Verify == router.VerifyOff
	switch {
	case h.by == nil && asksNothing:
		return "", ""
	case h.by == nil:
		return RouteDenied, fmt.Sprintf("%s, whose namespace owns the host, and it asks for no certificate: the routes of this Ingress answer 503", owner.name())
	case h.denied != "":
		return RouteDenied, fmt.Sprintf("%s, where it cannot be used: until then the host answers 503", h.by.name())
	case asksNothing && h.policy != nil:
		return Ignored, fmt.Sprintf("%s, which is %s, and holds here too", h.by.name(), olderText(h.by, c))
	case own.denied != "" || asksNothing:
		return "", "" // the Problem is told already, or both ask for nothing
	case !own.admitsLike(h.by.auth):
		return RouteDenied, fmt.Sprintf("%s in another way (%s): the routes of this Ingress answer 503; write the same, or use a host of its own", h.by.name(), h.by.auth.asked)
	}
	return Ignored, h.overridden(own)
}

// overridden says which of own's wishes that have nothing to do with who is admitted are not the host's.
func (h *hostAuth) overridden(own *clientAuth) string {
	var keys []string
	if own.asked.ErrorPage != h.by.auth.asked.ErrorPage {
		keys = append(keys, "auth-tls-error-page")
	}
	if own.asked.PassCertificate != h.by.auth.asked.PassCertificate {
		keys = append(keys, "auth-tls-pass-certificate-to-upstream")
	}
	if len(keys) == 0 {
		return ""
	}
	return fmt.Sprintf("%s, and so is %s", h.by.name(), strings.Join(keys, " and "))
}

// defaultState returns what the Route of winner's default backend has, where it is for all hosts.
func defaultState(winner *compiled, old *router.Route) routeState {
	return routeState{
		id:        router.RouteID{Namespace: winner.object.Namespace, Ingress: winner.object.Name},
		isDefault: true, tls: winner.auth.tlsPolicy(), ciphers: winner.ciphers, old: old,
		denied: cmp.Or(winner.policies.denied, winner.auth.deniedBy()),
	}
}
