package peers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"time"
)

// A Certificate is what every proxy shows: one of its own making, ECDSA with P-256, for Host.
type Certificate struct {
	// Chain and Key are its two parts in PEM.
	Chain, Key []byte
	// Leaf is the certificate itself, which a client has to trust.
	Leaf *x509.Certificate
}

// NewCertificate makes a certificate that is valid for a day.
func NewCertificate() (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	now := time.Now()
	from := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: Host}, DNSNames: []string{Host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, from, from, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &Certificate{
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), Leaf: leaf,
	}, nil
}

// The files that proxies read it from, below a Site's Dir.
const (
	chainFile = "tls.crt"
	keyFile   = "tls.key"
	bothFile  = "tls.pem"
)

// withCertificate adds the site's certificate to files, each where some proxy wants it.
func (s Site) withCertificate(files map[string]string) map[string]string {
	if s.Mode != Plain {
		files[chainFile], files[keyFile] = string(s.Certificate.Chain), string(s.Certificate.Key)
		files[bothFile] = string(bytes.Join([][]byte{s.Certificate.Chain, s.Certificate.Key}, nil))
	}
	return files
}

// file is the path of a file of the site.
func (s Site) file(name string) string { return filepath.Join(s.Dir, name) }
