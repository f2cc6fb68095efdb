package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/router"
)

// an identity is a certificate and its key.
type identity struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

var serial atomic.Int64

// issue makes an identity that issuer signs, or itself where issuer is nil. change may alter what is signed.
func issue(t testing.TB, issuer *identity, name string, change func(*x509.Certificate)) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{cert, key}
}

// authority makes template one that may sign.
func authority(template *x509.Certificate) {
	template.IsCA, template.KeyUsage, template.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
}

// pair returns what a client shows: i, and then links.
func (i *identity) pair(links ...*identity) tls.Certificate {
	pair := tls.Certificate{Certificate: [][]byte{i.Raw}, PrivateKey: i.key}
	for _, l := range links {
		pair.Certificate = append(pair.Certificate, l.Raw)
	}
	return pair
}

// revoke returns a list of issuer with the given certificates. change may alter what is signed.
func revoke(t testing.TB, issuer *identity, change func(*x509.RevocationList), revoked ...*identity) *x509.RevocationList {
	t.Helper()
	template := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(30 * time.Minute),
	}
	for _, r := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, issuer.Certificate, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// trust returns the Authority of certificates.
func trust(lists []*x509.RevocationList, bundle ...*identity) *router.Authority {
	var certificates []*x509.Certificate
	for _, i := range bundle {
		certificates = append(certificates, i.Certificate)
	}
	return router.NewAuthority("default", "ca", certificates, lists)
}

// policyOf returns a policy with depth 1.
func policyOf(v router.Verify, by *router.Authority) *router.TLSPolicy {
	return router.NewTLSPolicy(router.ClientAuth{Verify: v, Secret: "ca", Depth: 1}, "default/web", by)
}

// tableWith returns a function that returns a Table whose hosts have the given policies, for Options.Table.
func tableWith(keys *router.TicketKeys, hosts map[string]*router.TLSPolicy) func() *router.Table {
	var change router.Change
	for name, p := range hosts {
		r := &router.Route{ID: router.RouteID{Namespace: "default", Ingress: "web", Host: name, Path: "/"}, TLS: p}
		change.Hosts = append(change.Hosts, router.NewHost(name, []*router.Route{r}))
	}
	change.TicketKeys = keys
	table := new(router.Table).With(change)
	return func() *router.Table { return table }
}
