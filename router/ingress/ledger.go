package ingress

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// ledger holds the Problems by what found them, and lists them sorted. Only what changed is sorted again: ten thousand
// Ingresses with three unknown annotations each must not cost every Build.
type ledger struct {
	chunks map[chunk][]Problem
	// byObject are the Problems of one object; order is the objects that have any, but for those in added, sorted.
	byObject     map[Object]*objectProblems
	order, added []*objectProblems
	// list is what all returned last; it is stale if dirty.
	list  []Problem
	dirty bool
}

// chunk is one source of Problems: an Ingress by itself, a host, a host's certificate, or the operator's options.
type chunk struct {
	kind            chunkKind
	namespace, name string
}

type chunkKind uint8

const (
	ingressChunk chunkKind = iota
	hostChunk
	aliasChunk
	certificateChunk
	defaultChunk
	optionChunk
)

// objectProblems is one object's share: which chunks it is in, and its Problems sorted, unless stale.
type objectProblems struct {
	object Object
	chunks []chunk
	sorted []Problem
	stale  bool
}

func newLedger() *ledger {
	return &ledger{chunks: make(map[chunk][]Problem), byObject: make(map[Object]*objectProblems)}
}

// set replaces what a chunk found. It sorts problems in place and keeps the slice.
func (l *ledger) set(c chunk, problems []Problem) {
	for i := range problems {
		problems[i].Message = bounded(problems[i].Message)
	}
	slices.SortFunc(problems, compareProblems)
	old := l.chunks[c]
	if slices.Equal(old, problems) {
		return
	}
	l.dirty = true
	for object := range objectsOf(old) {
		o := l.byObject[object]
		o.stale = true
		o.chunks = slices.DeleteFunc(o.chunks, func(d chunk) bool { return d == c })
	}
	if len(problems) == 0 {
		delete(l.chunks, c)
	} else {
		l.chunks[c] = problems
	}
	for object := range objectsOf(problems) {
		o := l.byObject[object]
		if o == nil {
			o = &objectProblems{object: object}
			l.byObject[object] = o
			l.added = append(l.added, o)
		}
		o.stale = true
		o.chunks = append(o.chunks, c)
	}
}

// maxMessage is how long a Problem's Message may be, in bytes. Messages quote what users wrote, which may be 256 KiB.
const maxMessage = 1000

// bounded cuts what is too long out of the middle of a message: it ends with what becomes of the object.
func bounded(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	const cut = "…"
	end := message[len(message)-maxMessage/4:]
	return strings.ToValidUTF8(message[:maxMessage-len(end)-len(cut)], "") + cut + strings.ToValidUTF8(end, "")
}

// objectsOf yields the objects of sorted Problems, once each.
func objectsOf(sorted []Problem) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for i, p := range sorted {
			if (i == 0 || sorted[i-1].Object != p.Object) && !yield(p.Object) {
				return
			}
		}
	}
}

// all returns every Problem, sorted and without duplicates. The slice stays as it is, whatever happens to the ledger.
func (l *ledger) all() []Problem {
	if !l.dirty {
		return l.list
	}
	l.dirty = false
	l.sortOrder()
	list := make([]Problem, 0, len(l.list)+16)
	for _, o := range l.order {
		if o.stale {
			o.stale, o.sorted = false, l.gather(o.object, o.chunks)
		}
		list = append(list, o.sorted...)
	}
	if l.list = nil; len(list) > 0 {
		l.list = slices.Clip(list)
	}
	return l.list
}

// sortOrder takes objects without Problems out of the order, and new ones in.
func (l *ledger) sortOrder() {
	gone := func(o *objectProblems) bool {
		if len(o.chunks) > 0 {
			return false
		}
		delete(l.byObject, o.object)
		return true
	}
	l.order = slices.DeleteFunc(l.order, gone)
	l.added = slices.DeleteFunc(l.added, gone)
	compare := func(a, b *objectProblems) int { return compareObjects(a.object, b.object) }
	if len(l.added) > fewObjects {
		l.order = append(l.order, l.added...)
		slices.SortFunc(l.order, compare)
	} else {
		for _, o := range l.added {
			i, _ := slices.BinarySearchFunc(l.order, o, compare)
			l.order = slices.Insert(l.order, i, o)
		}
	}
	l.added = nil
}

// fewObjects is how many objects are put into their places one by one; more are appended and sorted.
const fewObjects = 16

// gather returns one object's Problems out of its chunks, sorted.
func (l *ledger) gather(object Object, chunks []chunk) []Problem {
	var problems []Problem
	for _, c := range chunks {
		sorted := l.chunks[c]
		i, _ := slices.BinarySearchFunc(sorted, object, func(p Problem, object Object) int { return compareObjects(p.Object, object) })
		for ; i < len(sorted) && sorted[i].Object == object; i++ {
			problems = append(problems, sorted[i])
		}
	}
	slices.SortFunc(problems, compareProblems)
	return slices.Clip(slices.Compact(problems))
}

// compareObjects sorts by kind, namespace, name and UID.
func compareObjects(a, b Object) int {
	return cmp.Or(
		strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name), strings.Compare(a.UID, b.UID),
	)
}

// compareProblems sorts the Problems of a list: by object, field, reason, effect and message.
func compareProblems(a, b Problem) int {
	return cmp.Or(
		compareObjects(a.Object, b.Object), compareFields(a.Field, b.Field), strings.Compare(string(a.Reason), string(b.Reason)),
		strings.Compare(string(a.Effect), string(b.Effect)), strings.Compare(a.Message, b.Message), strings.Compare(a.Source, b.Source),
	)
}

// compareFields sorts fields as people count: paths[2] before paths[10].
func compareFields(a, b string) int {
	for a != "" && b != "" {
		numberA, numberB := leadingDigits(a), leadingDigits(b)
		if numberA == "" || numberB == "" {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		if c := cmp.Or(cmp.Compare(len(numberA), len(numberB)), strings.Compare(numberA, numberB)); c != 0 {
			return c
		}
		a, b = a[len(numberA):], b[len(numberB):]
	}
	return cmp.Compare(len(a), len(b))
}

// leadingDigits returns the number at the head of s.
func leadingDigits(s string) string {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return s[:n]
}
