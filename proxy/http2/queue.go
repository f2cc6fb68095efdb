package http2

// queue is the order in which streams with DATA get what they share: room in the buffer and the connection's window. Each takes one frame
// at a time and then stands at the end again, so that none starves.
type queue struct{ first, last *stream }

func (q *queue) push(s *stream) {
	s.send.queued, s.send.behind = true, nil
	if q.last == nil {
		q.first = s
	} else {
		q.last.send.behind = s
	}
	q.last = s
}

func (q *queue) remove(s *stream) {
	if !s.send.queued {
		return
	}
	s.send.queued = false
	var before *stream
	for at := q.first; at != s; at = at.send.behind {
		before = at
	}
	if before == nil {
		q.first = s.send.behind
	} else {
		before.send.behind = s.send.behind
	}
	if q.last == s {
		q.last = before
	}
	s.send.behind = nil
}

// bucketCount spreads streams, of which there are a hundred at most, over short chains.
const bucketCount = 16

// table finds the open streams of a connection by their number. It is no map, because a map keeps the memory of the most that it
// ever held.
type table struct {
	buckets [bucketCount]*stream
	len     int
}

func (t *table) bucket(id uint32) **stream { return &t.buckets[id>>1%bucketCount] }

func (t *table) find(id uint32) *stream {
	for s := *t.bucket(id); s != nil; s = s.next {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (t *table) add(s *stream) {
	b := t.bucket(s.id)
	s.next, *b = *b, s
	t.len++
}

func (t *table) remove(s *stream) {
	for b := t.bucket(s.id); *b != nil; b = &(*b).next {
		if *b == s {
			*b, s.next = s.next, nil
			t.len--
			return
		}
	}
}

// each calls f for every stream. f may remove it.
func (t *table) each(f func(*stream)) {
	for _, s := range t.buckets {
		for s != nil {
			next := s.next
			f(s)
			s = next
		}
	}
}

// recent remembers how the streams that were closed last have ended: frames of the peer for those that we have reset may still be under
// way and are ignored, frames for those that it has ended itself are errors.
type recent struct {
	ids [128]uint32 // number, and in the lowest bit whether we have reset it
	n   uint8
}

func (r *recent) add(id uint32, how closing) {
	r.ids[r.n%uint8(len(r.ids))] = id<<1 | uint32(how)
	r.n++
}

// closing is how a stream was closed.
type closing uint8

const (
	ended   closing = 0 // by both sides, or reset by the peer
	byReset closing = 1 // by our RST_STREAM
	unknown closing = 2
)

func (r *recent) how(id uint32) closing {
	for i := range r.ids { // not by value, which would copy all
		if v := r.ids[i]; v>>1 == id {
			return closing(v & 1)
		}
	}
	return unknown
}
