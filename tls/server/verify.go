package server

import (
	"bytes"
	"crypto/x509"
	"errors"
	"time"

	"podlane.dev/podlane/router"
)

// A verifier judges the certificates of clients by one Authority. It is immutable and hangs from it, so that it is made once for each content
// of a Secret.
type verifier struct {
	// anchors end a chain, links are the other certificates of the Secret, and named are both: what clients are told to show.
	anchors, links, named *x509.CertPool
	bundle                []*x509.Certificate
	// lists is nil where the Secret has no revocation list.
	lists revocationLists
}

// verifierOf returns the verifier of a.
func verifierOf(a *router.Authority) *verifier {
	if v, ok := a.Attachment().(*verifier); ok {
		return v
	}
	v := newVerifier(a)
	a.Attach(v) // two at a time make two that are alike
	return v
}

func newVerifier(a *router.Authority) *verifier {
	v := &verifier{
		anchors: x509.NewCertPool(), links: x509.NewCertPool(), named: x509.NewCertPool(),
		bundle: a.Certificates, lists: newRevocationLists(a.CRLs),
	}
	for _, c := range a.Certificates {
		v.named.AddCert(c)
		if v.isAnchor(c) {
			v.anchors.AddCert(c)
		} else {
			v.links.AddCert(c)
		}
	}
	return v
}

// isAnchor says whether nobody else in the Secret has signed c. A chain that ended at another one would not be looked at above it, where it may
// have been revoked.
func (v *verifier) isAnchor(c *x509.Certificate) bool {
	if selfIssued(c) {
		return true
	}
	for _, issuer := range v.bundle {
		if bytes.Equal(issuer.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(issuer) == nil {
			return false
		}
	}
	return true
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// judgeAgain is how long a verdict stands that may change by the mere passing of time, such as that of a certificate that is not valid yet.
const judgeAgain = time.Minute

// judge returns what the chain that a client showed, its own certificate first, is worth at now, and until when that stands. depth is how many
// certificates may be between the client's and the anchor.
func (v *verifier) judge(shown []*x509.Certificate, depth int, now time.Time) (verdict router.Verdict, until time.Time) {
	until = now.Add(judgeAgain)
	if len(shown) == 0 {
		return router.Verdict{}, until
	}
	links := v.links
	if len(shown) > 1 {
		links = links.Clone()
		for _, c := range shown[1:] {
			links.AddCert(c)
		}
	}
	chains, err := shown[0].Verify(x509.VerifyOptions{
		Roots: v.anchors, Intermediates: links, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return v.failure(shown, now, err), until
	}
	verdict = failed("certificate chain too long")
	for _, chain := range chains {
		if len(chain)-2 > depth {
			continue
		}
		end, reason := v.lists.check(chain, now)
		if reason == "" {
			for _, c := range chain {
				if c.NotAfter.Before(end) {
					end = c.NotAfter
				}
			}
			return router.Verdict{Outcome: router.Verified}, end
		}
		verdict = failed(reason)
	}
	return verdict, until
}

func failed(reason string) router.Verdict {
	return router.Verdict{Outcome: router.Failed, Reason: reason}
}

// failure turns an error of Verify into OpenSSL's words, in which Pods know it.
func (v *verifier) failure(shown []*x509.Certificate, now time.Time, err error) router.Verdict {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return v.unknownAuthority(shown)
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok {
		if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
			return failed("unhandled critical extension")
		}
		return failed("unspecified certificate verification error")
	}
	switch invalid.Reason { //nolint:exhaustive // the others are rare, and told apart by nobody
	case x509.Expired:
		if invalid.Cert != nil && now.Before(invalid.Cert.NotBefore) {
			return failed("certificate is not yet valid")
		}
		return failed("certificate has expired")
	case x509.IncompatibleUsage:
		return failed("unsuitable certificate purpose")
	case x509.NotAuthorizedToSign:
		return failed("invalid CA certificate")
	case x509.TooManyIntermediates:
		return failed("path length constraint exceeded")
	case x509.CANotAuthorizedForThisName, x509.UnconstrainedName:
		return failed("permitted subtree violation")
	}
	return failed("unspecified certificate verification error")
}

// unknownAuthority tells a certificate that nobody known has signed from one that says that somebody known has, and lies.
func (v *verifier) unknownAuthority(shown []*x509.Certificate) router.Verdict {
	leaf, last := shown[0], shown[len(shown)-1]
	for _, issuer := range v.bundle {
		sameKey := len(leaf.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 || bytes.Equal(leaf.AuthorityKeyId, issuer.SubjectKeyId)
		if sameKey && !selfIssued(leaf) && bytes.Equal(issuer.RawSubject, leaf.RawIssuer) {
			return failed("certificate signature failure")
		}
	}
	reason := "unable to verify the first certificate"
	switch {
	case selfIssued(leaf):
		reason = "self-signed certificate"
	case selfIssued(last):
		reason = "self-signed certificate in certificate chain"
	}
	return router.Verdict{Outcome: router.Untrusted, Reason: reason}
}
