package upstream

import (
	"context"
	"net"
	"net/netip"
	"time"

	"podlane.dev/podlane/proxy/upstream/dns"
)

// The defaults of Options.
const (
	DefaultConnectTimeout     = 5 * time.Second
	DefaultIdleTimeout        = 55 * time.Second // below the 60 s after which most servers close
	DefaultMaxIdlePerEndpoint = 320
	DefaultMaxRequests        = 10000
	DefaultMaxAge             = time.Hour
	DefaultMaxFails           = 1
	DefaultFailTimeout        = 10 * time.Second
	DefaultDrainTimeout       = 240 * time.Second
	DefaultRetryPercent       = 20
	DefaultRetriesPerSecond   = 10
)

// Reuse says how long connections are used again. The zero value of a field stands for that of Options, and its numbers mean what they mean there.
type Reuse struct {
	IdleTimeout        time.Duration
	MaxIdlePerEndpoint int
	MaxRequests        int
	MaxAge             time.Duration
}

// over returns u over what o says.
func (u Reuse) over(o *Options) *Reuse {
	orDefault(&u.IdleTimeout, o.IdleTimeout)
	orDefault(&u.MaxIdlePerEndpoint, o.MaxIdlePerEndpoint)
	orDefault(&u.MaxRequests, o.MaxRequests)
	orDefault(&u.MaxAge, o.MaxAge)
	return &u
}

// DialFunc connects to a Pod. It must not resolve names, and must return when ctx ends.
type DialFunc func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

// Options are the Registry's settings. The zero value of a field stands for its default; a negative number or duration
// turns the thing off where that makes sense.
type Options struct {
	// ConnectTimeout bounds one connect where the caller gives no deadline. It cannot be off.
	ConnectTimeout time.Duration
	// IdleTimeout is how long a connection may stay unused in the pool. It cannot be off.
	IdleTimeout time.Duration
	// MaxIdlePerEndpoint caps the idle connections of one Endpoint, all profiles together; negative keeps none.
	MaxIdlePerEndpoint int
	// MaxRequests and MaxAge are how many requests and how much time a connection serves before it is closed instead of
	// pooled, as nginx's keepalive_requests and keepalive_time; negative means without end.
	MaxRequests int
	MaxAge      time.Duration
	// MaxFails is the number of failures within FailTimeout after which an Endpoint is ejected for FailTimeout; negative
	// means never.
	MaxFails    int
	FailTimeout time.Duration
	// SlowStart is the time over which the share of an Endpoint that joined a Pool with others in it, or that came back
	// from ejection, grows to the full one; 0 means at once. Hashing ignores it.
	SlowStart time.Duration
	// DrainTimeout is how long connections to a removed Endpoint may stay busy before they are cut; negative means
	// without end.
	DrainTimeout time.Duration
	// RetryPercent is the part of a Service's requests that may be retried, in percent, and RetriesPerSecond what is
	// always allowed; negative means none.
	RetryPercent     int
	RetriesPerSecond int
	// ServiceLimit and EndpointLimit cap the requests in flight; 0 means no limit. Connections that the engine no longer
	// counts (Conn.Uncount) are outside of them.
	ServiceLimit, EndpointLimit int
	// ServiceConnections caps the open connections to all Endpoints of one Service, idle and upgraded ones included; 0
	// means no limit. The engine sets it to half of the process's connection budget, so that no Service starves another.
	ServiceConnections int
	// Dial replaces the network, in tests and for special transports. The default is TCP with keep-alive probes.
	Dial DialFunc
	// External says how ExternalName Services are resolved and which of their addresses are refused.
	External External
	// Observer is told of events; see there.
	Observer Observer
}

// Observer is a set of functions that are told of events, for metrics; each may be nil. They are called on the request's
// goroutine or the sweeper's, concurrently, and must not block or call the package.
type Observer struct {
	// OnConnect is told of every connect, with the time that it took and nil or a *DialError.
	OnConnect func(e *Endpoint, took time.Duration, err error)
	// OnReuse is told of every connection that Acquire took from the pool.
	OnReuse func(e *Endpoint)
	// OnStale is told of every idle connection that was found closed or with unsolicited bytes.
	OnStale func(e *Endpoint)
	// OnEject and OnRestore are told when passive health takes an Endpoint out of the rotation and puts it back.
	OnEject   func(e *Endpoint, why Failure)
	OnRestore func(e *Endpoint)
}

// withDefaults returns o with every zero field replaced.
func (o Options) withDefaults() Options {
	orDefault(&o.ConnectTimeout, DefaultConnectTimeout)
	orDefault(&o.IdleTimeout, DefaultIdleTimeout)
	orDefault(&o.MaxIdlePerEndpoint, DefaultMaxIdlePerEndpoint)
	orDefault(&o.MaxRequests, DefaultMaxRequests)
	orDefault(&o.MaxAge, DefaultMaxAge)
	orDefault(&o.MaxFails, DefaultMaxFails)
	orDefault(&o.FailTimeout, DefaultFailTimeout)
	orDefault(&o.DrainTimeout, DefaultDrainTimeout)
	orDefault(&o.RetryPercent, DefaultRetryPercent)
	orDefault(&o.RetriesPerSecond, DefaultRetriesPerSecond)
	if o.ConnectTimeout < 0 {
		o.ConnectTimeout = DefaultConnectTimeout
	}
	if o.IdleTimeout < 0 {
		o.IdleTimeout = DefaultIdleTimeout
	}
	if o.FailTimeout < 0 {
		o.MaxFails = -1
	}
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	if o.External.Resolver == nil {
		o.External.Resolver = new(dns.Resolver)
	}
	if o.External.Own == nil {
		o.External.Own = interfaceAddresses
	}
	return o
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// dialTCP is the default DialFunc. Its probes find a dead node within a minute, which matters for long streams that only
// read; TCP_NODELAY is Go's default.
func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3,
	}}
	return d.DialTCP(ctx, "tcp", netip.AddrPort{}, addr)
}
