package ingress_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// clientAuthFamily is the family of client certificates as Build sees it; proxy/filters has the real one.
func clientAuthFamily() policy.Family {
	return &policy.Of[router.ClientAuth]{
		Name: router.ClientAuthFamily, Doc: "Client certificates.", IfInvalid: policy.Deny,
		Keys: []policy.Key{
			{Name: "auth-tls-secret", Kind: policy.String, Doc: "The authority.", Example: "default/ca"},
			{Name: "auth-tls-verify-client", Kind: policy.String, Doc: "on or off.", Example: "on"},
			{Name: "auth-tls-match-cn", Kind: policy.String, Doc: "The name.", Example: "CN=a"},
			{Name: "auth-tls-error-page", Kind: policy.String, Doc: "The page.", Example: "https://a.example"},
		},
		Parse: func(v policy.Values) (router.ClientAuth, error) {
			a := router.ClientAuth{
				Verify: router.VerifyOn, Secret: v["auth-tls-secret"], Depth: 1,
				MatchCN: v["auth-tls-match-cn"], ErrorPage: v["auth-tls-error-page"],
			}
			switch v["auth-tls-verify-client"] {
			case "off":
				a.Verify = router.VerifyOff
			case "optional":
				a.Verify = router.VerifyOptional
			case "", "on":
			default:
				return a, &policy.ValueError{Key: "auth-tls-verify-client", Value: v["auth-tls-verify-client"], Want: `"on" or "off"`}
			}
			if a.Secret == "" && a.Verify != router.VerifyOff {
				return a, errors.New("auth-tls-secret is missing")
			}
			return a, nil
		},
	}
}

// authoritySecret makes a Secret with the certificate of an authority and, where the document says so, a revocation list.
func authoritySecret(tb testing.TB, doc []byte) *corev1.Secret {
	tb.Helper()
	var a struct {
		Metadata metav1.ObjectMeta
		Serial   int64
		// CRL is good, critical (with an extension that nobody understands), or text that is put there as it is.
		CRL *string
	}
	if err := yaml.Unmarshal(doc, &a); err != nil {
		tb.Fatal(err)
	}
	s := &corev1.Secret{ObjectMeta: a.Metadata, Data: map[string][]byte{}}
	cert, key := makeAuthority(tb, a.Serial)
	s.Data["ca.crt"] = cert
	if a.CRL != nil {
		s.Data["ca.crl"] = makeList(tb, cert, key, *a.CRL)
	}
	return s
}

// makeAuthority returns the certificate and key of an authority as PEM: the same ones for the same serial.
func makeAuthority(tb testing.TB, serial int64) (cert, key []byte) {
	tb.Helper()
	return remembered(fmt.Sprint("authority", serial), func() (cert, key []byte) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			tb.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial + 1), Subject: pkix.Name{CommonName: fmt.Sprint("authority ", serial)},
			NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
		if err != nil {
			tb.Fatal(err)
		}
		privateDER, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			tb.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER})
	})
}

func makeList(tb testing.TB, cert, key []byte, kind string) []byte {
	tb.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Unix(0, 0), NextUpdate: time.Unix(1<<33, 0)}
	switch kind {
	case "good":
	case "critical": // an issuing distribution point
		template.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
	default:
		return []byte(kind)
	}
	c, _ := pem.Decode(cert)
	k, _ := pem.Decode(key)
	issuer, err := x509.ParseCertificate(c.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.ParsePKCS8PrivateKey(k.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, issuer, private.(*ecdsa.PrivateKey))
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}
