package limit

import (
	"sync"
	"sync/atomic"
)

// ConnectionZone counts the requests of each key that are under way. It is safe for concurrent use. It holds a number for each key that has a request
// under way and nothing for others, so its memory is bounded by the number of requests that the process serves at once, and nothing is
// ever evicted: a count that was lost would let through more than the limit, and one that was refused would lock out a client that has done nothing.
type ConnectionZone struct {
	zones  *Zones
	hold   hold
	limit  atomic.Int64
	shards [shardCount]counts
}

// counts are a part of a zone's keys.
type counts struct {
	mu sync.Mutex
	of map[digest]int64

	_ [64]byte // the next lock lies in another cache line
}

func newConnectionZone(z *Zones) *ConnectionZone { return &ConnectionZone{zones: z} }

// Configure makes limit the number of requests of a key that may be under way at once; 0 is no limit. Those that are under way stay counted.
func (z *ConnectionZone) Configure(limit int) { z.limit.Store(int64(limit)) }

// Release says that the caller of Zones.Connections needs the zone no more. It may still be used by requests under way.
func (z *ConnectionZone) Release() {
	z.zones.mu.Lock()
	defer z.zones.mu.Unlock()
	z.hold.give()
}

// Acquire counts a request of key and reports whether it may pass; if so, the Slot is released at the request's end. An empty key is neither
// counted nor limited, as in nginx. It does not keep key.
func (z *ConnectionZone) Acquire(key []byte) (Slot, bool) {
	if len(key) == 0 {
		return Slot{}, true
	}
	d := z.zones.digest(key)
	c := &z.shards[d.shard(shardCount)]
	// Requests are counted without a limit too: there may be one before they end.
	limit := z.limit.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of[d]
	if limit > 0 && n >= limit {
		return Slot{}, false
	}
	if c.of == nil {
		c.of = map[digest]int64{}
	}
	c.of[d] = n + 1
	return Slot{z, d}, true
}

// Check reports what Acquire would, and counts nothing.
func (z *ConnectionZone) Check(key []byte) bool {
	if len(key) == 0 {
		return true
	}
	d := z.zones.digest(key)
	c := &z.shards[d.shard(shardCount)]
	limit := z.limit.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	return limit <= 0 || c.of[d] < limit
}

// Count is the number of places that are taken under key, at this moment.
func (z *ConnectionZone) Count(key []byte) int {
	if len(key) == 0 {
		return 0
	}
	d := z.zones.digest(key)
	c := &z.shards[d.shard(shardCount)]
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.of[d])
}

// Len is the number of keys with requests under way.
func (z *ConnectionZone) Len() int {
	n := 0
	for i := range z.shards {
		c := &z.shards[i]
		c.mu.Lock()
		n += len(c.of)
		c.mu.Unlock()
	}
	return n
}

// sweep gives back the memory of maps that hold nothing: a map keeps that of its largest size.
func (z *ConnectionZone) sweep() {
	for i := range z.shards {
		c := &z.shards[i]
		c.mu.Lock()
		if len(c.of) == 0 {
			c.of = nil
		}
		c.mu.Unlock()
	}
}

// Slot is the place of one request among those of its key. The zero Slot is none. Copies are the same place: one of them is released.
type Slot struct {
	zone *ConnectionZone
	of   digest
}

// Release gives the place back. A second call on the same Slot does nothing.
func (s *Slot) Release() {
	if s.zone == nil {
		return
	}
	c := &s.zone.shards[s.of.shard(shardCount)]
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.of[s.of]; n > 1 {
		c.of[s.of] = n - 1
	} else {
		delete(c.of, s.of)
	}
	s.zone = nil
}
