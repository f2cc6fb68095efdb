package router

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
)

// This file is what a host asks of the TLS connections that carry its requests: whether clients must show a certificate, and by whom
// it must be signed. The values here only say so; tls/server asks for certificates and judges them, and proxy/filters answers.

// ClientAuthFamily is the name of the family of annotations whose parsed value is a ClientAuth. Build knows it, because what it asks for
// begins before there is a request: in the handshake, for a whole host.
const ClientAuthFamily = "auth-tls"

// Verify says which clients a host admits, by what they show in the handshake. The words are those of nginx's ssl_verify_client.
type Verify uint8

// The kinds of verification.
const (
	// VerifyOff asks for no certificate.
	VerifyOff Verify = iota
	// VerifyOn admits clients with a certificate that verifies.
	VerifyOn
	// VerifyOptional also admits clients that show none.
	VerifyOptional
	// VerifyOptionalNoCA also admits certificates whose issuer is not known: the Pod is told, and decides.
	VerifyOptionalNoCA
)

// String returns the annotation's word for v.
func (v Verify) String() string {
	switch v {
	case VerifyOn:
		return "on"
	case VerifyOptional:
		return "optional"
	case VerifyOptionalNoCA:
		return "optional_no_ca"
	}
	return "off"
}

// Outcome is what became of verifying what a client showed.
type Outcome uint8

// The outcomes.
const (
	// NoCertificate was shown, or none was asked for.
	NoCertificate Outcome = iota
	// Verified: the certificate is good.
	Verified
	// Untrusted: nothing is wrong with it but that nobody known has signed it.
	Untrusted
	// Failed: it is expired, revoked, not for clients, or its chain is not good.
	Failed
)

// Verdict is how a client stands under a TLSPolicy. It is comparable.
type Verdict struct {
	Outcome Outcome
	// Reason says why the Outcome is Untrusted or Failed, in OpenSSL's words.
	Reason string
}

// String returns the verdict in the words of nginx's $ssl_client_verify: NONE, SUCCESS, or FAILED: and the reason.
func (v Verdict) String() string {
	switch v.Outcome {
	case NoCertificate:
		return "NONE"
	case Verified:
		return "SUCCESS"
	}
	return "FAILED:" + v.Reason
}

// Admits says whether v lets in a client with that verdict.
func (v Verify) Admits(o Outcome) bool {
	switch o {
	case Verified:
		return true
	case NoCertificate:
		return v != VerifyOn
	case Untrusted:
		return v == VerifyOff || v == VerifyOptionalNoCA
	}
	return v == VerifyOff
}

// ClientAuth is what the annotations of one Ingress say about the certificates of its clients. It is comparable; its zero value asks for
// nothing.
type ClientAuth struct {
	Verify Verify
	// Secret is namespace/name or name, as written, of the Secret with ca.crt and, optionally, ca.crl.
	Secret string
	// Depth is how many intermediate certificates may be between the client's and the one in the Secret.
	Depth int
	// MatchCN, where it is not empty, is a regular expression that begins with "CN=" and must match the name of the client.
	MatchCN string
	// ErrorPage, where it is not empty, is where clients are sent that are not admitted.
	ErrorPage string
	// PassCertificate hands the client's certificate to the Pod.
	PassCertificate bool
}

// String returns the value for the text of a Table.
func (a ClientAuth) String() string {
	if a.Verify == VerifyOff {
		return "off"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, by %s, depth %d", a.Verify, a.Secret, a.Depth)
	if a.MatchCN != "" {
		fmt.Fprintf(&b, ", only %q", a.MatchCN)
	}
	if a.ErrorPage != "" {
		fmt.Fprintf(&b, ", others to %s", a.ErrorPage)
	}
	if a.PassCertificate {
		b.WriteString(", handed on")
	}
	return b.String()
}

// Authority is the parsed content of a Secret with ca.crt and ca.crl: who signs the certificates of clients, and which of them were revoked.
// It is immutable.
type Authority struct {
	// Namespace and Secret name the Secret.
	Namespace, Secret string
	// Certificates are those of ca.crt, at least one.
	Certificates []*x509.Certificate
	// CRLs are those of ca.crl. Where there is one, there must be a current one of every issuer in a client's chain.
	CRLs []*x509.RevocationList

	digest [sha256.Size]byte
	attachment
}

// NewAuthority returns the Authority of a Secret. The caller must not change the slices any more.
func NewAuthority(namespace, secret string, certificates []*x509.Certificate, lists []*x509.RevocationList) *Authority {
	a := &Authority{Namespace: namespace, Secret: secret, Certificates: certificates, CRLs: lists}
	h := sha256.New()
	for _, c := range certificates {
		_ = binary.Write(h, binary.BigEndian, uint64(len(c.Raw))) // a hash never fails
		h.Write(c.Raw)
	}
	_ = binary.Write(h, binary.BigEndian, ^uint64(0))
	for _, l := range lists {
		_ = binary.Write(h, binary.BigEndian, uint64(len(l.Raw)))
		h.Write(l.Raw)
	}
	h.Sum(a.digest[:0])
	return a
}

// Equal says whether a and b are of the same Secret and have the same content.
func (a *Authority) Equal(b *Authority) bool {
	return a == b || a != nil && b != nil && a.Namespace == b.Namespace && a.Secret == b.Secret && a.digest == b.digest
}

// TLSPolicyID identifies what a handshake asks of a client, across hosts, tables and replicas: two policies with equal IDs ask for the same and
// judge alike. It is comparable.
type TLSPolicyID [sha256.Size]byte

// TLSPolicy is what a host asks of its clients. A host without one, nil, asks for nothing. It is immutable.
type TLSPolicy struct {
	// ClientAuth is what the Ingress says that decides for the host; Verify is not VerifyOff.
	ClientAuth
	// Owner is namespace/name of that Ingress.
	Owner string
	// Authority is the content of its Secret.
	Authority *Authority

	id TLSPolicyID
	attachment
}

// NewTLSPolicy returns the policy of a host that owner, namespace/name of an Ingress, decides about.
func NewTLSPolicy(a ClientAuth, owner string, by *Authority) *TLSPolicy {
	p := &TLSPolicy{ClientAuth: a, Owner: owner, Authority: by}
	var text bytes.Buffer
	text.WriteString("podlane tls policy 1\x00")
	text.WriteByte(byte(a.Verify))
	_ = binary.Write(&text, binary.BigEndian, int64(a.Depth)) // a Buffer never fails
	text.Write(by.digest[:])
	p.id = sha256.Sum256(text.Bytes())
	return p
}

// ID identifies what handshakes under p ask for. What only the chain looks at, such as MatchCN, is no part of it.
func (p *TLSPolicy) ID() TLSPolicyID { return p.id }

// Same says whether handshakes under p and q ask for the same. Both may be nil.
func (p *TLSPolicy) Same(q *TLSPolicy) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p == q || p.id == q.id
}

// attachment is where the packages that use an immutable value hang what they made of it, so that it lives as long.
type attachment struct{ made atomic.Pointer[any] }

// Attach stores what a user of the value made of it. It may be called concurrently; the last one stays.
func (a *attachment) Attach(made any) { a.made.Store(&made) }

// Attachment returns what Attach stored last, or nil.
func (a *attachment) Attachment() any {
	if made := a.made.Load(); made != nil {
		return *made
	}
	return nil
}
