package limit_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"podlane.dev/podlane/proxy/limit"
)

// TestSurvivesTables: the next table's zone is the same zone, with its counts and the next table's rate.
func TestSurvivesTables(t *testing.T) {
	t.Parallel()
	zones := limit.NewZones(0)
	first := zones.Rate(id(0), perSecond(1))
	for range 6 {
		if !first.Take(client(1), 0) {
			t.Fatal("the burst does not pass")
		}
	}
	second := zones.Rate(id(0), perSecond(2))
	first.Release()
	zones.Sweep(at(1))
	if second != first {
		t.Fatal("another zone")
	}
	passed := 0
	for second.Take(client(1), 0) {
		passed++
	}
	if passed != 5 {
		t.Errorf("%d more pass after the burst grew from 5 to 10, want 5", passed)
	}
	second.Configure(perSecond(1))
	if second.Take(client(1), at(1000)) || !second.Take(client(1), at(6000)) {
		t.Error("after the burst shrank again a client is refused until its bucket has leaked")
	}
	if other := zones.Rate(id(1), perSecond(1)); other == second || !other.Take(client(1), 0) {
		t.Error("two Ingresses share a zone")
	}
}

// TestForgotten: a zone that nobody holds stays for Keep, and as long as requests are under way.
func TestForgotten(t *testing.T) {
	t.Parallel()
	zones := limit.NewZones(0)
	keep := int64(limit.Keep)
	rate, again := zones.Rate(id(0), perSecond(1)), zones.Rate(id(0), perSecond(1))
	connections := zones.Connections(id(0), 1)
	slot, ok := connections.Acquire(client(1))
	if !ok {
		t.Fatal("the first request is refused")
	}
	rate.Release()
	zones.Sweep(1)
	zones.Sweep(1 + 2*keep)
	if zones.Len() != 2 {
		t.Fatalf("%d zones while both are held", zones.Len())
	}
	again.Release()
	connections.Release()
	zones.Sweep(3 * keep)
	zones.Sweep(4*keep - 1)
	if zones.Len() != 2 {
		t.Fatalf("%d zones before Keep has passed", zones.Len())
	}
	// Held again for a moment: Keep begins anew.
	zones.Rate(id(0), perSecond(1)).Release()
	zones.Sweep(4 * keep)
	if zones.Len() != 2 {
		t.Fatalf("%d zones, want the one that was held and the one with a request under way", zones.Len())
	}
	zones.Sweep(5 * keep)
	if zones.Len() != 1 {
		t.Fatalf("%d zones, want the one with a request under way", zones.Len())
	}
	if _, ok := zones.Connections(id(0), 1).Acquire(client(1)); ok {
		t.Error("a request under way is not counted any more")
	}
	slot.Release()
	connections.Release()
	zones.Sweep(6 * keep)
	zones.Sweep(7 * keep)
	if zones.Len() != 0 {
		t.Errorf("%d zones are left", zones.Len())
	}
	again.Release() // once too often: nothing happens
	if z := zones.Rate(id(0), perSecond(1)); z == again || z.Len() != 0 {
		t.Error("a zone that was forgotten is there again")
	}
}

// TestBounded: more clients than a zone may remember cost no more memory, and when they are gone it is given back.
func TestBounded(t *testing.T) {
	t.Parallel()
	const most = 8192
	zones := limit.NewZones(most)
	z := zones.Rate(id(0), limit.Rate{Requests: 1, Per: time.Hour, Burst: 1})
	var before, full runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := range 20 * most {
		if !z.Take(client(n), at(int64(n))) {
			t.Fatal("a new client is refused")
		}
		if n == most/2 && z.Evicted() != 0 {
			t.Errorf("a zone that is half full has evicted %d", z.Evicted())
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&full)
	t.Logf("%d keys, %d bytes each with all", z.Len(), (int64(full.HeapAlloc)-int64(before.HeapAlloc))/int64(z.Len()))
	if z.Room() > 2*most {
		t.Errorf("memory for %d keys", z.Room())
	}
	if z.Len() > most || z.Len() < most*9/10 || z.Evicted() != uint64(20*most-z.Len()) {
		t.Errorf("%d keys, %d evicted", z.Len(), z.Evicted())
	}
	// The last ones are those that are remembered.
	z.Take(client(20*most-1), at(20*most))
	if z.Take(client(20*most-1), at(20*most)) {
		t.Error("the client that came last was forgotten")
	}
	zones.Sweep(at(20*most) + 3*int64(time.Hour))
	if z.Len() != 0 {
		t.Errorf("%d keys are left after all have leaked", z.Len())
	}
}

// TestForgetsBySelf: without any sweep, a zone holds about as many keys as have asked lately.
func TestForgetsBySelf(t *testing.T) {
	t.Parallel()
	z := limit.NewZones(0).Rate(id(0), perSecond(10))
	for n := range 100_000 {
		z.Take(client(n), at(int64(n))) // a thousand new clients a second; each is forgotten after 100 ms
	}
	if z.Len() > 1000 || z.Evicted() != 0 {
		t.Errorf("%d keys are remembered, %d evicted", z.Len(), z.Evicted())
	}
}

// TestSweepKeeps: a sweep that moves buckets to less memory keeps what they hold.
func TestSweepKeeps(t *testing.T) {
	t.Parallel()
	zones := limit.NewZones(1000)
	z := zones.Rate(id(0), limit.Rate{Requests: 1, Per: time.Minute, Burst: 2})
	for n := range 900 {
		z.Take(client(n), 0)
	}
	const first = 500 // of those that stay: where they lie, no others may lie afterwards
	for n := range 10 {
		for range 5 {
			z.Take(client(first+n), 0)
		}
	}
	zones.Sweep(at(70_000)) // one of three has leaked
	if z.Len() != 10 || z.Room() > 20 {
		t.Fatalf("%d keys, want 10, and memory for %d", z.Len(), z.Room())
	}
	for n := range 10 {
		if !z.Take(client(first+n), at(70_000)) || z.Take(client(first+n), at(70_000)) {
			t.Errorf("client %d: the bucket is another", n)
		}
	}
	zones.Sweep(at(10_000_000))
	if z.Len() != 0 || z.Room() != 0 {
		t.Errorf("%d keys are left at the end, and memory for %d", z.Len(), z.Room())
	}
}

// TestConnectionsLikeModel compares a zone with a map.
func TestConnectionsLikeModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		zones := limit.NewZones(0)
		most := rapid.IntRange(0, 4).Draw(t, "limit")
		z := zones.Connections(id(0), most)
		running := map[int][]limit.Slot{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			n := rapid.IntRange(0, 5).Draw(t, "client")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				most = rapid.IntRange(0, 4).Draw(t, "limit")
				z.Configure(most)
			case 1:
				zones.Sweep(0)
			case 2, 3, 4:
				if slots := running[n]; len(slots) > 0 {
					slots[0].Release()
					slots[0].Release()
					running[n] = slots[1:]
				}
			default:
				slot, ok := z.Acquire(client(n))
				if want := most == 0 || len(running[n]) < most; ok != want {
					t.Fatalf("client %d with %d of %d: %v", n, len(running[n]), most, ok)
				}
				if ok {
					running[n] = append(running[n], slot)
				}
				slot = limit.Slot{}
				slot.Release()
			}
			busy := 0
			for _, slots := range running {
				if len(slots) > 0 {
					busy++
				}
			}
			if z.Len() != busy {
				t.Fatalf("%d keys, want %d", z.Len(), busy)
			}
		}
	})
	if slot, ok := limit.NewZones(0).Connections(id(0), 1).Acquire(nil); !ok || slot != (limit.Slot{}) {
		t.Error("an empty key is limited")
	}
}

// TestConcurrently: requests that come at once, while tables change and sweeps run, are counted exactly.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	const goroutines, requests, burst, limited = 8, 2000, 500, 3
	zones := limit.NewZones(0)
	r := limit.Rate{Requests: 1, Per: time.Hour, Burst: burst}
	z, c := zones.Rate(id(0), r), zones.Connections(id(0), limited)
	var passed, running, beyond atomic.Int64
	stop := make(chan struct{})
	var changes, clients sync.WaitGroup
	changes.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			zones.Rate(id(0), r).Release()
			zones.Connections(id(0), limited).Release()
			zones.Sweep(0)
			_ = z.Len() + c.Len() + zones.Len()
			runtime.Gosched()
		}
	})
	for g := range goroutines {
		clients.Go(func() {
			for n := range requests {
				if z.Take(client(0), 0) {
					passed.Add(1)
				}
				z.Take(client(1+g*requests+n), 0)
				z.Check(client(n), 0)
				slot, ok := c.Acquire(client(0))
				if !ok {
					continue
				}
				if running.Add(1) > limited {
					beyond.Add(1)
				}
				runtime.Gosched()
				running.Add(-1)
				slot.Release()
			}
		})
	}
	clients.Wait()
	close(stop)
	changes.Wait()
	if passed.Load() != burst+1 {
		t.Errorf("%d passed, want %d", passed.Load(), burst+1)
	}
	if beyond.Load() != 0 || c.Len() != 0 {
		t.Errorf("%d times more than %d at once; %d keys at the end", beyond.Load(), limited, c.Len())
	}
	if want := goroutines*requests + 1; z.Len() != want {
		t.Errorf("%d keys, want %d", z.Len(), want)
	}
}
