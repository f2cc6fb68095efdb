package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"
)

// selfSignedName is the subject of the certificate that NewStore makes.
const selfSignedName = "Podlane default certificate"

// selfSigned makes an ECDSA P-256 certificate that no client trusts, so that a client without a better answer sees a
// certificate error with a name to search for, and not a reset. Its key never leaves the process.
func selfSigned(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	template := &x509.Certificate{
		// x509 draws a random serial number where there is none.
		Subject:  pkix.Name{CommonName: selfSignedName, Organization: []string{"Podlane"}},
		DNSNames: []string{"podlane.invalid"}, // RFC 2606: never a real name
		// Clocks of clients differ; ten years are longer than any process lives.
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse what was just signed: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// usable returns pair with its Leaf set, or why no handshake can use it. Build checks key pairs too, but one that
// slipped through would fail every handshake of its hosts, where the last good one would not.
func usable(pair *tls.Certificate) (*tls.Certificate, error) {
	switch {
	case pair == nil:
		return nil, errors.New("no key pair")
	case len(pair.Certificate) == 0:
		return nil, errors.New("empty certificate chain")
	}
	if pair.Leaf == nil {
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			return nil, fmt.Errorf("parse leaf certificate: %w", err)
		}
		parsed := *pair // the caller's is immutable
		parsed.Leaf = leaf
		pair = &parsed
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("private key cannot sign")
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(pair.Leaf.PublicKey) {
		return nil, errors.New("private key does not belong to the certificate")
	}
	return pair, nil
}

// ellipticKey reports whether a handshake with pair signs with an elliptic curve.
func ellipticKey(pair *tls.Certificate) bool {
	switch pair.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}
