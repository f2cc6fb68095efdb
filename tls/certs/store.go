// Package certs owns the certificates that clients see: the map from server name to key pair, published as one
// immutable value behind one atomic pointer. It keeps a broken Secret's last good key pair for a while, makes the
// default certificate, and says what is served for which host. It reads no files and no Kubernetes objects, and does not
// handshake: tls/server does.
package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/router"
)

// DefaultKeepStale is how long the last good key pair of a missing or broken Secret is served where Options does not say.
const DefaultKeepStale = 24 * time.Hour

// ErrUnknownName is the error of GetCertificate for a server name that no certificate is published for, or a ClientHello
// without a name, where Options.RejectUnknown is set.
var ErrUnknownName = errors.New("no certificate for the server name")

// Options are the settings of a Store. The zero value is useful.
type Options struct {
	// Default is served where Publish gives no usable default certificate. nil makes NewStore sign one itself.
	Default *tls.Certificate
	// RejectUnknown refuses handshakes for names that no Ingress has a certificate for, where otherwise the default
	// certificate is served (ingress-nginx: ssl-reject-handshake). Hosts whose Secret is broken are known names.
	RejectUnknown bool
	// KeepStale is how long a key pair is served after its Secret broke or went away. 0 is DefaultKeepStale.
	KeepStale time.Duration
}

// A Store answers which certificate a client gets. Any number of handshakes may read it while Publish replaces its
// content: a handshake uses what was live when its ClientHello was complete, from beginning to end.
type Store struct {
	live          atomic.Pointer[snapshot]
	fallback      *tls.Certificate // of Options, or self-signed
	rejectUnknown atomic.Bool
	keepStale     time.Duration

	mu sync.Mutex // serializes Publish
}

// NewStore returns a Store that knows no name yet and serves the default certificate. It fails when Options.Default is
// unusable, or when no random numbers can be had to make one.
func NewStore(o Options) (*Store, error) {
	s := &Store{fallback: o.Default, keepStale: o.KeepStale}
	s.rejectUnknown.Store(o.RejectUnknown)
	if s.keepStale == 0 {
		s.keepStale = DefaultKeepStale
	}
	var err error
	if s.fallback == nil {
		s.fallback, err = selfSigned(time.Now())
	} else {
		s.fallback, err = usable(s.fallback)
	}
	if err != nil {
		return nil, fmt.Errorf("default certificate: %w", err)
	}
	s.Publish(nil, nil)
	return s, nil
}

// Publish makes certs and defaultCert what handshakes see from now on, in one store. A host belongs to the first
// certificate that lists it and to its Owner: other certificates of that Owner stand beside it (RSA and ECDSA), those of
// other Owners are shadowed. An exact host is never overridden by a wildcard, not even when its Secret is broken.
//
// A certificate without a usable KeyPair gets the one that the same Secret last had for the same host, until
// Options.KeepStale has passed since it was first missing; then its hosts get the default certificate. One whose KeyPair has
// expired, or is not valid yet, has the last good one beside it as long, and handshakes get the one that is valid. defaultCert
// serves all other names; it may be nil, and is kept in the same way.
//
// Publish keeps certs' elements, which must not change any more. It costs next to nothing where they and defaultCert are the
// same pointers as last time. It may be called concurrently; the last call wins.
func (s *Store) Publish(certs []*router.Certificate, defaultCert *router.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live.Load().isOf(certs, defaultCert) {
		return
	}
	s.live.Store(s.build(certs, defaultCert))
}

// GetCertificate is for tls.Config.GetCertificate. It looks hello's server name up in what is live now: exact, then
// wildcard for one label, whatever the case and with or without a final dot. It returns the default certificate or
// ErrUnknownName for other names. It allocates nothing for a known name with one certificate.
func (s *Store) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	snap := s.live.Load()
	if c := snap.lookup(hello.ServerName); c != nil {
		if pair := c.pick(hello); pair != nil {
			return pair, nil
		}
	} else if s.rejectUnknown.Load() {
		return nil, ErrUnknownName
	}
	if pair := snap.unnamed.pick(hello); pair != nil {
		return pair, nil
	}
	return s.fallback, nil
}

// Unknown is what becomes of handshakes for names that no Ingress has a certificate for.
type Unknown uint8

// The things that become of them: the default certificate is served, or they are refused.
const (
	ServeUnknown Unknown = iota
	RejectUnknown
)

// Treat changes what Options.RejectUnknown says, for handshakes from now on.
func (s *Store) Treat(u Unknown) { s.rejectUnknown.Store(u == RejectUnknown) }

// Refuses reports whether handshakes for a server name end with ErrUnknownName.
func (s *Store) Refuses(name string) bool {
	return s.rejectUnknown.Load() && s.live.Load().lookup(name) == nil
}

// snapshot is what one Publish made. It is immutable.
type snapshot struct {
	exact    map[string]*choice // by name
	wildcard map[string]*choice // by the name after "*."
	unnamed  *choice            // the operator's default certificate; may be empty
	bindings []*binding         // in the order of Publish, the default certificate first
	broken   bool               // a Secret is, so that another Publish of the same may forget its last good key pair
}

// isOf reports whether building from certs and defaultCert would give n again. n may be nil.
func (n *snapshot) isOf(certs []*router.Certificate, defaultCert *router.Certificate) bool {
	if n == nil || n.broken || len(n.bindings) != len(certs)+1 || n.bindings[0].cert != defaultCert {
		return false
	}
	for i, c := range certs {
		if n.bindings[i+1].cert != c {
			return false
		}
	}
	return true
}

// lookup returns the choice of a server name, or nil. The common case, a name as it was published, costs one map access.
func (n *snapshot) lookup(name string) *choice {
	if c := n.exact[name]; c != nil {
		return c
	}
	var space [maxName + 1]byte
	canonical, ok := appendCanonical(space[:0], name)
	if !ok {
		return nil
	}
	// The compiler does not copy the bytes for a map index.
	if c := n.exact[string(canonical)]; c != nil {
		return c
	}
	parent, ok := afterFirstLabel(canonical)
	if !ok {
		return nil
	}
	return n.wildcard[string(parent)]
}

// A choice is the certificates of one host, all of one Owner, in the caller's order.
type choice struct {
	owner      owner
	candidates []candidate
}

// owner is who decides about a host: an Ingress. The namespace is part of it because a Secret is only ever its own namespace's.
type owner struct{ namespace, ingress string }

// A candidate is one key pair that a host may be served with.
type candidate struct {
	of   *binding
	pair *tls.Certificate // nil where there never was a good one
	// notBefore and notAfter are the pair's.
	notBefore, notAfter time.Time

	since time.Time // when the Secret was first seen broken; zero while it is good
	until time.Time // when pair is not served any more; zero while the Secret is good
	cheap bool      // an elliptic key: a tenth of the server's work of an RSA key, for clients that can
}

// valid reports whether a client that looks at the time accepts the candidate at now. As in RFC 5280 section 4.1.2.5, the last second is valid.
func (c *candidate) valid(now time.Time) bool {
	return c.pair != nil && !now.Before(c.notBefore) && !now.After(c.notAfter)
}

// alive reports whether the candidate may be served at now.
func (c *candidate) alive(now time.Time) bool {
	return c.pair != nil && (c.until.IsZero() || now.Before(c.until))
}

// pick returns the best certificate for a client, or nil where none may be served.
func (c *choice) pick(hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(c.candidates) == 1 {
		if only := &c.candidates[0]; only.until.IsZero() || only.alive(time.Now()) {
			return only.pair
		}
		return nil
	}
	return c.pickAmong(hello)
}

// The weights of pickAmong: what a client can verify comes first, then what it will accept, then what is cheap.
const (
	supportedKey = 8
	validNow     = 4
	notStale     = 2
	cheapKey     = 1
)

// pickAmong chooses between several certificates of one host; the first of the best wins.
func (c *choice) pickAmong(hello *tls.ClientHelloInfo) *tls.Certificate {
	// SupportsCertificate also compares the names, but a certificate that does not name its host is its owner's decision;
	// here only the key counts.
	anonymous := *hello
	anonymous.ServerName = ""
	now := time.Now()
	var best *tls.Certificate
	bestRank := -1
	for i := range c.candidates {
		cand := &c.candidates[i]
		if !cand.alive(now) {
			continue
		}
		rank := 0
		if anonymous.SupportsCertificate(cand.pair) == nil {
			rank += supportedKey
		}
		if cand.valid(now) {
			rank += validNow
		}
		if cand.until.IsZero() {
			rank += notStale
		}
		if cand.cheap {
			rank += cheapKey
		}
		if rank > bestRank {
			best, bestRank = cand.pair, rank
		}
	}
	return best
}
