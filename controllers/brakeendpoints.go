package controllers

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"podlane.dev/podlane/router"
)

// This file follows the endpoints of Services for the brake. Each Service is told of by itself, so a step is what happens within a window, and
// what it took away before it was noticed is given back.

// brakedService is what the brake knows of a Service.
type brakedService struct {
	told  map[string][]router.Address // what the cluster said last
	ready int                         // how many of those are ready
	// lost are addresses that went without a word within the last window, or while a step is held; lostAt is when the last of them did.
	lost   map[string][]router.Address
	lostAt time.Time
	// fewerAt is when a loss left it fewer than it had: others took the places of those that were only replaced.
	fewerAt time.Time
}

// follow makes the brake know the Services that t has pools for.
func (b *brake) follow(t *router.Table) {
	used := map[router.Service]struct{}{}
	for port := range t.Ports() {
		used[port.Service()] = struct{}{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range used {
		if b.services[s] == nil {
			b.services[s] = &brakedService{}
		}
	}
	for s, k := range b.services {
		if _, ok := used[s]; ok {
			continue
		}
		// Nobody asks for it any more: that is no loss of endpoints.
		b.forgive(k.ready)
		b.ready -= k.ready
		delete(b.services, s)
	}
}

// forgive takes n endpoints out of those that there were. b.mu is held.
func (b *brake) forgive(n int) {
	b.earlier, b.lately = max(0, b.earlier-n), max(0, b.lately-n)
	if h := b.holds[BrakeEndpoints]; h != nil {
		h.step.Of = max(0, h.step.Of-n)
	}
}

// most returns the most ready endpoints that there were within the last window. b.mu is held.
func (b *brake) most() int {
	const half = brakeWindow / 2
	switch passed := time.Since(b.began); {
	case passed >= 2*half:
		b.earlier, b.lately, b.began = b.ready, b.ready, time.Now()
	case passed >= half:
		b.earlier, b.lately, b.began = b.lately, b.ready, b.began.Add(half)
	}
	return max(b.earlier, b.lately)
}

// addresses returns what to hand over of a Service for which the cluster says next: with the addresses that are gone, as long as a step is
// held, which held says. Calls for one Service come one after the other.
func (b *brake) addresses(s router.Service, next map[string][]router.Address) (hand map[string][]router.Address, held bool) {
	if b.options.Percent == 0 {
		return next, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.services[s]
	if k == nil {
		return next, false
	}
	before := b.most()
	if b.holds[BrakeEndpoints] == nil && time.Since(k.lostAt) > brakeWindow {
		k.lost = nil
	}
	gone, resting := k.follow(next)
	ready := countReady(next)
	fewer := gone > 0 && ready < k.ready
	b.ready += ready - k.ready
	k.told, k.ready = next, ready
	b.lately = max(b.lately, b.ready)
	b.forgive(resting)
	b.letGo(s, next)
	b.judge(s, loss{gone: gone, most: max(b.ready, before-resting)})
	if fewer && b.options.Hold > 0 {
		k.fewerAt = k.lostAt
		b.endpointStep.note()
		time.AfterFunc(brakeQuiet, func() { b.judged(s) })
	}
	if b.holds[BrakeEndpoints] == nil && !b.gathers(k) {
		return next, false
	}
	return k.withLost(), len(k.lost) > 0
}

// loss is what a Service lost just now, and the most ready endpoints that all had lately.
type loss struct{ gone, most int }

// judge begins a hold where what s lost is too much with what others did, and ends one where all is back. b.mu is held.
func (b *brake) judge(s router.Service, l loss) {
	switch hold := b.holds[BrakeEndpoints]; {
	case hold != nil && !b.misses():
		b.end(BrakeEndpoints, "they are back")
	case hold == nil && l.gone > 0 && b.tooMuch(l.most-b.ready, l.most):
		if b.begin(BrakeStep{Kind: BrakeEndpoints, Removed: l.most - b.ready, Of: l.most}) {
			b.restore(s)
		} else {
			b.earlier, b.lately = b.ready, b.ready
		}
	}
}

// misses says whether some endpoints are lost. Those that are back first must not end it for those that are about to be. b.mu is held.
func (b *brake) misses() bool {
	for _, k := range b.services {
		if len(k.lost) > 0 {
			return true
		}
	}
	return false
}

// gathers says whether what k lost may be part of a step of which more comes. b.mu is held.
func (b *brake) gathers(k *brakedService) bool {
	return b.options.Hold > 0 && b.endpointStep.left() > 0 && time.Since(k.fewerAt) < brakeGather
}

// judged has the addresses of a Service handed over once no more comes of the step in which it lost some: without those, unless the step is held.
func (b *brake) judged(s router.Service) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.services[s]
	if k == nil || k.lost == nil {
		return
	}
	if b.gathers(k) {
		time.AfterFunc(max(b.endpointStep.left(), time.Millisecond), func() { b.judged(s) })
		return
	}
	b.release(s)
}

// restore has the addresses of other Services that were lost in the same step handed over again. b.mu is held.
func (b *brake) restore(but router.Service) {
	for s, k := range b.services {
		switch {
		case s == but || k.lost == nil:
		case time.Since(k.lostAt) > brakeWindow:
			k.lost = nil
		default:
			b.release(s)
		}
	}
}

// letGo forgets lost addresses of other Services that s has now: the Pod behind such an address is another one. b.mu is held.
func (b *brake) letGo(s router.Service, next map[string][]router.Address) {
	if b.holds[BrakeEndpoints] == nil {
		return
	}
	taken := map[netip.Addr]struct{}{}
	for _, list := range next {
		for i := range list {
			taken[list[i].AddrPort.Addr()] = struct{}{}
		}
	}
	for other, k := range b.services {
		dropped := other != s && k.drop(func(_ string, a *router.Address) bool {
			_, ok := taken[a.AddrPort.Addr()]
			return ok
		})
		if dropped {
			b.release(other)
		}
	}
}

// follow makes k's lost addresses those that are lost once the cluster says next, and returns how many went without a word just now, and how many
// that were ready say that they are not.
func (k *brakedService) follow(next map[string][]router.Address) (gone, resting int) {
	k.drop(func(port string, lost *router.Address) bool { return findAddress(next[port], lost) != nil })
	for port, list := range k.told {
		for i := range list {
			if !list[i].Ready {
				continue
			}
			switch still := findAddress(next[port], &list[i]); {
			case still == nil:
				gone++
				if k.lost == nil {
					k.lost = map[string][]router.Address{}
				}
				k.lost[port], k.lostAt = append(k.lost[port], list[i]), time.Now()
			case !still.Ready:
				resting++
			}
		}
	}
	return gone, resting
}

// drop forgets lost addresses, and says whether there were any to forget.
func (k *brakedService) drop(which func(port string, lost *router.Address) bool) bool {
	dropped := false
	for port, list := range k.lost {
		left := slices.DeleteFunc(slices.Clone(list), func(a router.Address) bool { return which(port, &a) })
		dropped = dropped || len(left) < len(list)
		if k.lost[port] = left; len(left) == 0 {
			delete(k.lost, port)
		}
	}
	return dropped
}

// withLost returns what the cluster said, and what is lost.
func (k *brakedService) withLost() map[string][]router.Address {
	if len(k.lost) == 0 {
		return k.told
	}
	all := maps.Clone(k.told)
	if all == nil {
		all = map[string][]router.Address{}
	}
	for port, lost := range k.lost {
		all[port] = slices.SortedFunc(slices.Values(slices.Concat(all[port], lost)), compareAddresses)
	}
	return all
}

// findAddress returns the endpoint of a sorted list that is a, or nil.
func findAddress(sorted []router.Address, a *router.Address) *router.Address {
	i, found := slices.BinarySearchFunc(sorted, *a, compareAddresses)
	if !found {
		return nil
	}
	return &sorted[i]
}

// compareAddresses is the order of an AddressFunc.
func compareAddresses(a, b router.Address) int {
	return cmp.Or(a.AddrPort.Compare(b.AddrPort), strings.Compare(a.UID, b.UID))
}

// countReady returns how many of a Service's addresses are ready.
func countReady(byPort map[string][]router.Address) int {
	n := 0
	for _, list := range byPort {
		for i := range list {
			if list[i].Ready {
				n++
			}
		}
	}
	return n
}
