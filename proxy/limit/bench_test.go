package limit_test

import (
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/limit"
)

// TestNoAllocation: a request of a client that is known costs no allocation, nor one in a zone that is full.
func TestNoAllocation(t *testing.T) {
	zones := limit.NewZones(2048)
	z, c := zones.Rate(id(0), perSecond(10)), zones.Connections(id(0), 1)
	key, now := client(1), int64(0)
	known := func() {
		now += int64(time.Millisecond)
		z.Check(key, now)
		z.Take(key, now)
		slot, _ := c.Acquire(key)
		slot.Release()
	}
	known()
	if n := testing.AllocsPerRun(1000, known); n != 0 {
		t.Errorf("a known client: %v allocations", n)
	}
	busy := zones.Rate(id(1), limit.Rate{Requests: 1, Per: time.Hour})
	clients := make([][]byte, 40_000)
	for i := range clients {
		clients[i] = client(i)
	}
	next := 0
	stranger := func() {
		busy.Take(clients[next], 0)
		next++
	}
	for range 20_000 {
		stranger()
	}
	// A map that is full of what was deleted is sometimes built anew: seldom, so that the average rounds down.
	if n := testing.AllocsPerRun(10_000, stranger); n != 0 {
		t.Errorf("a stranger in a zone that is full: %v allocations", n)
	}
}

func BenchmarkTake(b *testing.B) {
	z := limit.NewZones(0).Rate(id(0), perSecond(10))
	clients := make([][]byte, 10_000)
	for i := range clients {
		clients[i] = client(i)
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		var clock atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				z.Take(clients[0], clock.Add(1000))
			}
		})
	})
	b.Run("many", func(b *testing.B) {
		b.ReportAllocs()
		var clock atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				z.Take(clients[i*7919%len(clients)], clock.Add(1000))
			}
		})
	})
}

func BenchmarkAcquire(b *testing.B) {
	z := limit.NewZones(0).Connections(id(0), 100)
	key := client(1)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			slot, _ := z.Acquire(key)
			slot.Release()
		}
	})
}
