package passwords

import (
	"encoding/binary"
	"time"
)

// The bounds, for tests.
const (
	MaxKnown  = maxKnown
	MaxOfOne  = maxOfOne
	MaxNonces = maxNonces
	NonceLife = nonceLife
)

// Remember adds the i-th of many codes.
func (v *Verifier) Remember(i int) {
	var c code
	binary.BigEndian.PutUint64(c[:], uint64(i))
	v.remember(c)
}

// Occupy takes the place of a check that runs, and returns what gives it back.
func (v *Verifier) Occupy() (release func()) {
	v.running <- struct{}{}
	return func() { <-v.running }
}

// Waiting is how many checks wait.
func (v *Verifier) Waiting() int {
	v.queue.Lock()
	defer v.queue.Unlock()
	return v.waiting
}

// Known is the number of passwords that are remembered.
func (v *Verifier) Known() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.known)
}

// Use is what Verify does with a nonce once the rest is right.
func Use(n *Nonces, nonce string, count uint32, now time.Time) bool {
	peek := n.use(nonce, count, Asked{Now: now, Peek: true})
	used := n.use(nonce, count, Asked{Now: now})
	if peek != used {
		panic("a peek says something else than a use")
	}
	return used
}
