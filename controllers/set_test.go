package controllers

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
)

func TestSet(t *testing.T) {
	s := newSet[*corev1.Service]()
	a, b, c := newService("a"), newService("b"), newService("c")
	for _, x := range []*corev1.Service{a, b, c} {
		s.put(x)
	}
	list := s.list()
	if len(list) != 3 || s.find(named("ns", "b")) != b {
		t.Fatalf("the set holds %v", list)
	}
	b2 := newService("b")
	s.put(b2)
	s.remove(newService("a"))
	s.remove(newService("unknown"))
	if got := s.list(); len(got) != 2 || !slices.Contains(got, b2) || !slices.Contains(got, c) {
		t.Errorf("after a change and a removal the set holds %v", got)
	}
	if s.find(named("ns", "a")) != nil || s.find(named("ns", "c")) != c || s.find(named("other", "c")) != nil {
		t.Error("the index does not fit the items after a removal")
	}
	if len(list) != 3 || list[0] != a {
		t.Error("a list that was handed out changed")
	}
	s.remove(b2)
	s.remove(c)
	if got := s.list(); len(got) != 0 {
		t.Errorf("the empty set holds %v", got)
	}
}

func TestFeedKeepsWhatComesEarly(t *testing.T) {
	var f feed[string]
	f.add("a")
	f.add("a")
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	defer queue.ShutDown()
	if err := f.Start(context.Background(), queue); err != nil {
		t.Fatal(err)
	}
	f.add("b")
	var got []string
	for queue.Len() > 0 {
		r, _ := queue.Get()
		queue.Done(r)
		got = append(got, r)
	}
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the queue got %q", got)
	}
}
