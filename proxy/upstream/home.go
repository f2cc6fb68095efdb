package upstream

import (
	"crypto/sha256"
	"encoding/hex"

	"podlane.dev/podlane/router"
)

// This file is for clients that stay with an Endpoint: how one is named to them, and found again.

// Name returns a text that stands for e and no other Endpoint of its Pool, the same on all replicas. It may be shown to clients: it does not hold
// the address.
func (e *Endpoint) Name() string { return e.name }

// nameOf returns the Name of an address of p.
func nameOf(p router.ServicePort, a *router.Address) string {
	sum := sha256.Sum256([]byte(p.String() + " " + a.AddrPort.String() + " " + a.UID))
	return hex.EncodeToString(sum[:16])
}

// Out reports whether passive health keeps e from requests.
func (e *Endpoint) Out() bool { return e.ejected.Load() != 0 }

// Home returns the Endpoint that h belongs to by the Hash algorithm, whatever its health and load, or nil where the Pool is empty.
func (v *View) Home(h uint64) *Endpoint {
	v.turn.Add(1)
	return v.PeekHome(h)
}

// PeekHome is Home for who sends nothing there.
func (v *View) PeekHome(h uint64) *Endpoint {
	m := v.pool.members.Load()
	var best *Endpoint
	var high uint64
	for i, seed := range m.seeds {
		if s := mix(h ^ seed); best == nil || s > high {
			best, high = m.inUse[i], s
		}
	}
	return best
}

// Named returns the Endpoint of that Name, or nil where the Pool has it no more.
func (v *View) Named(name []byte) *Endpoint {
	v.turn.Add(1)
	return v.PeekNamed(name)
}

// PeekNamed is Named for who sends nothing there.
func (v *View) PeekNamed(name []byte) *Endpoint {
	for _, e := range v.pool.members.Load().inUse {
		if e.name == string(name) {
			return e
		}
	}
	return nil
}
