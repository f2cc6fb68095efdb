package proxy

import (
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/upstream"
)

// counter is a counter that was resolved when the engine was made.
type counter interface{ Inc() }

// tally holds the process-wide counters that the engine adds to. Without metrics all of them are deaf.
type tally struct {
	accepted, panics counter
	open             interface{ Add(float64) }
	rejected         map[exchange.Why]counter
	connectFailed    map[upstream.Failure]counter
}

type deaf struct{}

// Inc does nothing.
func (deaf) Inc() {}

// Add does nothing.
func (deaf) Add(float64) {}

// localReasons is the closed set of reasons for which the proxy answers by itself.
var localReasons = [...]exchange.Why{
	exchange.BadRequest, exchange.NoRoute, exchange.RouteDenied, exchange.BackendMissing, exchange.NoEndpoint,
	exchange.ConnectFailed, exchange.ConnectTimeout, exchange.UpstreamReset, exchange.UpstreamTimeout, exchange.UpstreamInvalid,
	exchange.UpstreamTruncated, exchange.BodyTooLarge, exchange.ClientGone, exchange.ClientTimeout, exchange.Overload,
	exchange.Redirect, exchange.Filter, exchange.Internal,
}

func newTally(m *observe.Metrics) tally {
	t := tally{accepted: deaf{}, panics: deaf{}, open: deaf{}}
	if m == nil {
		return t
	}
	t.accepted, t.panics = m.ConnectionsAccepted, m.Panicked("connection")
	t.open = m.ConnectionsOpen
	t.rejected = map[exchange.Why]counter{}
	for _, why := range localReasons {
		t.rejected[why] = m.Rejected(string(why))
	}
	t.connectFailed = map[upstream.Failure]counter{}
	for _, f := range []upstream.Failure{
		upstream.Refused, upstream.Timeout, upstream.Unreachable, upstream.Reset, upstream.Local, upstream.Gone, upstream.Limited,
	} {
		t.connectFailed[f] = m.ConnectFailed(f.String())
	}
	return t
}

// local counts an answer that the proxy made, or cut short, for a reason.
func (t *tally) local(why exchange.Why) {
	if why == exchange.NoReason {
		return
	}
	if c, ok := t.rejected[why]; ok {
		c.Inc()
	}
}

func (t *tally) unconnected(f upstream.Failure) {
	if c, ok := t.connectFailed[f]; ok {
		c.Inc()
	}
}

// watchUpstream adds the engine's counters to an Observer.
func watchUpstream(o upstream.Observer, m *observe.Metrics) upstream.Observer {
	if m == nil {
		return o
	}
	if o.OnConnect == nil {
		o.OnConnect = func(_ *upstream.Endpoint, _ time.Duration, err error) {
			if err == nil {
				m.UpstreamConnects.Inc()
			}
		}
	}
	if o.OnReuse == nil {
		o.OnReuse = func(*upstream.Endpoint) { m.UpstreamReuses.Inc() }
	}
	if o.OnEject == nil {
		o.OnEject = func(*upstream.Endpoint, upstream.Failure) { m.UpstreamEjections.Inc() }
	}
	return o
}
