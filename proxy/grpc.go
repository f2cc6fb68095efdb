package proxy

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// gRPC clients look for a status in the trailers of an answer with HTTP status 200, and make little of others. So they get the proxy's own
// failures in that form: a response that is nothing but trailers ("Trailers-Only", PROTOCOL-HTTP2.md of the gRPC project).

// grpcStatus returns the gRPC status of one of HTTP, by the gRPC project's table (http-grpc-status-mapping.md), with RESOURCE_EXHAUSTED for what
// is too large.
func grpcStatus(http int) int {
	const unknown, permissionDenied, resourceExhausted, unimplemented, internal, unavailable, unauthenticated = 2, 7, 8, 12, 13, 14, 16
	switch http {
	case 400:
		return internal
	case 401:
		return unauthenticated
	case 403:
		return permissionDenied
	case 404:
		return unimplemented
	case 413, 431:
		return resourceExhausted
	case 429, 502, 503, 504:
		return unavailable
	}
	return unknown
}

// isGRPC reports whether the request is one of gRPC.
func isGRPC(x *exchange.Exchange) bool {
	return x.Request.Version == exchange.HTTP2 && grpcType(x.Request.Fields.Get(exchange.ContentType))
}

// grpcType reports whether t is the Content-Type of gRPC.
func grpcType(t []byte) bool {
	const kind = "application/grpc"
	if len(t) < len(kind) || !exchange.EqualFold(t[:len(kind)], kind) {
		return false
	}
	return len(t) == len(kind) || t[len(kind)] == '+' || t[len(kind)] == ';'
}

// grpcStatusOf returns the gRPC status of a stream that a Pod has broken (PROTOCOL-HTTP2.md, "Errors").
func grpcStatusOf(err error) int {
	const cancelled, permissionDenied, resourceExhausted, internal, unavailable = 1, 7, 8, 13, 14
	reset, ok := errors.AsType[*http2.ResetError](err)
	if !ok {
		return unavailable
	}
	switch reset.Code {
	case http2.Refused:
		return unavailable
	case http2.Cancel:
		return cancelled
	case http2.Calm:
		return resourceExhausted
	case http2.Insecure:
		return permissionDenied
	}
	return internal
}

// failedGRPC returns the gRPC status of a failure: that of its cause, unless the client's deadline is over. A Pod that keeps the deadline resets the stream a
// moment before the client gives up, and what the client must hear of is the deadline, as if it had counted itself.
func (s *session) failedGRPC(cause int) int {
	const deadlineExceeded = 4
	text, _ := s.x.Request.Fields.Lookup("Grpc-Timeout")
	if limit, ok := grpcTimeout(text); ok && time.Since(s.x.Timing.Start) >= limit {
		return deadlineExceeded
	}
	return cause
}

// grpcTimeout reads the value of grpc-timeout: at most 8 digits and a unit (PROTOCOL-HTTP2.md, "Requests").
func grpcTimeout(text []byte) (time.Duration, bool) {
	const most = 8
	if len(text) < 2 || len(text) > most+1 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[:len(text)-1]), 10, 32)
	if err != nil {
		return 0, false
	}
	units := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}
	unit, ok := units[text[len(text)-1]]
	if n > uint64(math.MaxInt64/time.Hour) {
		return math.MaxInt64, ok
	}
	return time.Duration(n) * unit, ok
}

// endGRPC ends an answer of gRPC that its Pod has broken after its head has left: with trailers that say so. It reports whether it could.
func (s *session) endGRPC(err error) bool {
	x := s.x
	if !isGRPC(x) || s.c.aborted.Load() {
		return false
	}
	t := &x.Response.Trailers
	t.Reset(nil)
	t.AddString("Grpc-Status", strconv.Itoa(s.failedGRPC(grpcStatusOf(err))))
	t.AddString("Grpc-Message", "the endpoint ended its answer early")
	s.c.enter(writingClient, s.e.timeouts.Stall)
	err = s.c.srv.Finish(x)
	return s.c.enter(working, 0) == unmarked && err == nil
}

// sayToGRPC gives an answer of the proxy's own the form in which gRPC clients understand it. The status of HTTP stays what is counted and
// logged.
func (s *session) sayToGRPC() {
	r := &s.x.Response
	if r.Status < 400 || !isGRPC(s.x) {
		return
	}
	var message string
	if t, ok := r.Body.(*exchange.Text); ok {
		message = strings.TrimSpace(t.S)
	}
	s.status = r.Status
	r.Fields.Reset(nil)
	r.Fields.SetString(exchange.ContentType, "application/grpc")
	r.Fields.AddString("Grpc-Status", strconv.Itoa(s.failedGRPC(grpcStatus(r.Status))))
	r.Fields.AddString("Grpc-Message", message)
	r.Status, r.Body = 200, nil
}
