package passwords

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Result is what came of a check.
type Result uint8

// The results. Busy says that too many checks are under way to begin another.
const (
	Wrong Result = iota
	Right
	Busy
)

// The bounds of checks that are under way: so many may wait, so many of them for one client, for so long.
const (
	maxWaiting = 64
	maxOfOne   = 16
	patience   = 2 * time.Second
	// maxKnown is how many passwords are remembered to be right.
	maxKnown = 4096
)

// Verifier checks passwords. It is safe for concurrent use; use NewVerifier.
//
// A hash is made to be slow, and whoever sends passwords decides how many are checked: so only few checks run at once, a few more wait, and the rest are
// told that it is Busy. One client gets a part of the waiting places only, so that a flood of wrong passwords from one address leaves places for others.
// Who knows their password is checked once: that it is right is remembered, not the password but a code of it by a key that only this process has.
type Verifier struct {
	seed    maphash.Seed
	macs    sync.Pool // of *mac
	running chan struct{}
	checked atomic.Uint64

	queue   sync.Mutex // guards what follows
	waiting int
	waiters map[netip.Addr]int // those who wait, by client; it has maxWaiting entries at most

	mu    sync.RWMutex
	known map[code]struct{}
}

// code stands for a password that is right for a hash.
type code [sha256.Size]byte

// mac makes codes.
type mac struct {
	hash.Hash
	sum code
}

// NewVerifier returns a Verifier that checks at most so many passwords at once.
func NewVerifier(atOnce int) *Verifier {
	var key [sha256.Size]byte
	_, _ = rand.Read(key[:]) // never fails
	return &Verifier{
		seed: maphash.MakeSeed(), running: make(chan struct{}, max(atOnce, 1)), waiters: map[netip.Addr]int{}, known: map[code]struct{}{},
		macs: sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key[:])} }},
	}
}

// Checked is the number of hashes that were calculated.
func (v *Verifier) Checked() uint64 { return v.checked.Load() }

// Verify reports whether a user of f has that password, which a client sent. A user that is not there costs what one costs that is.
func (v *Verifier) Verify(f *File, client netip.Addr, user, password []byte) Result {
	e, there := f.users[string(user)]
	if !there {
		e = f.list[maphash.Bytes(v.seed, user)%uint64(len(f.list))]
	}
	if len(password) > maxPassword {
		return Wrong
	}
	c := v.codeOf(e, password)
	if v.knows(c) && there {
		return Right
	}
	if !e.cheap {
		if !v.enter(client) {
			return Busy
		}
		defer func() { <-v.running }()
		// A browser asks for all parts of a page at once: the first answer is that to the others, which waited.
		if there && v.knows(c) {
			return Right
		}
	}
	v.checked.Add(1)
	if !e.hash.MatchesPassword(string(password)) || !there {
		return Wrong
	}
	if !e.cheap {
		v.remember(c)
	}
	return Right
}

// codeOf returns the code of a password for a user's hash.
func (v *Verifier) codeOf(e *entry, password []byte) code {
	m := v.macs.Get().(*mac)
	m.Reset()
	_, _ = m.Write(e.label) // a hash takes everything
	_, _ = m.Write(password)
	m.Sum(m.sum[:0])
	c := m.sum
	v.macs.Put(m)
	return c
}

func (v *Verifier) knows(c code) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	_, ok := v.known[c]
	return ok
}

// remember adds a code, in the place of any other where there are too many: who owns that is checked again.
func (v *Verifier) remember(c code) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxKnown {
		for other := range v.known {
			delete(v.known, other)
			break
		}
	}
	v.known[c] = struct{}{}
}

// enter waits for its turn to check a password that client sent.
func (v *Verifier) enter(client netip.Addr) bool {
	select {
	case v.running <- struct{}{}:
		return true
	default:
	}
	client = network(client)
	if !v.line(client) {
		return false
	}
	defer v.leave(client)
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case v.running <- struct{}{}:
		return true
	case <-late.C:
		return false
	}
}

// line takes a waiting place.
func (v *Verifier) line(client netip.Addr) bool {
	v.queue.Lock()
	defer v.queue.Unlock()
	if v.waiting >= maxWaiting || v.waiters[client] >= maxOfOne {
		return false
	}
	v.waiting++
	v.waiters[client]++
	return true
}

// leave gives it back.
func (v *Verifier) leave(client netip.Addr) {
	v.queue.Lock()
	defer v.queue.Unlock()
	v.waiting--
	if v.waiters[client]--; v.waiters[client] == 0 {
		delete(v.waiters, client)
	}
}

// network returns what stands for a client: of IPv6 the first 64 bits, of which everyone has as many addresses as they like.
func network(client netip.Addr) netip.Addr {
	client = client.Unmap().WithZone("")
	if !client.Is6() {
		return client
	}
	prefix, err := client.Prefix(64)
	if err != nil {
		return client // it has 128 bits
	}
	return prefix.Addr()
}
