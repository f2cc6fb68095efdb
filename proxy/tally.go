package proxy

import (
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/subrequest"
)

// counter is a counter that was resolved when the engine was made.
type counter interface{ Inc() }

// tally holds the process-wide counters that the engine adds to. Without metrics all of them are deaf.
type tally struct {
	accepted, panics counter
	open             interface{ Add(float64) }
	rejected         map[exchange.Why]counter
	ends             map[string]counter // connections that ended before HTTP
	mirrored         [subrequest.Outcomes]counter
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
	exchange.UpstreamTLS, exchange.UpstreamTruncated, exchange.BodyTooLarge, exchange.ClientGone, exchange.ClientTimeout, exchange.Overload,
	exchange.Redirect, exchange.Preflight, exchange.Misdirected, exchange.ClientCertificate, exchange.Forbidden, exchange.Unauthorized, exchange.Limited, exchange.Filter,
	exchange.Internal,
}

func newTally(m *observe.Metrics) tally {
	t := tally{accepted: deaf{}, panics: deaf{}, open: deaf{}}
	for o := range t.mirrored {
		t.mirrored[o] = deaf{}
	}
	if m == nil {
		return t
	}
	for o := range t.mirrored {
		t.mirrored[o] = m.Mirrored(subrequest.Outcome(o).String())
	}
	t.accepted, t.panics = m.ConnectionsAccepted, m.Panicked("connection")
	t.open = m.ConnectionsOpen
	t.rejected = map[exchange.Why]counter{}
	for _, why := range localReasons {
		t.rejected[why] = m.Rejected(string(why))
	}
	t.ends = map[string]counter{}
	for _, reasons := range endingReasons {
		for _, why := range reasons {
			t.ends[why] = m.ConnectionClosed(why)
		}
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
