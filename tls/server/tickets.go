package server

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/router"
)

// The life of the random keys that hosts with a policy have while there are no shared ones: that of crypto/tls's own.
const (
	ticketKeyRotation = 24 * time.Hour
	ticketKeyCount    = 7
)

// A keyring knows the keys that those of session tickets are derived from. Keys of hosts that ask for certificates are never used by other hosts, or
// under another policy: a session says of its client what was found out under the policy of its handshake (nginx: CVE-2025-23419, Go: CVE-2025-68121).
type keyring struct {
	given *router.TicketKeys // of Options, may be nil
	live  atomic.Pointer[masterKeys]
	mu    sync.Mutex // serializes changes of live
}

// masterKeys are immutable; another pointer is other keys.
type masterKeys struct {
	// from are the shared keys, nil where keys are random.
	from *router.TicketKeys
	keys [][32]byte
	// stale is when another random key is due.
	stale time.Time
	// generation counts.
	generation uint64
}

// current returns the keys of now; shared are those of the live Table, nil for none. Shared keys that are gone stay in use: their Secret is broken,
// and who held a ticket should not pay for it.
func (k *keyring) current(shared *router.TicketKeys, now time.Time) *masterKeys {
	if m := k.live.Load(); m != nil && m.stands(k.wanted(m, shared), now) {
		return m
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.live.Load()
	from := k.wanted(old, shared)
	if old != nil && old.stands(from, now) {
		return old
	}
	m := &masterKeys{from: from, generation: 1}
	if old != nil {
		m.generation += old.generation
	}
	if from != nil {
		m.keys = from.Keys()
	} else {
		var fresh [32]byte
		_, _ = rand.Read(fresh[:]) // it never fails
		m.keys, m.stale = append(m.keys, fresh), now.Add(ticketKeyRotation)
		if old != nil {
			m.keys = append(m.keys, old.keys[:min(len(old.keys), ticketKeyCount-1)]...)
		}
	}
	k.live.Store(m)
	return m
}

// wanted returns the shared keys to use, nil for none. m, the keys until now, may be nil.
func (k *keyring) wanted(m *masterKeys, shared *router.TicketKeys) *router.TicketKeys {
	switch {
	case shared != nil:
		return shared
	case m != nil && m.from != nil:
		return m.from
	}
	return k.given
}

func (m *masterKeys) stands(from *router.TicketKeys, now time.Time) bool {
	return m.from == from && (from != nil || now.Before(m.stale))
}

// derive returns the keys for one purpose, in the same order.
func (m *masterKeys) derive(purpose string) ([][32]byte, error) {
	keys := make([][32]byte, len(m.keys))
	for i := range m.keys {
		key, err := hkdf.Key(sha256.New, m.keys[i][:], nil, purpose, len(keys[i]))
		if err != nil {
			return nil, fmt.Errorf("derive session ticket keys: %w", err)
		}
		copy(keys[i][:], key)
	}
	return keys, nil
}

// A keyedConfig is a tls.Config whose ticket keys follow a keyring.
type keyedConfig struct {
	*tls.Config
	purpose string
	applied atomic.Pointer[masterKeys]
	mu      sync.Mutex
}

// follow makes the ticket keys those of m.
func (c *keyedConfig) follow(m *masterKeys) error {
	if c.applied.Load() == m || c.SessionTicketsDisabled {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.applied.Load(); last != nil && last.generation >= m.generation {
		return nil // another handshake has seen newer ones
	}
	keys, err := m.derive(c.purpose)
	if err != nil {
		return err
	}
	c.SetSessionTicketKeys(keys)
	c.applied.Store(m)
	return nil
}
