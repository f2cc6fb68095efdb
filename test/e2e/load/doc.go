// Package load owns the clients of the end-to-end tests: steady streams of requests, over connections that are kept or not,
// that check every answer byte for byte and hide nothing. net/http's client is not used because it repeats requests that
// failed, which would hide what a test looks for. The package knows nothing of Kubernetes; what it is sent to must be the
// page /check of test/backend.
package load
