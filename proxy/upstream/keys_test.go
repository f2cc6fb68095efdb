package upstream

import "podlane.dev/podlane/proxy/exchange"

// Keys of these tests: what annotations hash is package proxy's to say.

// Target hashes path and query as the client sent them, as nginx's $request_uri.
type Target struct{}

// Hash hashes x.Request.Target.
func (Target) Hash(x *exchange.Exchange) (uint64, bool) { return HashBytes(x.Request.Target), true }

// Hostname hashes the host that was asked for.
type Hostname struct{}

// Hash hashes x.Request.Hostname.
func (Hostname) Hash(x *exchange.Exchange) (uint64, bool) { return HashBytes(x.Request.Hostname), true }

// Field hashes the first value of the request field of this name.
type Field string

// Hash hashes the field's value; a request without the field has no hash.
func (f Field) Hash(x *exchange.Exchange) (uint64, bool) {
	v, ok := x.Request.Fields.Lookup(string(f))
	return HashBytes(v), ok
}
