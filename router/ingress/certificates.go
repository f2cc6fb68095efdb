package ingress

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router"
)

// This file decides between Ingresses whose certificate a host has.

// tlsClaim is a member of spec.tls that names a host.
type tlsClaim struct {
	*compiled
	entry *tlsEntry
}

// nameState is one host in spec.tls: everybody who names it, the oldest first, and who decides.
type nameState struct {
	claims []tlsClaim
	// winner is the member of spec.tls that decides. beside are members of the same Ingress whose certificates stand beside the winner's because
	// their keys are of other kinds: clients get the best that they can verify.
	winner tlsWinner
	beside []int
	// usable says that one of them has a key pair.
	usable bool
}

// tlsWinner is comparable: which member of which Ingress.
type tlsWinner struct {
	ingress types.NamespacedName
	entry   int
}

func (s *nameState) add(c tlsClaim) {
	i, _ := slices.BinarySearchFunc(s.claims, c, compareTLSClaims)
	s.claims = slices.Insert(s.claims, i, c)
}

func (s *nameState) remove(c *compiled) {
	s.claims = slices.DeleteFunc(s.claims, func(o tlsClaim) bool { return o.compiled == c })
}

// compareTLSClaims sorts those who list the host before those who only imply it, the oldest first.
func compareTLSClaims(a, b tlsClaim) int {
	if a.entry.implied != b.entry.implied {
		if b.entry.implied {
			return -1
		}
		return 1
	}
	return cmp.Or(a.age.compare(b.age), cmp.Compare(a.entry.index, b.entry.index))
}

// decide chooses the winner, given the namespace that owns the host, "" for none, and returns the Problems of the others.
// There is at least one claim.
func (s *nameState) decide(name, owner string) []Problem {
	winner := s.claims[0]
	if i := slices.IndexFunc(s.claims, func(c tlsClaim) bool { return c.object.Namespace == owner }); i >= 0 {
		winner = s.claims[i]
	}
	s.winner = tlsWinner{winner.age.name, winner.entry.index}
	s.usable = winner.entry.keyPair.pair != nil
	s.beside = nil
	served := []tlsClaim{winner}
	var problems []Problem
	for _, c := range s.claims {
		if slices.ContainsFunc(served, func(o tlsClaim) bool { return c == o || sameCertificate(c, o) }) {
			continue
		}
		if standsBeside(c, served) {
			served = append(served, c)
			s.beside = append(s.beside, c.entry.index)
			s.usable = s.usable || c.entry.keyPair.pair != nil
			continue
		}
		why := "which is " + olderText(winner.compiled, c.compiled)
		switch {
		case c.compiled == winner.compiled:
			why = fmt.Sprintf("spec.tls[%d]", winner.entry.index)
		case winner.object.Namespace == owner && c.object.Namespace != owner:
			why = "whose namespace owns the host"
		case c.entry.implied && !winner.entry.implied:
			why = "which lists the host in spec.tls"
		}
		problems = append(problems, Problem{
			Object: c.object, Field: fmt.Sprintf("spec.tls[%d]", c.entry.index), Reason: CertificateConflict, Effect: Ignored,
			Message: fmt.Sprintf("the certificate of %s is that of Ingress %s, %s", name, winner.name(), why),
		})
	}
	return problems
}

// serves says whether a member of an Ingress's spec.tls is one of those that the host's certificates come from.
func (s *nameState) serves(ingress types.NamespacedName, entry int) bool {
	return s.winner.ingress == ingress && (s.winner.entry == entry || slices.Contains(s.beside, entry))
}

// standsBeside says whether c's certificate stands beside those that are served: it is the same Ingress's, both list the host, and its
// key is of another kind. What kind a broken Secret is of nobody knows, so it keeps its place.
func standsBeside(c tlsClaim, served []tlsClaim) bool {
	if c.entry.implied || c.entry.secret == "" {
		return false
	}
	for _, o := range served {
		if c.compiled != o.compiled || o.entry.implied || o.entry.secret == "" {
			return false
		}
		if kind := keyKind(c.entry.keyPair); kind != x509.UnknownPublicKeyAlgorithm && kind == keyKind(o.entry.keyPair) {
			return false
		}
	}
	return true
}

// keyKind is the kind of a key pair's key.
func keyKind(k keyPair) x509.PublicKeyAlgorithm {
	if k.pair == nil {
		return x509.UnknownPublicKeyAlgorithm
	}
	return k.pair.Leaf.PublicKeyAlgorithm
}

// sameCertificate says whether it makes no difference which of two claims wins: the same Secret, or copies of it.
func sameCertificate(a, b tlsClaim) bool {
	if a.entry.secret == b.entry.secret && (a.entry.secret == "" || a.object.Namespace == b.object.Namespace) {
		return true
	}
	x, y := a.entry.keyPair.pair, b.entry.keyPair.pair
	return x != nil && y != nil && x.Leaf.Equal(y.Leaf)
}

// certificatesOf returns the Certificates that c's spec.tls comes to: for each member the hosts that it won. Equal ones of
// old are reused.
func (b *Builder) certificatesOf(c *compiled, old []*router.Certificate) []*router.Certificate {
	var certs []*router.Certificate
	for _, entry := range c.tls {
		if entry.secret == "" {
			continue
		}
		var hosts []string
		for _, host := range entry.hosts {
			if b.names[host].serves(c.age.name, entry.index) {
				hosts = append(hosts, host)
			}
		}
		slices.Sort(hosts)
		hosts = slices.Compact(hosts)
		// Without any host there is nothing to decide, unless the names are in a certificate that cannot be read now.
		if len(hosts) == 0 && (len(entry.hosts) > 0 || entry.keyPair.pair != nil || !entry.implied) {
			continue
		}
		cert := &router.Certificate{Hosts: hosts, Namespace: c.object.Namespace, Secret: entry.secret, Owner: c.name(), KeyPair: entry.keyPair.pair}
		if i := slices.IndexFunc(old, func(o *router.Certificate) bool { return equalCertificates(o, cert) }); i >= 0 {
			cert = old[i]
		}
		if !slices.ContainsFunc(certs, func(o *router.Certificate) bool { return equalCertificates(o, cert) }) {
			certs = append(certs, cert)
		}
	}
	return certs
}

// equalCertificates compares two Certificates; a key pair is the same only if the pointer is.
func equalCertificates(a, b *router.Certificate) bool {
	return a.Namespace == b.Namespace && a.Secret == b.Secret && a.Owner == b.Owner && a.KeyPair == b.KeyPair && slices.Equal(a.Hosts, b.Hosts)
}

// compareCertificates is the order of router.Table.Certificates.
func compareCertificates(a, b *router.Certificate) int {
	return cmp.Or(
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Secret, b.Secret),
		strings.Compare(a.Owner, b.Owner), slices.Compare(a.Hosts, b.Hosts),
	)
}
