package ingress

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"podlane.dev/podlane/router"
)

// The keys of a Secret with those who sign the certificates of clients, as ingress-nginx names them.
const (
	authorityKey  = "ca.crt"
	revocationKey = "ca.crl"
)

// authority is what a Secret parsed to as an authority, or why it is none.
type authority struct {
	authority *router.Authority
	err       error
}

// parseAuthority parses ca.crt and ca.crl. One block of them that does not parse spoils all: what would be missing may be what keeps somebody
// out. The error never holds data of the Secret.
func parseAuthority(s *corev1.Secret) authority {
	certificates, err := parseBlocks(s.Data[authorityKey], "CERTIFICATE", x509.ParseCertificate)
	if err == nil && len(certificates) == 0 {
		err = errors.New("there is no certificate")
	}
	if err != nil {
		return authority{err: fmt.Errorf("%s: %w", authorityKey, err)}
	}
	lists, err := parseBlocks(s.Data[revocationKey], "X509 CRL", parseRevocationList)
	if _, given := s.Data[revocationKey]; err == nil && given && len(lists) == 0 {
		// It was put there so that somebody is kept out.
		err = errors.New("there is no revocation list")
	}
	if err != nil {
		return authority{err: fmt.Errorf("%s: %w", revocationKey, err)}
	}
	return authority{authority: router.NewAuthority(s.Namespace, s.Name, certificates, lists)}
}

// parseBlocks parses the PEM blocks of one type; others are none of our business.
func parseBlocks[T any](text []byte, blockType string, parse func([]byte) (T, error)) ([]T, error) {
	var parsed []T
	begun := bytes.Count(text, []byte("-----BEGIN "))
	for n := 1; ; n++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			if n <= begun {
				return nil, errors.New("a PEM block is broken") // pem passes over it
			}
			return parsed, nil
		}
		if block.Type != blockType {
			continue
		}
		v, err := parse(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d does not parse: %w", n, err)
		}
		parsed = append(parsed, v)
	}
}

// parseRevocationList parses a list, and refuses one with a critical extension: it says that the list is not the whole truth about its issuer's
// certificates (RFC 5280 section 5.2: a delta, or a part), so what is not in it may be revoked.
func parseRevocationList(der []byte) (*x509.RevocationList, error) {
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	for _, e := range l.Extensions {
		if e.Critical {
			return nil, fmt.Errorf("the critical extension %s is not supported: give a complete list", e.Id)
		}
	}
	return l, nil
}
