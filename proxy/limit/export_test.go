package limit

// Room is the number of buckets that the zone has memory for.
func (z *RateZone) Room() int {
	n := 0
	for i := range z.shards {
		n += cap(z.shards[i].buckets)
	}
	return n
}
