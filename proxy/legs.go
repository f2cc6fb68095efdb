package proxy

import (
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/upstream"
)

// observed reports whether somebody will be told of the tries of the exchange, and of their times.
func (s *session) observed() bool { return s.e.opts.AccessLog != nil || s.trace != nil }

// leg returns the try that is under way, nil where nobody wants to know of it.
func (s *session) leg() *exchange.Leg {
	legs := s.x.Upstream.Legs
	if len(legs) == 0 {
		return nil
	}
	return &legs[len(legs)-1]
}

// beginLeg notes that ep is tried.
func (s *session) beginLeg(ep *upstream.Endpoint) {
	if s.observed() {
		up := &s.x.Upstream
		up.Legs = append(up.Legs, exchange.Leg{Addr: ep.AddrPort(), Pod: ep.Pod(), Start: time.Now()})
		if s.trace != nil {
			s.trace.Try(s.x, s.leg())
		}
	}
}

// connected notes that there is a connection, or why not.
func (s *session) connected(p *pod, err error) {
	l := s.leg()
	switch {
	case l == nil:
	case err != nil:
		s.endLeg(connectFailure(upstream.KindOf(err)).why)
	case p.reused:
		l.Reused = true
	default:
		l.Connect = time.Since(l.Start)
	}
}

// firstByte notes that the answer has begun.
func (s *session) firstByte() {
	x := s.x
	if !s.observed() || !x.Timing.FirstByte.IsZero() {
		return
	}
	x.Timing.FirstByte = time.Now()
	if l := s.leg(); l != nil {
		l.FirstByte = x.Timing.FirstByte.Sub(l.Start)
	}
}

// answered notes the head of the answer, or that there is none.
func (s *session) answered(f *failure) {
	l := s.leg()
	switch {
	case l == nil:
	case f != nil:
		s.endLeg(f.why)
	default:
		l.Status, l.Version = s.x.Response.Status, s.x.Response.Version
	}
}

// endLeg notes that the try is over, and why another is made, or none.
func (s *session) endLeg(why exchange.Why) {
	if l := s.leg(); l != nil && l.Whole == 0 {
		l.Why, l.Whole = why, time.Since(l.Start)
	}
}

// lastLeg ends the try whose answer the client got, or would have.
func (s *session) lastLeg() {
	l := s.leg()
	if l == nil || l.Whole != 0 {
		return
	}
	l.Whole = s.x.Timing.End.Sub(l.Start)
	if s.x.Response.Why == exchange.UpstreamTruncated {
		l.Why = exchange.UpstreamTruncated
	}
}
