package proxy

import (
	"net/netip"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/observe"
)

// logs reports whether the exchange is to be in the access log: by the rules of the table that routed it, else by those of now.
func (s *session) logs() bool {
	settings := s.settings
	if settings == nil {
		settings = s.e.live.Load().settings
	}
	return !s.chain.filters.Unlogged && !settings.Log.Omit(s.x)
}

// format is how the lines of the access log are written, nil for JSON: what the table says that routed the request, else that of now.
func (s *session) format() *filters.LogFormat {
	settings := s.settings
	if settings == nil {
		settings = s.e.live.Load().settings
	}
	return settings.LogFormat
}

// log appends the exchange to the access log.
func (s *session) log() {
	x := s.x
	if f := s.format(); f != nil {
		x.Response.Status = s.statusSeen() // the exchange is over
		s.e.opts.AccessLog.AppendFormat(f.Line, f.Escape, x)
		return
	}
	entry := s.entry()
	s.e.opts.AccessLog.Append(&entry)
}

// logRewrite appends what was decided about the exchange's path, where its route asks for that.
func (s *session) logRewrite() {
	x, q := s.x, &s.x.Request
	entry := s.entry()
	line := observe.Rewrite{Path: q.Path, Forward: q.Forward}
	if q.Vhost {
		line.Vhost = q.Fields.Get(exchange.Host)
	}
	if x.Response.Local {
		line.Location = x.Response.Fields.Get(exchange.Location)
	}
	s.e.opts.AccessLog.AppendRewrite(&entry, &line)
}

// entry returns what a line of the access log says of the exchange.
func (s *session) entry() observe.Entry {
	x, q := s.x, &s.x.Request
	entry := observe.Entry{
		Time:       x.Timing.Start,
		Client:     netip.AddrPortFrom(x.Client.Addr, x.Client.Peer.Port()),
		Scheme:     x.Client.Proto,
		TLSVersion: x.Client.TLSVersion,
		Method:     q.Method,
		Host:       q.Authority,
		Target:     q.Target,
		Protocol:   q.Version.String(),
		Status:     s.statusSeen(),
		Reason:     string(x.Response.Why),
		BytesIn:    x.BytesIn,
		BytesOut:   x.BytesOut,
		Duration:   x.Timing.End.Sub(x.Timing.Start),
		FirstByte:  since(x.Timing.Start, x.Timing.FirstByte),
		Service:    x.Upstream.Service.Name,
		Port:       x.Upstream.Service.Port,
		Pod:        x.Upstream.Pod,
		Endpoint:   x.Upstream.Addr,
		Tries:      x.Upstream.Tries,
		Retry:      string(x.Upstream.Retry),
		Canary:     x.Upstream.Canary,
		CanaryBy:   x.Upstream.CanaryBy,
		Legs:       x.Upstream.Legs,
		Generation: s.generation,
		Trace:      x.Trace,
		RequestID:  x.RequestID,
		UserAgent:  q.Fields.Get(exchange.UserAgent),
		Referer:    q.Fields.Get(exchange.Referer),
	}
	if r := x.Route; r != nil {
		entry.Namespace, entry.Ingress, entry.Route = r.ID.Namespace, r.ID.Ingress, r.ID.Path
		entry.RuleHost, entry.PathType = r.ID.Host, r.ID.Type.String()
	}
	return entry
}

// since is the time from start to t, 0 where t was not reached.
func since(start, t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return t.Sub(start)
}
