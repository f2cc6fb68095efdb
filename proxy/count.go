package proxy

import (
	"time"

	"podlane.dev/podlane/proxy/observe"
)

// This file counts requests against their routes. Without metrics it does nothing, and reads no clock.

// begin counts a request as being in flight; see session.begin.
func (c *chain) begin() {
	if c.metrics != nil {
		c.metrics.Begin()
	}
}

// begin counts the request against its route, and record its end.
func (s *session) begin() {
	if s.rehearsal == nil {
		s.chain.begin()
	}
}

// ask notes that a Pod is about to be asked.
func (s *session) ask() {
	if s.chain.metrics != nil && s.asked.IsZero() {
		s.asked = time.Now()
	}
}

// head notes that the head of a Pod's answer is there, unless the access log has.
func (s *session) head(pod *pod) {
	if s.chain.metrics == nil {
		return
	}
	t := &s.x.Timing
	if t.FirstByte.IsZero() {
		t.FirstByte = time.Now()
	}
	if s.x.Upstream.Tries == 1 { // else a part of the time is another endpoint's
		pod.ep.Answered(t.FirstByte.Sub(s.asked))
	}
}

// count counts an exchange that is over. What is in flight is counted by route, the rest by the Backend that was chosen.
func (s *session) count() {
	m := s.chain.metrics
	if m == nil {
		return
	}
	m.End()
	if s.lane != nil && s.lane.metrics != nil {
		m = s.lane.metrics
	}
	x := s.x
	served := observe.Served{
		Status: s.statusSeen(), Whole: x.Timing.End.Sub(x.Timing.Start), Connect: s.connects, Tries: x.Upstream.Tries, In: x.BytesIn, Out: x.BytesOut,
	}
	if !s.asked.IsZero() && !x.Timing.FirstByte.IsZero() {
		served.FirstByte = max(x.Timing.FirstByte.Sub(x.Timing.Start), 1) // 0 says that there was none
		served.Pod, served.Answer = x.Timing.FirstByte.Sub(s.asked), x.Timing.End.Sub(s.asked)
	}
	m.Observe(&served)
}
