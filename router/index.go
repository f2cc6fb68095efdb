package router

import (
	"hash/maphash"
	"iter"
)

// hostIndex is an immutable hash table from names to hosts, cut into shards so that a change copies few entries. Shards are
// open-addressed slices rather than maps: at 100,000 hosts a lookup is paid in cache misses, and this takes half as many.
// The seed is random, so nobody can choose host names that collide.
type hostIndex struct {
	seed   maphash.Seed
	shards *[hostShards]hostShard // nil while empty
}

// hostShards is the number of shards: 6 KiB for the smallest Table, 200 hosts copied per changed one at 50,000.
const hostShards = 256

// hostShard is empty or has a power of two of slots, at least twice as many as hosts. A host is in the first free slot from
// the one that its hash names.
type hostShard []hostSlot

type hostSlot struct {
	hash uint64
	host *Host
}

// hostChange sets a name's host; nil removes it.
type hostChange struct {
	name string
	host *Host
}

func (x hostIndex) lookup(name string) *Host {
	if x.shards == nil {
		return nil
	}
	hash := maphash.String(x.seed, name)
	// The low bits chose the shard, the others the slot.
	return x.shards[hash%hostShards].lookup(hash, name)
}

func (s hostShard) lookup(hash uint64, name string) *Host {
	if len(s) == 0 {
		return nil
	}
	for i := s.first(hash); ; i++ {
		slot := &s[i&uint64(len(s)-1)]
		if slot.host == nil || slot.hash == hash && slot.host.key() == name {
			return slot.host
		}
	}
}

// first returns the slot that hash names.
func (s hostShard) first(hash uint64) uint64 { return hash / hostShards }

// insert puts a host that is not there into its slot; there must be room.
func (s hostShard) insert(slot hostSlot) {
	i := s.first(slot.hash)
	for s[i&uint64(len(s)-1)].host != nil {
		i++
	}
	s[i&uint64(len(s)-1)] = slot
}

// with returns the index after changes, of which later ones win, and by how many routes it grew.
func (x hostIndex) with(changes []hostChange) (_ hostIndex, grown int) {
	if len(changes) == 0 {
		return x, 0
	}
	next := hostIndex{seed: x.seed, shards: new([hostShards]hostShard)}
	if x.shards == nil {
		next.seed = maphash.MakeSeed()
	} else {
		*next.shards = *x.shards
	}
	var byShard [hostShards][]hostChange
	for _, c := range changes {
		i := maphash.String(next.seed, c.name) % hostShards
		byShard[i] = append(byShard[i], c)
	}
	for i, changes := range byShard {
		if len(changes) > 0 {
			var n int
			next.shards[i], n = next.shards[i].with(next.seed, changes)
			grown += n
		}
	}
	return next, grown
}

// with is hostIndex.with for one shard.
func (s hostShard) with(seed maphash.Seed, changes []hostChange) (_ hostShard, grown int) {
	set := make(map[string]*Host, len(changes))
	for _, c := range changes {
		set[c.name] = c.host
	}
	var slots []hostSlot
	for _, slot := range s {
		if slot.host == nil {
			continue
		}
		if _, changed := set[slot.host.key()]; changed {
			grown -= slot.host.len()
		} else {
			slots = append(slots, slot)
		}
	}
	for name, h := range set {
		if h != nil {
			grown += h.len()
			slots = append(slots, hostSlot{maphash.String(seed, name), h})
		}
	}
	if len(slots) == 0 {
		return nil, grown
	}
	size := 2
	for size < 2*len(slots) {
		size *= 2
	}
	next := make(hostShard, size)
	for _, slot := range slots {
		next.insert(slot)
	}
	return next, grown
}

// all yields every host, in no particular order.
func (x hostIndex) all() iter.Seq[*Host] {
	return func(yield func(*Host) bool) {
		if x.shards == nil {
			return
		}
		for _, shard := range x.shards {
			for _, slot := range shard {
				if slot.host != nil && !yield(slot.host) {
					return
				}
			}
		}
	}
}

// routesNotIn yields the routes that other does not have, and says whether to go on. Shards that both share are skipped.
func (x hostIndex) routesNotIn(other hostIndex, yield func(*Route) bool) bool {
	if x.shards == nil {
		return true
	}
	for i, shard := range x.shards {
		if len(shard) == 0 || other.shards != nil && len(other.shards[i]) > 0 && &shard[0] == &other.shards[i][0] {
			continue
		}
		for _, slot := range shard {
			if slot.host != nil && !hostRoutesNotIn(slot.host, other.lookup(slot.host.key()), yield) {
				return false
			}
		}
	}
	return true
}
