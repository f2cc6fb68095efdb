package ingress

import (
	"fmt"
	"strings"

	"podlane.dev/podlane/router"
)

// This file decides which cipher suites a host offers. The annotation of the family router.CiphersFamily is for a whole host, because the handshake
// knows nothing of paths.

// ciphers compiles the annotation; old is what it came to before, or nil. Words that name nothing that could be offered cost the others nothing, as in
// OpenSSL: what is left is never more than what was asked for.
func (c *compiler) ciphers(old *router.TLSCiphers) {
	choice, _ := c.out.policies.value(router.CiphersFamily).(router.CipherChoice)
	if len(choice.Suites) == 0 {
		return
	}
	c.out.ciphers = router.NewTLSCiphers(choice.Suites, c.out.name())
	c.out.ciphersField = annotationField(c.policies.firstOf(c.out.policies, router.CiphersFamily))
	if old.Same(c.out.ciphers) {
		c.out.ciphers = old
	}
	if len(choice.Unknown) > 0 {
		c.report(c.out.ciphersField, Problem{
			Reason: CiphersUnknown, Effect: Ignored,
			Message: fmt.Sprintf("Go's TLS has no %.200q: hosts offer the others (%s)", strings.Join(choice.Unknown, ":"), choice),
		})
	}
}

// decideCiphers decides which ciphers the host offers: as the oldest Ingress of the owner's namespace that chooses some says. The others
// are told, where they choose other ones.
func (m *merger) decideCiphers(s *hostState) {
	var by *compiled
	for _, c := range s.claimants {
		if c.ciphers != nil && c.object.Namespace == s.owner() {
			by, m.ciphers = c.compiled, c.ciphers
			break
		}
	}
	for _, c := range s.claimants {
		if c.ciphers == nil || c.ciphers.Same(m.ciphers) {
			continue
		}
		message := fmt.Sprintf("which ciphers %s offers is said by Ingress ", hostText(m.name))
		if by != nil {
			message += fmt.Sprintf("%s, which is %s: %s", by.name(), olderText(by, c.compiled), router.CipherChoice{Suites: by.ciphers.Suites})
		} else {
			message += fmt.Sprintf("%s, whose namespace owns the host, and it chooses none: it offers what all hosts do", s.claimants[0].name())
		}
		m.problems = append(m.problems, Problem{Object: c.object, Field: c.ciphersField, Reason: CiphersConflict, Effect: Ignored, Message: message})
	}
}
