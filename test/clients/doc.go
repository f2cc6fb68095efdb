// Package clients holds Podlane to what real clients do: curl, a browser, nghttp and h2load, Node's http2, WebSocket libraries and
// testssl.sh talk to the command `podlane serve`, and a Pod in the test sees what arrives. A client that is not installed is skipped by
// name, but in CI, where cmd/install has installed it.
package clients
