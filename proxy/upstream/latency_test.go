package upstream

import (
	"math"
	"testing"
	"time"
)

// A peak counts at once and is forgotten in the course of seconds, with and without further observations.
func TestLatency(t *testing.T) {
	var l latency
	at := func(d time.Duration) int64 { return int64(d) + 1 }
	read := func(when time.Duration, want float64) {
		t.Helper()
		if us, known := l.read(at(when)); !known || math.Abs(us-want) > 0.02*want+1 {
			t.Errorf("after %v: %v µs, %v, want %v", when, us, known, want)
		}
	}
	if _, known := l.read(at(0)); known {
		t.Error("known before anything was observed")
	}
	l.observe(at(0), time.Millisecond)
	read(0, 1000)
	l.observe(at(0), 500*time.Millisecond)
	read(0, 500000)
	l.observe(at(0), time.Millisecond) // no time has passed: the peak stays
	read(0, 500000)
	read(10*time.Second, 500000/math.E)
	l.observe(at(10*time.Second), time.Millisecond)
	read(10*time.Second, 500000/math.E+1000*(1-1/math.E))
	for i := range 100 {
		l.observe(at(time.Duration(11+i)*time.Second), time.Millisecond)
	}
	read(110*time.Second, 1008)
	l.observe(at(110*time.Second), 0)
	if us, known := l.read(at(110 * time.Second)); !known || us < 1 {
		t.Errorf("an answer in no time: %v, %v", us, known)
	}
	l.observe(at(110*time.Second), 1000*time.Hour) // more than the word holds
	read(110*time.Second, math.MaxUint32)
	// The clock in the word wraps after 49 days.
	wrap := time.Duration(math.MaxUint32) * time.Millisecond
	var w latency
	w.observe(at(wrap), 100*time.Millisecond)
	if us, _ := w.read(at(wrap + 10*time.Second)); math.Abs(us-100000/math.E) > 1000 {
		t.Errorf("over the wrap: %v", us)
	}
}
