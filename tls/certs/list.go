package certs

import (
	"slices"
	"time"
)

// State says how a certificate stands.
type State string

// The states of a certificate.
const (
	// OK is served and has not expired.
	OK State = "ok"
	// Expired is served although its time is over: a client that looks is told the truth, and one that does not look works. Early is served
	// although its time has not begun. Where their Secret had one before that is valid, that is served, and listed as Stale too.
	Expired State = "expired"
	Early   State = "early"
	// Stale is the last good one of a Secret that is missing or broken, or whose certificate is Expired or Early; it is served until Info.Until.
	Stale State = "stale"
	// Default has no key pair that could be served: its hosts get the default certificate.
	Default State = "default"
	// Shadowed is not served: other owners decide about all of its hosts.
	Shadowed State = "shadowed"
)

// Info describes one certificate, without its key.
type Info struct {
	// Hosts are the names that it is served for, exact or with a leading "*." label, in the owner's order; empty for the
	// default certificate and for Shadowed ones.
	Hosts []string
	// Default marks the certificate of unknown names.
	Default bool
	// Namespace and Secret name the Secret; both are empty for the certificate that the Store was made with.
	Namespace, Secret string
	// Owner is namespace/name of the Ingress that decides, "" for the default certificate.
	Owner string
	// NotAfter is when it expires and Serial its serial number in hexadecimal; zero where there is no key pair.
	NotAfter time.Time
	Serial   string
	State    State
	// Since is when its Secret was first seen missing or broken, and Until when its last good key pair is not served any
	// more; zero where the Secret is good.
	Since, Until time.Time
}

// List returns what is live now: the default certificate first, then the others in the order of Publish. A certificate
// whose hosts are in different states is listed once for each. The result is the caller's.
func (s *Store) List() []Info {
	snap := s.live.Load()
	now := time.Now()
	infos := make([]Info, 0, len(snap.bindings))
	for i, bind := range snap.bindings {
		if i == 0 {
			infos = append(infos, s.defaultInfo(bind, now)...)
			continue
		}
		if len(bind.served) == 0 {
			info := bind.info()
			info.State = Shadowed
			infos = append(infos, info)
		}
		for j := range bind.served {
			infos = append(infos, bind.served[j].info(now))
		}
	}
	return infos
}

// Lookup returns the certificates that handshakes for a server name choose from, by what the client can verify: those of its host that may be served now,
// else the default one. It is empty where such handshakes are refused. The result is the caller's.
func (s *Store) Lookup(name string) []Info {
	if s.Refuses(name) {
		return nil
	}
	snap, now := s.live.Load(), time.Now()
	var infos []Info
	if c := snap.lookup(name); c != nil {
		for _, cand := range c.candidates {
			if cand.alive(now) {
				infos = append(infos, group{candidate: cand}.info(now))
			}
		}
	}
	if len(infos) > 0 {
		return infos
	}
	return s.defaultInfo(snap.bindings[0], now)
}

// defaultInfo describes the certificate of unknown names: the operator's, and the Store's own where that cannot be served.
func (s *Store) defaultInfo(bind *binding, now time.Time) []Info {
	var infos []Info
	for i := range bind.served {
		info := bind.served[i].info(now)
		info.Default = true
		infos = append(infos, info)
	}
	if len(infos) > 0 && infos[0].State != Default {
		return infos
	}
	own := candidateWith(&binding{pair: s.fallback}, s.fallback)
	info := group{candidate: own}.info(now)
	info.Default = true
	return append(infos, info)
}

// info describes g at now.
func (g group) info(now time.Time) Info {
	info := g.of.info()
	info.Hosts = slices.Clone(g.hosts)
	info.Since, info.Until = g.since, g.until
	info.NotAfter, info.Serial = time.Time{}, ""
	if g.pair != nil {
		info.NotAfter, info.Serial = g.notAfter, g.pair.Leaf.SerialNumber.Text(16)
	}
	switch {
	case !g.alive(now):
		info.State = Default
	case !g.until.IsZero():
		info.State = Stale
	case g.valid(now):
		info.State = OK
	case now.Before(g.notBefore):
		info.State = Early
	default:
		info.State = Expired
	}
	return info
}

// info describes what a binding is, without what it is served for.
func (b *binding) info() Info {
	var info Info
	if b.cert != nil {
		info.Namespace, info.Secret, info.Owner = b.cert.Namespace, b.cert.Secret, b.cert.Owner
	}
	if b.pair != nil {
		info.NotAfter, info.Serial = b.pair.Leaf.NotAfter, b.pair.Leaf.SerialNumber.Text(16)
	}
	return info
}
