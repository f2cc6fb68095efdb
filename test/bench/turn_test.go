package main

import (
	"slices"
	"testing"
)

// Every peer comes first, second and third as often as the others.
func TestPeersTakeTurns(t *testing.T) {
	peers := []string{"a", "b", "c"}
	first := map[string]int{}
	for run := 1; run <= 6; run++ {
		order := inTurn(peers, run)
		first[order[0]]++
		slices.Sort(order)
		if !slices.Equal(order, peers) {
			t.Errorf("run %d: %v", run, order)
		}
	}
	for _, p := range peers {
		if first[p] != 2 {
			t.Errorf("%s was first %d times of 6", p, first[p])
		}
	}
	if got := inTurn([]string(nil), 3); len(got) != 0 {
		t.Errorf("nobody: %v", got)
	}
}
