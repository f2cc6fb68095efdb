// Package limit counts what keys ask for: how many requests in what time (RateZone, nginx's limit_req) and how many at once (ConnectionZone,
// nginx's limit_conn). It owns the counts, which belong to an Ingress and not to a Table, so that a Publish loses none, and bounds their memory. It must
// not know what a key stands for, read the clock, or answer anything.
package limit

import (
	"hash/maphash"
	"sync"
	"time"
)

// DefaultKeys is how many keys a RateZone remembers unless NewZones says otherwise: as many addresses as nginx keeps in the 5 MiB that ingress-nginx gives
// a zone, and in about as much memory.
const DefaultKeys = 40_000

// Keep is how long Sweep leaves a zone that nobody holds: an Ingress that is deleted and made again finds its counts.
const Keep = 10 * time.Minute

// ID names a zone: one limit of one Ingress, for all of its paths. It is comparable.
type ID struct {
	// Namespace and Ingress name the Ingress.
	Namespace, Ingress string
	// Name tells the limits of an Ingress apart, such as "limit-rps" and "limit-rpm".
	Name string
}

// Zones are the zones of a process. It is safe for concurrent use; use NewZones.
type Zones struct {
	seeds   [2]maphash.Seed
	maxKeys int

	mu          sync.Mutex
	rates       map[ID]*RateZone
	connections map[ID]*ConnectionZone
}

// NewZones returns no zones yet. maxKeys is how many keys each RateZone will remember; 0 is DefaultKeys.
func NewZones(maxKeys int) *Zones {
	if maxKeys <= 0 {
		maxKeys = DefaultKeys
	}
	return &Zones{
		// Who does not know the seeds cannot choose two keys that are counted as one.
		seeds:       [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		maxKeys:     maxKeys,
		rates:       map[ID]*RateZone{},
		connections: map[ID]*ConnectionZone{},
	}
}

// Rate returns the zone of that ID, with r from now on: a new one, or the one that is there, with its counts. Whoever calls it calls Release
// when they need the zone no more.
func (z *Zones) Rate(id ID, r Rate) *RateZone {
	z.mu.Lock()
	defer z.mu.Unlock()
	zone := z.rates[id]
	if zone == nil {
		zone = newRateZone(z)
		z.rates[id] = zone
	}
	zone.hold.take()
	zone.Configure(r)
	return zone
}

// Connections is Rate for a limit of requests at once.
func (z *Zones) Connections(id ID, limit int) *ConnectionZone {
	z.mu.Lock()
	defer z.mu.Unlock()
	zone := z.connections[id]
	if zone == nil {
		zone = newConnectionZone(z)
		z.connections[id] = zone
	}
	zone.hold.take()
	zone.Configure(limit)
	return zone
}

// Sweep gives back the memory of keys that need none, and forgets zones that nobody has held for Keep. now is on the clock of RateZone.Take. It is
// called every few seconds, by one goroutine at a time.
func (z *Zones) Sweep(now int64) {
	z.mu.Lock()
	rates := make([]*RateZone, 0, len(z.rates))
	for id, zone := range z.rates {
		if zone.hold.over(now) {
			delete(z.rates, id)
			continue
		}
		rates = append(rates, zone)
	}
	connections := make([]*ConnectionZone, 0, len(z.connections))
	for id, zone := range z.connections {
		// One that counts requests under way must be found again, or they would not be counted.
		if zone.hold.over(now) && zone.Len() == 0 {
			delete(z.connections, id)
			continue
		}
		connections = append(connections, zone)
	}
	z.mu.Unlock()
	// Not under the lock: a Publish must not wait for all zones.
	for _, zone := range rates {
		zone.sweep(now)
	}
	for _, zone := range connections {
		zone.sweep()
	}
}

// Len is the number of zones.
func (z *Zones) Len() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.rates) + len(z.connections)
}

// hold counts those who hold a zone. The mutex of Zones guards it.
type hold struct {
	holders int
	free    bool  // Sweep has found no holder
	since   int64 // when it did first
}

func (h *hold) take() {
	h.holders++
	h.free = false
}

func (h *hold) give() {
	h.holders = max(0, h.holders-1)
}

// over reports whether nobody has held the zone for Keep. It begins to count at the first call that finds no holder.
func (h *hold) over(now int64) bool {
	switch {
	case h.holders > 0:
		return false
	case !h.free:
		h.free, h.since = true, now
		return false
	}
	return now-h.since >= int64(Keep)
}

// digest is what a zone remembers of a key: 128 bits of two hashes.
type digest [2]uint64

func (z *Zones) digest(key []byte) digest {
	return digest{maphash.Bytes(z.seeds[0], key), maphash.Bytes(z.seeds[1], key)}
}

// The shards of a zone: requests that are served at the same time seldom wait for the same lock.
const (
	shardCount = 16
	// minSharded is how many keys a zone must be able to hold to be split: with less, shards would fill unevenly.
	minSharded = 1024
)

// shard is the index of a key's shard among count, which is a power of two.
func (d digest) shard(count int) int { return int(d[0] & uint64(count-1)) }
