package config

import (
	"time"

	"github.com/spf13/pflag"
)

// Upstream are the limits and timeouts of Pods.
type Upstream struct {
	// Connect bounds one connect, Header the wait for the head of an answer, BodyIdle the pauses of its body.
	Connect, Header, BodyIdle time.Duration
	// ResponseHeader is the largest head of an answer, ResponseFields the most fields in it.
	ResponseHeader Size
	ResponseFields int

	// KeepAliveConnections is how many idle connections one endpoint may have; the others say when one is closed instead of kept.
	KeepAliveConnections, KeepAliveRequests int
	KeepAliveTimeout, KeepAliveTime         time.Duration

	// MaxFails failures within FailTimeout eject an endpoint for FailTimeout.
	MaxFails               int
	FailTimeout, SlowStart time.Duration
	// DrainTimeout is how long a removed endpoint may finish what it is busy with.
	DrainTimeout time.Duration

	// RetryPercent and RetriesPerSecond are a Service's retry budget: whichever allows more.
	RetryPercent, RetriesPerSecond int
	// ServiceRequests and EndpointRequests cap the requests in flight.
	ServiceRequests, EndpointRequests int
}

// NewUpstream returns the defaults.
func NewUpstream() *Upstream {
	return &Upstream{
		Connect: 5 * time.Second, Header: time.Minute, BodyIdle: time.Minute,
		ResponseHeader: 64 << 10, ResponseFields: 256,
		KeepAliveConnections: 320, KeepAliveRequests: 10_000,
		KeepAliveTimeout: 55 * time.Second, KeepAliveTime: time.Hour,
		MaxFails: 1, FailTimeout: 10 * time.Second,
		DrainTimeout: 240 * time.Second,
		RetryPercent: 20, RetriesPerSecond: 10,
	}
}

// Title is the heading in --help.
func (*Upstream) Title() string { return "Pods (a timeout of 0 means none)" }

// AddFlags binds the options to fs. Names are those of ingress-nginx's ConfigMap where the meaning is the same.
func (u *Upstream) AddFlags(fs *pflag.FlagSet) {
	addDuration(fs, &u.Connect, "proxy-connect-timeout", "how long connecting to one endpoint may take, before the next is tried; never 0")
	addDuration(fs, &u.Header, "proxy-header-timeout", "how long the head of an answer may take after the request was sent; then 504")
	addDuration(fs, &u.BodyIdle, "proxy-read-timeout", "how long the body of an answer may pause")
	fs.Var(&u.ResponseHeader, "response-header-size", "largest head of an answer; a larger one is 502")
	fs.IntVar(&u.ResponseFields, "response-header-fields", u.ResponseFields, "most header fields of an answer; more are 502")

	fs.IntVar(&u.KeepAliveConnections, "upstream-keepalive-connections", u.KeepAliveConnections,
		"idle connections that are kept for each endpoint; 0 keeps none")
	fs.IntVar(&u.KeepAliveRequests, "upstream-keepalive-requests", u.KeepAliveRequests,
		"requests after which a connection to an endpoint is closed; 0 for no limit")
	addDuration(fs, &u.KeepAliveTimeout, "upstream-keepalive-timeout",
		"how long a connection to an endpoint may be idle; less than the application's own limit, and never 0")
	addDuration(fs, &u.KeepAliveTime, "upstream-keepalive-time", "age after which a connection to an endpoint is closed; 0 for no limit")

	fs.IntVar(&u.MaxFails, "max-fails", u.MaxFails, "failures within --fail-timeout after which an endpoint gets no requests; 0 for never")
	addDuration(fs, &u.FailTimeout, "fail-timeout", "how long such an endpoint gets no requests; never 0")
	addDuration(fs, &u.SlowStart, "slow-start", "over how long the share of a new endpoint grows to the full one; 0 for at once")
	addDuration(fs, &u.DrainTimeout, "endpoint-drain-timeout",
		"how long requests to an endpoint that was removed may go on; 0 for no limit")

	fs.IntVar(&u.RetryPercent, "retry-percent", u.RetryPercent, "requests of a Service that may be retried, in percent")
	fs.IntVar(&u.RetriesPerSecond, "retries-per-second", u.RetriesPerSecond, "retries of a Service that are always allowed, each second")
	fs.IntVar(&u.ServiceRequests, "service-max-requests", u.ServiceRequests, "requests in flight to each Service; more get 503; 0 for no limit")
	fs.IntVar(&u.EndpointRequests, "endpoint-max-requests", u.EndpointRequests,
		"requests in flight to each endpoint; more go elsewhere; 0 for no limit")
}

// minUpstreamWait is the least of the timeouts that cannot be off.
const minUpstreamWait = time.Millisecond

// Validate refuses limits under which nothing would work.
func (u *Upstream) Validate() error {
	return first(
		atLeast("proxy-connect-timeout", u.Connect, minUpstreamWait, "1ms"),
		atLeastSize("response-header-size", u.ResponseHeader, minHeaderBlock),
		atLeast("response-header-fields", u.ResponseFields, minHeaderFields, "10"),
		atLeast("upstream-keepalive-connections", u.KeepAliveConnections, 0, "0"),
		atLeast("upstream-keepalive-requests", u.KeepAliveRequests, 0, "0"),
		atLeast("upstream-keepalive-timeout", u.KeepAliveTimeout, minUpstreamWait, "1ms"),
		atLeast("max-fails", u.MaxFails, 0, "0"),
		atLeast("fail-timeout", u.FailTimeout, minUpstreamWait, "1ms"),
		atLeast("retry-percent", u.RetryPercent, 0, "0"),
		atLeast("retries-per-second", u.RetriesPerSecond, 0, "0"),
		atLeast("service-max-requests", u.ServiceRequests, 0, "0"),
		atLeast("endpoint-max-requests", u.EndpointRequests, 0, "0"),
	)
}
