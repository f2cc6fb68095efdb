package upstream

// maxTried is more than any request may try; what is added beyond is counted but not remembered.
const maxTried = 16

// Tried is the set of Endpoints that one request has tried. The zero value is empty and ready; it is used by one
// goroutine and never allocates.
type Tried struct {
	n    int
	list [maxTried]*Endpoint
}

// Add puts e into the set.
func (t *Tried) Add(e *Endpoint) {
	if t.n < maxTried {
		t.list[t.n] = e
	}
	t.n++
}

// Has reports whether e was added. A nil set is empty.
func (t *Tried) Has(e *Endpoint) bool {
	if t == nil {
		return false
	}
	for i := range min(t.n, maxTried) {
		if t.list[i] == e {
			return true
		}
	}
	return false
}

// Len is the number of additions.
func (t *Tried) Len() int {
	if t == nil {
		return 0
	}
	return t.n
}

// Reset empties the set.
func (t *Tried) Reset() {
	clear(t.list[:min(t.n, maxTried)])
	t.n = 0
}
