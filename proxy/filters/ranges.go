package filters

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"podlane.dev/podlane/router/policy"
)

// ranges are sets of addresses, compiled so that a search takes the same few steps whatever was written. The zero value has none. An address of IPv4 that is
// written as one of IPv6 is that of IPv4, in ranges and in what is looked for; no other range of IPv6, not even ::/0, has addresses of IPv4, as in nginx.
type ranges struct {
	v4   []span4 // in ascending order, without overlaps
	v6   []span6
	text string
}

// span4 and span6 are addresses from the first to the last, both included.
type (
	span4 struct{ from, to uint32 }
	span6 struct{ from, to wide }
	wide  struct{ hi, lo uint64 }
)

func (a wide) atMost(b wide) bool { return a.hi < b.hi || a.hi == b.hi && a.lo <= b.lo }

func (a wide) compare(b wide) int { return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo)) }

// wantRanges is what to write for a list of ranges.
const wantRanges = `addresses and ranges with commas between them, as in "10.0.0.0/8, 2001:db8::/32, 192.0.2.7"`

// parseRanges reads a list of addresses and ranges.
func parseRanges(v policy.Values, key string) (ranges, error) {
	var prefixes []netip.Prefix
	for _, member := range v.List(key) {
		p, ok := parseRange(member)
		if !ok {
			return ranges{}, &policy.ValueError{Key: key, Value: member, Want: wantRanges}
		}
		prefixes = append(prefixes, p)
	}
	if len(prefixes) == 0 && v.Has(key) {
		return ranges{}, &policy.ValueError{Key: key, Value: v[key], Want: wantRanges}
	}
	return newRanges(prefixes), nil
}

// parseRange reads an address, or a range; what follows the range's part of the address counts as zero, as in nginx.
func parseRange(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a.Unmap().WithZone(""), a.Unmap().BitLen()), a.Zone() == ""
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	const mapped = 96 // bits before the address of IPv4 in one that is mapped
	if a := p.Addr(); a.Is4In6() && p.Bits() >= mapped {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-mapped)
	}
	return p.Masked(), true
}

func newRanges(prefixes []netip.Prefix) ranges {
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	prefixes = slices.Compact(prefixes)
	var r ranges
	for _, p := range prefixes {
		if p.Addr().Is4() {
			from := narrowOf(p.Addr())
			r.v4 = append(r.v4, span4{from, from | uint32(uint64(1)<<(32-p.Bits())-1)})
			continue
		}
		from := wideOf(p.Addr())
		to := from
		if p.Bits() < 64 {
			to = wide{from.hi | ^uint64(0)>>p.Bits(), ^uint64(0)}
		} else {
			to.lo |= ^uint64(0) >> (p.Bits() - 64)
		}
		r.v6 = append(r.v6, span6{from, to})
	}
	r.text = textOf(prefixes)
	r.merge()
	return r
}

// merge sorts the spans and joins those that overlap: two prefixes overlap only where one holds the other.
func (r *ranges) merge() {
	slices.SortFunc(r.v4, func(a, b span4) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	r.v4 = outermost(r.v4, func(a, b span4) bool { return b.to <= a.to })
	slices.SortFunc(r.v6, func(a, b span6) int { return cmp.Or(a.from.compare(b.from), b.to.compare(a.to)) })
	r.v6 = outermost(r.v6, func(a, b span6) bool { return b.to.atMost(a.to) })
}

// outermost keeps those of sorted spans that none before them holds.
func outermost[S any](spans []S, holds func(a, b S) bool) []S {
	kept := spans[:0]
	for _, s := range spans {
		if len(kept) == 0 || !holds(kept[len(kept)-1], s) {
			kept = append(kept, s)
		}
	}
	return kept
}

// textOf returns text that is equal for equal ranges, and short.
func textOf(prefixes []netip.Prefix) string {
	const most = 8
	var b strings.Builder
	for i, p := range prefixes {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.String())
	}
	if len(prefixes) <= most {
		return b.String()
	}
	return fmt.Sprintf("%d ranges (%x)", len(prefixes), sha256.Sum256([]byte(b.String())))
}

// String returns the ranges for the text of a Table.
func (r ranges) String() string { return r.text }

// empty reports whether r has no addresses.
func (r *ranges) empty() bool { return len(r.v4)+len(r.v6) == 0 }

// has reports whether an address is in r. Zones of addresses count for nothing.
func (r *ranges) has(a netip.Addr) bool {
	switch {
	case a.Is4() || a.Is4In6():
		return within4(r.v4, narrowOf(a))
	case a.IsValid():
		return within6(r.v6, wideOf(a))
	}
	return false
}

// within4 and within6 search by halves for the last span that begins at a or before it. They are written out, because a call for each step costs more
// than the step.
func within4(spans []span4, a uint32) bool {
	low, high := 0, len(spans)
	for low < high {
		if middle := int(uint(low+high) >> 1); spans[middle].from <= a {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low > 0 && a <= spans[low-1].to
}

func within6(spans []span6, a wide) bool {
	low, high := 0, len(spans)
	for low < high {
		if middle := int(uint(low+high) >> 1); spans[middle].from.atMost(a) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low > 0 && a.atMost(spans[low-1].to)
}

func narrowOf(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func wideOf(a netip.Addr) wide {
	b := a.As16()
	return wide{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}
