// Package floods attacks a running engine over HTTP/2, through TLS and real sockets, as D4 to D9 of the design's security page say: resets,
// header blocks without an end, bombs, frames that mean nothing, windows that stay shut, frames that are none. Beside each attacker an
// ordinary client makes requests, and each test holds the engine to three things: the ordinary client is served about as fast as before,
// memory stays bounded, and the attacker's connection ends. And it holds the engine to what is not to be taken for an attack.
//
// The package holds tests only.
package floods
