package router

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"slices"
	"strings"
)

// This file is which cipher suites a host offers to TLS clients where it does not offer what all hosts do. As what it asks of its clients, that is
// decided in the handshake, which knows the server name and nothing else: the values here only say so, tls/server obeys them.

// CiphersFamily is the name of the family of annotations whose parsed value is a CipherChoice. Build knows it, because it holds for a whole host.
const CiphersFamily = "ssl-ciphers"

// CipherChoice is what the annotations of one Ingress say about the cipher suites of its hosts. It is immutable; its zero value says nothing.
type CipherChoice struct {
	// Suites are those of TLS 1.2 and below that are offered, by crypto/tls's numbers.
	Suites []uint16
	// Unknown are the words that name no suite that could be offered.
	Unknown []string
}

// String returns the suites for the text of a Table.
func (c CipherChoice) String() string {
	if len(c.Suites) == 0 {
		return "those of all hosts"
	}
	return cipherNames(c.Suites)
}

// cipherNames returns the names of suites, by IANA, with spaces between them.
func cipherNames(suites []uint16) string {
	names := make([]string, len(suites))
	for i, s := range suites {
		names[i] = tls.CipherSuiteName(s)
	}
	return strings.Join(names, " ")
}

// TLSCiphersID identifies which suites are offered, across hosts, tables and replicas, whatever the order in which they are written. It is comparable.
type TLSCiphersID [sha256.Size]byte

// TLSCiphers are the cipher suites that a host offers. A host without, nil, offers those of the listener. It is immutable.
type TLSCiphers struct {
	// Suites are those of TLS 1.2 and below, by crypto/tls's numbers, in ascending order and each once; those of TLS 1.3 are offered in any case. There
	// is at least one.
	Suites []uint16
	// Owner is namespace/name of the Ingress that says so.
	Owner string

	id TLSCiphersID
	attachment
}

// NewTLSCiphers returns the ciphers of a host that owner, namespace/name of an Ingress, decides about. suites are not kept.
func NewTLSCiphers(suites []uint16, owner string) *TLSCiphers {
	c := &TLSCiphers{Suites: slices.Compact(slices.Sorted(slices.Values(suites))), Owner: owner}
	var text bytes.Buffer
	text.WriteString("podlane tls ciphers 1\x00")
	_ = binary.Write(&text, binary.BigEndian, c.Suites) // a Buffer never fails
	c.id = sha256.Sum256(text.Bytes())
	return c
}

// ID identifies what is offered.
func (c *TLSCiphers) ID() TLSCiphersID { return c.id }

// Same says whether handshakes under c and d offer the same. Both may be nil.
func (c *TLSCiphers) Same(d *TLSCiphers) bool {
	if c == nil || d == nil {
		return c == d
	}
	return c == d || c.id == d.id
}

// Admits says whether a handshake under c could have come to a version of TLS and a suite, by crypto/tls's numbers. c may be nil, which offers
// what is not known here, and so admits everything.
func (c *TLSCiphers) Admits(version, suite uint16) bool {
	return c == nil || version >= tls.VersionTLS13 || slices.Contains(c.Suites, suite)
}

// String returns the suites and who says so.
func (c *TLSCiphers) String() string { return cipherNames(c.Suites) + " of " + c.Owner }

// OpenSSLName returns OpenSSL's name of a cipher suite by IANA's, which is crypto/tls's: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is
// ECDHE-RSA-AES128-GCM-SHA256, CBC is not said, RSA key exchange neither, and ChaCha20-Poly1305's hash neither. Suites of TLS 1.3 have one name.
func OpenSSLName(iana string) string {
	exchange, cipher, found := strings.Cut(strings.TrimPrefix(iana, "TLS_"), "_WITH_")
	if !found {
		return iana
	}
	cipher = strings.NewReplacer("AES_128", "AES128", "AES_256", "AES256", "_CBC", "", "POLY1305_SHA256", "POLY1305").Replace(cipher)
	if exchange != "RSA" {
		cipher = exchange + "_" + cipher
	}
	return strings.ReplaceAll(cipher, "_", "-")
}
