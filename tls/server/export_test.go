package server

import (
	"crypto/x509/pkix"
	"time"

	"podlane.dev/podlane/router"
)

// DistinguishedName is distinguishedName.
func DistinguishedName(der []byte, fallback pkix.Name) string {
	return distinguishedName(der, fallback)
}

// Keyring is a keyring.
type Keyring struct{ ring keyring }

// NewKeyring returns a keyring with the keys of Options.
func NewKeyring(given *router.TicketKeys) *Keyring { return &Keyring{keyring{given: given}} }

// Keys returns the keys of now.
func (k *Keyring) Keys(shared *router.TicketKeys) [][32]byte {
	return k.ring.current(shared, time.Now()).keys
}

// MaxShown is maxShown.
const MaxShown = maxShown
