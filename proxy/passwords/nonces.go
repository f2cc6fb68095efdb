package passwords

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

// The bounds of nonces.
const (
	// nonceLife is how long a nonce is good for: after it the client gets another, without a question to its user.
	nonceLife = 5 * time.Minute
	// maxNonces is how many nonces are remembered that were used.
	maxNonces = 16_384
	// window is how far counts may come out of order, because browsers send requests over several connections.
	window = 64
)

// Nonces are what digest challenges ask clients to sign. It is safe for concurrent use; use NewNonces.
//
// A nonce says itself when it was made, under a code that only this process can make, so that challenges cost no memory. What is remembered is which counts of a
// nonce have been used, so that nobody who has seen a request can send it again.
type Nonces struct {
	key   []byte
	began time.Time

	mu   sync.Mutex
	last uint64
	used map[uint64]*counts // by the nonce's number
	// order are the numbers in used, the oldest first; forgotten is the highest that was given up before its time.
	order     []uint64
	forgotten uint64
}

// counts are the counts of one nonce: the highest, and a bit for each of the 64 before it that says whether it was used, the lowest for the one right
// before it.
type counts struct {
	highest uint32
	before  uint64
}

// nonceSize is that of the number of a nonce, of when it was made, and of the code of both.
const nonceSize = 8 + 8 + 16

// NewNonces returns Nonces of which none has been used.
func NewNonces(now time.Time) *Nonces {
	n := &Nonces{key: make([]byte, sha256.Size), began: now, used: map[uint64]*counts{}}
	_, _ = rand.Read(n.key) // never fails
	return n
}

// New returns a nonce.
func (n *Nonces) New(now time.Time) string {
	n.mu.Lock()
	n.last++
	number := n.last
	n.mu.Unlock()
	var b [nonceSize]byte
	binary.BigEndian.PutUint64(b[:], number)
	binary.BigEndian.PutUint64(b[8:], uint64(now.Sub(n.began)))
	copy(b[16:], n.code(b[:16]))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (n *Nonces) code(text []byte) []byte {
	m := hmac.New(sha256.New, n.key)
	_, _ = m.Write(text) // a hash takes everything
	return m.Sum(nil)
}

// use reports whether that count of a nonce may be used for q, and marks it as used unless q only peeks.
func (n *Nonces) use(nonce string, count uint32, q Asked) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(b) != nonceSize || !hmac.Equal(n.code(b[:16])[:16], b[16:]) {
		return false
	}
	number, made := binary.BigEndian.Uint64(b), time.Duration(binary.BigEndian.Uint64(b[8:]))
	if age := q.Now.Sub(n.began) - made; age > nonceLife {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.used[number]
	if c == nil {
		if number <= n.forgotten || count == 0 {
			return false
		}
		if q.Peek {
			return true
		}
		c = new(counts)
		n.remember(number, c)
	}
	if q.Peek {
		copied := *c
		return copied.take(count)
	}
	return c.take(count)
}

// remember adds a nonce. Where there are too many the one goes that was used first; no nonce as old as it can be used any more, because nobody knows which
// counts of it were.
func (n *Nonces) remember(number uint64, c *counts) {
	if len(n.order) >= maxNonces {
		n.forgotten = max(n.forgotten, n.order[0])
		delete(n.used, n.order[0])
		n.order = n.order[1:]
	}
	n.used[number] = c
	n.order = append(n.order, number)
}

// take marks a count as used, and reports whether it was not.
func (c *counts) take(count uint32) bool {
	switch {
	case count == 0:
		return false
	case count > c.highest:
		ahead := count - c.highest
		c.before <<= min(ahead, window)
		if c.highest > 0 && ahead <= window {
			c.before |= 1 << (ahead - 1)
		}
		c.highest = count
		return true
	}
	behind := c.highest - count
	if behind == 0 || behind > window || c.before&(1<<(behind-1)) != 0 {
		return false
	}
	c.before |= 1 << (behind - 1)
	return true
}
