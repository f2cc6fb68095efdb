package router

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
)

// MaxTicketKeys is how many keys may be valid at a time: each ticket that is not ours is tried with all of them.
const MaxTicketKeys = 16

// TicketKeys are the keys of TLS session tickets that all replicas share: the first encrypts, all decrypt. It is immutable, and never prints
// what is in it.
type TicketKeys struct{ keys [][32]byte }

// Keys returns the keys. The caller must not change them.
func (k *TicketKeys) Keys() [][32]byte { return k.keys }

// Equal says whether k and other hold the same keys. Both may be nil.
func (k *TicketKeys) Equal(other *TicketKeys) bool {
	if k == nil || other == nil {
		return k == other
	}
	return slices.Equal(k.keys, other.keys)
}

// String says how many keys there are.
func (k *TicketKeys) String() string { return fmt.Sprintf("%d session ticket keys", len(k.keys)) }

// Format is String for every verb of fmt, so that none prints a key.
func (k *TicketKeys) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }

// ParseTicketKeys reads the keys of some texts, in order. Each is one key of 32, 48 or 80 random bytes (the latter two are nginx's), or
// lines of base64, each of which is one. A key that comes twice counts once. The error never holds what was read.
func ParseTicketKeys(texts ...[]byte) (*TicketKeys, error) {
	k := &TicketKeys{}
	for _, text := range texts {
		if isTicketKey(text) {
			k.add(text)
			continue
		}
		for line := range bytes.Lines(text) {
			line = bytes.TrimSpace(line)
			if len(line) == 0 {
				continue
			}
			key, err := base64.StdEncoding.AppendDecode(nil, line)
			if err != nil || !isTicketKey(key) {
				return nil, errors.New("a key is 32, 48 or 80 random bytes, or base64 of them on a line of its own, as `openssl rand -base64 32` writes it")
			}
			k.add(key)
		}
	}
	switch {
	case len(k.keys) == 0:
		return nil, errors.New("there is no key")
	case len(k.keys) > MaxTicketKeys:
		return nil, fmt.Errorf("there are %d keys, and at most %d are used", len(k.keys), MaxTicketKeys)
	}
	return k, nil
}

// isTicketKey says whether b has the length of a key.
func isTicketKey(b []byte) bool { return len(b) == 32 || len(b) == 48 || len(b) == 80 }

// add adds a key. Longer ones are hashed: keys of sessions are derived from what is here, so only that all of it counts matters.
func (k *TicketKeys) add(b []byte) {
	var key [32]byte
	if copy(key[:], b); len(b) > len(key) {
		key = sha256.Sum256(b)
	}
	if !slices.Contains(k.keys, key) {
		k.keys = append(k.keys, key)
	}
}
