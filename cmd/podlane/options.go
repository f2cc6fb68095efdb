package main

import (
	"math"
	"os"
	"time"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/upstream"
)

// frontOptions are the options that both commands have.
type frontOptions struct {
	listeners *config.Listeners
	http      *config.HTTP
	http2     *config.HTTP2
	tls       *config.TLS
	upstream  *config.Upstream
	log       *config.Log
	metrics   *config.Metrics
	tracing   *config.Tracing
	shutdown  *config.Shutdown
	// class is the spec.controller of the IngressClasses, for ingress-nginx's metrics.
	class string
	// external says where ExternalName Services may lead.
	external upstream.External
	// memory returns the share of the memory limit that is in use; nil where there is none.
	memory func() float64
}

// Flags say 0 where there is to be no limit, the packages below say it by a negative value and take 0 for their default.

func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func orUnlimited[T int | int64](n T) T {
	if n == 0 {
		return -1
	}
	return n
}

// limitsOf returns the limits of message heads.
func limitsOf(h *config.HTTP, u *config.Upstream) http1.Limits {
	underscores := map[string]http1.Underscores{
		"drop": http1.DropUnderscores, "reject": http1.RejectUnderscores, "keep": http1.KeepUnderscores,
	}
	return http1.Limits{
		RequestLine: int(h.RequestLine), HeaderBlock: int(h.HeaderBlock), Fields: h.HeaderFields,
		ResponseHead: int(u.ResponseHeader), ResponseFields: u.ResponseFields,
		Underscores: underscores[h.Underscores],
	}
}

func timeoutsOf(h *config.HTTP, u *config.Upstream) proxy.Timeouts {
	return proxy.Timeouts{
		FirstByte: orNever(h.FirstByte), Header: orNever(h.Header), Body: orNever(h.BodyIdle), Idle: orNever(h.KeepAlive),
		UpstreamHeader: orNever(u.Header), UpstreamBody: orNever(u.BodyIdle),
		Stall: orNever(h.SendIdle), Tunnel: orNever(h.Tunnel),
		ProxyHeader: orNever(h.ProxyProtocolTimeout),
		Linger:      orNever(h.Linger), LingerSilence: orNever(h.LingerIdle),
	}
}

func upstreamOf(u *config.Upstream) upstream.Options {
	return upstream.Options{
		ConnectTimeout: u.Connect, IdleTimeout: u.KeepAliveTimeout,
		MaxIdlePerEndpoint: orUnlimited(u.KeepAliveConnections), // negative keeps none, which is what 0 means here
		MaxRequests:        orUnlimited(u.KeepAliveRequests), MaxAge: orNever(u.KeepAliveTime),
		MaxFails: orUnlimited(u.MaxFails), FailTimeout: u.FailTimeout, SlowStart: u.SlowStart,
		DrainTimeout: orNever(u.DrainTimeout),
		RetryPercent: orUnlimited(u.RetryPercent), RetriesPerSecond: orUnlimited(u.RetriesPerSecond),
		ServiceLimit: u.ServiceRequests, EndpointLimit: u.EndpointRequests,
	}
}

// engineOptions returns the engine's options but for what it reports to.
func engineOptions(h *config.HTTP, u *config.Upstream) proxy.Options {
	requests := h.KeepAliveRequests
	if requests == 0 {
		requests = math.MaxInt
	}
	return proxy.Options{
		Limits: limitsOf(h, u), Timeouts: timeoutsOf(h, u), MaxBody: orUnlimited(int64(h.Body)),
		MaxRequests: requests, MaxConnections: h.Connections, MaxPerAddress: h.AddressConnections,
		TrustedProxies: h.TrustedProxies, ProxyProtocol: h.AnnouncedFrom(), AllowHalfClose: h.AllowHalfClose,
		Spool:    bodies.SpoolerOptions{Dir: h.SpoolDir, MaxBytes: int64(h.SpoolSize), MaxFiles: h.SpoolFiles},
		Policies: config.Policies(), Upstream: upstreamOf(u),
	}
}

// detailOf returns the labels of metrics.
func detailOf(m *config.Metrics) observe.Detail {
	switch m.Detail {
	case "route":
		return observe.PerRoute
	case "namespace":
		return observe.PerNamespace
	}
	return observe.PerService
}

// metricsOptions returns the options of metrics but for what they ask others for.
func metricsOptions(m *config.Metrics, class string) (observe.MetricsOptions, error) {
	buckets, err := m.Seconds()
	if err != nil {
		return observe.MetricsOptions{}, err
	}
	o := observe.MetricsOptions{Buckets: buckets, Detail: detailOf(m), MaxSeries: orUnlimited(m.MaxSeries), Version: thisBuild().version}
	if m.Compat == "off" {
		return o, nil
	}
	pod := os.Getenv("POD_NAME")
	if pod == "" {
		// It is a label only: outside of a Pod, any name does that tells replicas apart.
		pod, _ = os.Hostname()
	}
	o.Nginx = observe.NginxOptions{On: true, Class: class, Namespace: os.Getenv("POD_NAMESPACE"), Pod: pod}
	return o, nil
}
