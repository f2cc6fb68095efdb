package upstream

import (
	"net/netip"

	"podlane.dev/podlane/proxy/exchange"
)

// Key says what of a request the Hash algorithm hashes. A Key is part of a ViewSpec, so its dynamic type must be
// comparable; it is used concurrently and must neither keep nor change x. Every replica must compute the same number.
type Key interface {
	// Hash returns the request's hash; ok is false where the request lacks what is hashed: it is then balanced as by
	// RandomTwo.
	Hash(x *exchange.Exchange) (h uint64, ok bool)
}

// ClientAddr hashes the client's address, as the Service's sessionAffinity: ClientIP has it.
type ClientAddr struct{}

// Hash hashes x.Client.Addr.
func (ClientAddr) Hash(x *exchange.Exchange) (uint64, bool) {
	a := x.Client.Addr
	if !a.IsValid() {
		return 0, false
	}
	return hashAddr(a), true
}

// HashBytes is the hash of the package's own Keys: FNV-1a, mixed. It has no seed, so that all replicas agree; it does not
// resist a client who looks for collisions, who gains nothing but a Pod of their choice.
func HashBytes(b []byte) uint64 {
	h := uint64(fnvOffset)
	for _, c := range b {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return mix(h)
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// hashAddr gives an IPv4 address and its IPv4-mapped IPv6 form the same hash.
func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	return HashBytes(b[:])
}

// hashAddrPort is an Endpoint's seed in the Hash algorithm. It leaves out the Pod's UID: a Pod that follows another on
// the same address follows it in the order of preference too.
func hashAddrPort(a netip.AddrPort) uint64 {
	return mix(hashAddr(a.Addr()) + uint64(a.Port()))
}

// mix is the finalizer of splitmix64: every bit of h changes every bit of the result with probability near one half.
func mix(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}
