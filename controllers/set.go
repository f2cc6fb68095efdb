package controllers

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// set holds the current objects of one kind: the informer's own pointers, never copies, so that an unchanged object is the
// same pointer in every Snapshot. It is safe for concurrent use. A cache.Reader would do the job but for its List, which copies each
// object into a new slice of structs.
type set[T client.Object] struct {
	mu    sync.RWMutex
	index map[types.NamespacedName]int
	items []T
}

func newSet[T client.Object]() *set[T] {
	return &set[T]{index: map[types.NamespacedName]int{}}
}

// put adds o or replaces the object of its name.
func (s *set[T]) put(o T) {
	key := client.ObjectKeyFromObject(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.index[key]; ok {
		s.items[i] = o
		return
	}
	s.index[key] = len(s.items)
	s.items = append(s.items, o)
}

// remove drops the object of o's name, if there is one.
func (s *set[T]) remove(o T) {
	key := client.ObjectKeyFromObject(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[key]
	if !ok {
		return
	}
	last := len(s.items) - 1
	s.items[i] = s.items[last]
	s.index[client.ObjectKeyFromObject(s.items[i])] = i
	clear(s.items[last:])
	s.items = s.items[:last]
	delete(s.index, key)
}

// find returns the object of that name, or T's zero value.
func (s *set[T]) find(key types.NamespacedName) T {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if i, ok := s.index[key]; ok {
		return s.items[i]
	}
	var none T
	return none
}

// list returns all objects, in no particular order. The slice is the caller's, the objects are shared and read-only.
func (s *set[T]) list() []T {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.items)
}
