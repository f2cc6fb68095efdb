package server

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"sync"
	"time"
)

// revocationLists are the lists of one Secret by the subject of their issuer, the newest first. nil is no list at all, where nobody is revoked;
// where there is one, whoever has no list cannot vouch for anybody, as with nginx's ssl_crl.
type revocationLists map[string][]*revocationList

// A revocationList is one list, indexed.
type revocationList struct {
	*x509.RevocationList
	revoked map[string]struct{} // the bytes of serial numbers
	// genuine says, by the hash of an issuer's certificate, whether its key has signed the list. There are as many of them as authorities that
	// the anchors have made.
	genuine sync.Map
}

// maxValidity stands for the end of what has none.
const maxValidity = 100 * 365 * 24 * time.Hour

func newRevocationLists(lists []*x509.RevocationList) revocationLists {
	if len(lists) == 0 {
		return nil
	}
	byIssuer := make(revocationLists)
	for _, l := range lists {
		indexed := &revocationList{RevocationList: l, revoked: make(map[string]struct{}, len(l.RevokedCertificateEntries))}
		for i := range l.RevokedCertificateEntries {
			indexed.revoked[string(l.RevokedCertificateEntries[i].SerialNumber.Bytes())] = struct{}{}
		}
		byIssuer[string(l.RawIssuer)] = append(byIssuer[string(l.RawIssuer)], indexed)
	}
	for _, same := range byIssuer {
		slices.SortStableFunc(same, func(a, b *revocationList) int { return b.ThisUpdate.Compare(a.ThisUpdate) })
	}
	return byIssuer
}

// check returns why a verified chain is not good at now, "" if it is, and until when that stands.
func (l revocationLists) check(chain []*x509.Certificate, now time.Time) (end time.Time, reason string) {
	end = now.Add(maxValidity)
	if l == nil {
		return end, ""
	}
	for i, c := range chain {
		issuer := c
		if i+1 < len(chain) {
			issuer = chain[i+1]
		} else if !selfIssued(c) {
			break // an anchor whose issuer is nobody that we know
		}
		list := l.of(issuer)
		switch {
		case list == nil:
			return end, "unable to get certificate CRL"
		case now.Before(list.ThisUpdate):
			return end, "CRL is not yet valid"
		case !list.NextUpdate.IsZero() && now.After(list.NextUpdate):
			return end, "CRL has expired"
		}
		if _, revoked := list.revoked[string(c.SerialNumber.Bytes())]; revoked {
			return end, "certificate revoked"
		}
		if !list.NextUpdate.IsZero() && list.NextUpdate.Before(end) {
			end = list.NextUpdate
		}
	}
	return end, ""
}

// of returns the newest list that issuer has signed, or nil.
func (l revocationLists) of(issuer *x509.Certificate) *revocationList {
	for _, list := range l[string(issuer.RawSubject)] {
		if list.signedBy(issuer) {
			return list
		}
	}
	return nil
}

// signedBy says whether issuer has signed the list; a list can be long, so that is found out once.
func (l *revocationList) signedBy(issuer *x509.Certificate) bool {
	key := sha256.Sum256(issuer.Raw)
	if known, ok := l.genuine.Load(key); ok {
		return known.(bool)
	}
	is := l.CheckSignatureFrom(issuer) == nil
	l.genuine.Store(key, is)
	return is
}
