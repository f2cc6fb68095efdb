package ingress

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// memory holds the objects of one kind as they were in the last Snapshot, and finds out what is different in the next.
// Informers hand out the same pointer for an object that did not change, so pointers are compared first; where they
// differ, content decides, because files are parsed anew and because our own status writes make new objects.
type memory[T any] struct {
	name func(*T) types.NamespacedName
	// before orders objects of one name, of which a Snapshot should have one only: the first is used.
	before func(a, b *T) int
	// same says whether two versions of an object are the same to Build.
	same func(a, b *T) bool

	last    []*T
	objects map[types.NamespacedName]*remembered[T]
}

// remembered is the objects of one name. current is the one that is used, nil once all are gone.
type remembered[T any] struct {
	current *T
	all     []*T
}

// find returns the object of a name, or nil.
func (m *memory[T]) find(name types.NamespacedName) *T {
	if r := m.objects[name]; r != nil {
		return r.current
	}
	return nil
}

// update takes the objects of a new Snapshot and returns the names of those that are new, gone or other than before.
func (m *memory[T]) update(objects []*T) []types.NamespacedName {
	if m.objects == nil {
		m.objects = make(map[types.NamespacedName]*remembered[T], len(objects))
	}
	gone, added := difference(m.last, objects)
	if len(gone) == 0 && len(added) == 0 {
		return nil
	}
	m.last = slices.Clone(objects)
	touched := make(map[types.NamespacedName]struct{}, len(added))
	for _, o := range gone {
		name := m.name(o)
		touched[name] = struct{}{}
		r := m.objects[name]
		r.all = slices.Delete(r.all, slices.Index(r.all, o), slices.Index(r.all, o)+1)
	}
	for _, o := range added {
		name := m.name(o)
		touched[name] = struct{}{}
		if m.objects[name] == nil {
			m.objects[name] = &remembered[T]{}
		}
		m.objects[name].all = append(m.objects[name].all, o)
	}
	var changed []types.NamespacedName
	for name := range touched {
		if m.choose(name) {
			changed = append(changed, name)
		}
	}
	return changed
}

// choose sets the current object of a name, and says whether it is another one to Build.
func (m *memory[T]) choose(name types.NamespacedName) bool {
	r := m.objects[name]
	old := r.current
	if len(r.all) == 0 {
		delete(m.objects, name)
		return old != nil
	}
	r.current = slices.MinFunc(r.all, m.before)
	return old == nil || old != r.current && !m.same(old, r.current)
}

// difference returns the pointers that are in one list only, as multisets, nil ones left out. It looks at each pointer
// once where the lists are in the same order but for some insertions and replacements, and it works for any order.
func difference[T any](old, next []*T) (gone, added []*T) { //nolint:gocyclo // one algorithm; its parts mean nothing apart
	for len(old) > 0 && len(next) > 0 && old[0] == next[0] {
		old, next = old[1:], next[1:]
	}
	for len(old) > 0 && len(next) > 0 && old[len(old)-1] == next[len(next)-1] {
		old, next = old[:len(old)-1], next[:len(next)-1]
	}
	sameLength := len(old) == len(next)
	count := make(map[*T]int)
	for i, o := range old {
		if o != nil && (!sameLength || o != next[i]) {
			count[o]--
		}
	}
	for i, o := range next {
		if o != nil && (!sameLength || o != old[i]) {
			count[o]++
		}
	}
	for o, n := range count {
		for ; n < 0; n++ {
			gone = append(gone, o)
		}
		for ; n > 0; n-- {
			added = append(added, o)
		}
	}
	return gone, added
}

// compareCopies orders two objects of one name, which no API server has: the oldest first, then by UID, then by content, so
// that the choice never depends on the order in which they come.
func compareCopies(a, b any, metaA, metaB *metav1.ObjectMeta) int {
	if c := cmp.Or(metaA.CreationTimestamp.Compare(metaB.CreationTimestamp.Time), strings.Compare(string(metaA.UID), string(metaB.UID))); c != 0 {
		return c
	}
	textA, errA := json.Marshal(a)
	textB, errB := json.Marshal(b)
	if errA != nil || errB != nil {
		return 0 // API types always marshal
	}
	return bytes.Compare(textA, textB)
}

// sameIngress says whether two versions of an Ingress are the same to Build, which reads neither status nor labels.
func sameIngress(a, b *networkingv1.Ingress) bool {
	return a.UID == b.UID && a.CreationTimestamp.Equal(&b.CreationTimestamp) && maps.Equal(a.Annotations, b.Annotations) && reflect.DeepEqual(a.Spec, b.Spec)
}

// sameClass says whether two versions of an IngressClass are the same to Build.
func sameClass(a, b *networkingv1.IngressClass) bool {
	const isDefault = networkingv1.AnnotationIsDefaultIngressClass
	return a.Spec.Controller == b.Spec.Controller && a.CreationTimestamp.Equal(&b.CreationTimestamp) && a.Annotations[isDefault] == b.Annotations[isDefault]
}
