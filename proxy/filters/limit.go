package filters

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/proxy/limit"
	"podlane.dev/podlane/router/policy"
)

// limits is the parsed value of the family.
type limits struct {
	perSecond, perMinute, atOnce int
	burst                        int // times the rate
	exempt                       ranges
	key                          *expr.Expr
	rateStatus, atOnceStatus     int
}

// The keys, which name the zones too.
const (
	limitRPS         = "limit-rps"
	limitRPM         = "limit-rpm"
	limitConnections = "limit-connections"
	limitKey         = "limit-conn-zone-variable"
)

// String returns the value for the text of a Table.
func (v *limits) String() string {
	if v.none() {
		return "off"
	}
	var parts []string
	for _, part := range [...]struct {
		n    int
		unit string
	}{{v.perSecond, "a second"}, {v.perMinute, "a minute"}, {v.atOnce, "at once"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.unit))
		}
	}
	text := fmt.Sprintf("%s, bursts of %d times, for each %s, else %d and %d", strings.Join(parts, ", "), v.burst, v.key, v.rateStatus, v.atOnceStatus)
	if !v.exempt.empty() {
		text += ", but not for " + v.exempt.text
	}
	return text
}

func (v *limits) none() bool { return v.perSecond <= 0 && v.perMinute <= 0 && v.atOnce <= 0 }

// Limit returns the family that bounds how many requests a client may make.
func Limit() Policy {
	return &Of[*limits]{
		Of: policy.Of[*limits]{
			Name: "limit",
			Doc: "Bounds how many requests each client may make: in a second, in a minute, and at once. What is beyond a rate passes as a burst, at once, and fills a " +
				"bucket that leaks at the rate: where it is full the answer is 503. A limit is that of the Ingress, for all of its paths, and counts in each " +
				"replica by itself. What was counted outlives every change of Ingresses. With a limit of requests at once, a request counts until its answer has " +
				"been sent, a WebSocket until it is closed.",
			Keys:      limitKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseLimits,
		},
		Extend: extendLimits,
	}
}

func limitKeys() []policy.Key {
	return []policy.Key{
		{Name: limitRPS, Kind: policy.Int, Default: "0: no limit", Example: "10", Doc: "How many requests each client may make in a second."},
		{Name: limitRPM, Kind: policy.Int, Default: "0: no limit", Example: "300", Doc: "How many requests each client may make in a minute. A request that one of the two rates refuses counts for neither."},
		{Name: limitConnections, Kind: policy.Int, Default: "0: no limit", Example: "5", Doc: "How many requests of each client may be under way at once."},
		{
			Name: "limit-burst-multiplier", Kind: policy.Int, Default: "5", Example: "3",
			Doc: "How many times a rate may pass at once beyond it, before it is refused.",
		},
		{
			Name: "limit-whitelist", Alias: "limit-allowlist", Kind: policy.List, Default: "nobody", Example: "10.0.0.0/8, 2001:db8::/32",
			Doc: "Clients to which no limit applies, by address.",
		},
		{
			Name: limitKey, Where: policy.ConfigMap, Kind: policy.String, Default: "$binary_remote_addr", Example: "$http_x_api_key",
			Doc: "What tells clients apart: an expression of nginx. Requests for which it is empty are not limited.",
		},
		{
			Name: "limit-req-status-code", Where: policy.ConfigMap, Kind: policy.Int, Default: "503", Example: "429",
			Doc: "The status of answers to requests beyond a rate, from 400 to 599.",
		},
		{
			Name: "limit-conn-status-code", Where: policy.ConfigMap, Kind: policy.Int, Default: "503", Example: "429",
			Doc: "The status of answers to requests beyond what may be under way at once, from 400 to 599.",
		},
	}
}

func parseLimits(v policy.Values) (*limits, error) {
	const most = 1_000_000 // more than one process serves
	l, errs := new(limits), make([]error, 0, 8)
	number := func(to *int, key string, absent, from, most int) {
		var err error
		*to, err = v.IntRange(key, absent, from, most)
		errs = append(errs, err)
	}
	number(&l.perSecond, limitRPS, 0, 0, most)
	number(&l.perMinute, limitRPM, 0, 0, most)
	number(&l.atOnce, limitConnections, 0, 0, most)
	number(&l.burst, "limit-burst-multiplier", 5, 0, most)
	number(&l.rateStatus, "limit-req-status-code", statusUnavailable, 400, 599)
	number(&l.atOnceStatus, "limit-conn-status-code", statusUnavailable, 400, 599)
	var err error
	l.exempt, err = parseRanges(v, "limit-whitelist")
	errs = append(errs, err)
	if l.key, err = expr.Parse(v.Text(limitKey, "$binary_remote_addr")); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", limitKey, err))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, nil
}

// extendLimits gives c a filter that counts in the zones of its Ingress.
func extendLimits(c *Chain, v *limits) {
	if v.none() {
		return
	}
	f := &limitFilter{limits: v, runtime: c.Runtime.orAlone()}
	id := limit.ID{Namespace: c.Route.ID.Namespace, Ingress: c.Route.ID.Ingress}
	rate := func(name string, requests int, per time.Duration) *limit.RateZone {
		if requests <= 0 {
			return nil
		}
		id.Name = name
		z := f.runtime.Zones.Rate(id, limit.Rate{Requests: requests, Per: per, Burst: requests * v.burst})
		c.OnRelease(z.Release)
		return z
	}
	f.second, f.minute = rate(limitRPS, v.perSecond, time.Second), rate(limitRPM, v.perMinute, time.Minute)
	if v.atOnce > 0 {
		id.Name = limitConnections
		f.connections = f.runtime.Zones.Connections(id, v.atOnce)
		c.OnRelease(f.connections.Release)
	}
	c.OnRequest(f)
}

// limitFilter counts requests of one Route. A zone that is nil does not limit.
type limitFilter struct {
	*limits
	runtime        *Runtime
	second, minute *limit.RateZone
	connections    *limit.ConnectionZone
	places         sync.Pool // of *place
}

// place is what a request holds until it ends.
type place struct {
	limit.Slot
	home *sync.Pool
}

// Close gives the place back. It returns nil.
func (p *place) Close() error {
	p.Release()
	p.home.Put(p)
	return nil
}

// FilterRequest answers requests beyond the limits: the rates before the number at once, as in nginx.
func (f *limitFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if f.exempt.has(x.Client.Addr) {
		return exchange.Continue
	}
	at := len(x.Scratch)
	x.Scratch = f.key.AppendEscaped(x.Scratch, x, expr.EscapeNone)
	key := x.Scratch[at:]
	x.Scratch = x.Scratch[:at]
	switch {
	case x.Rehearsal != nil:
		return f.rehearse(key, x)
	case !f.take(key, int64(x.Timing.Start.Sub(f.runtime.Epoch))):
		x.Answer(f.rateStatus, exchange.Limited, "too many requests\n")
	case !f.acquire(key, x):
		x.Answer(f.atOnceStatus, exchange.Limited, "too many requests at once\n")
	default:
		return exchange.Continue
	}
	return exchange.Answered
}

// rehearse is what FilterRequest comes to, with nothing counted.
func (f *limitFilter) rehearse(key []byte, x *exchange.Exchange) exchange.Verdict {
	now := int64(x.Timing.Start.Sub(f.runtime.Epoch))
	if f.connections != nil {
		x.Rehearsal.Note("%d of at most %d requests of this client are under way", f.connections.Count(key), f.atOnce)
	}
	switch {
	case f.second != nil && !f.second.Check(key, now), f.minute != nil && !f.minute.Check(key, now):
		x.Answer(f.rateStatus, exchange.Limited, "too many requests\n")
	case f.connections != nil && !f.connections.Check(key):
		x.Answer(f.atOnceStatus, exchange.Limited, "too many requests at once\n")
	default:
		x.Rehearsal.Note("there is room within the limits at this moment; the request was not counted")
		return exchange.Continue
	}
	return exchange.Answered
}

// take counts a request by its rates, in none where one refuses it.
func (f *limitFilter) take(key []byte, now int64) bool {
	switch {
	case f.second == nil:
		return f.minute == nil || f.minute.Take(key, now)
	case f.minute == nil:
		return f.second.Take(key, now)
	}
	return f.second.Check(key, now) && f.minute.Take(key, now) && f.second.Take(key, now)
}

// acquire takes a place among the requests under way.
func (f *limitFilter) acquire(key []byte, x *exchange.Exchange) bool {
	if f.connections == nil || len(key) == 0 {
		return true
	}
	slot, ok := f.connections.Acquire(key)
	if !ok {
		return false
	}
	p, _ := f.places.Get().(*place)
	if p == nil {
		p = &place{home: &f.places}
	}
	p.Slot = slot
	x.Own(p)
	return true
}
