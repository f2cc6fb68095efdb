// Package floods attacks a running engine over HTTP/2, through TLS and real sockets, as D4 to D10 of the design's security page say: resets,
// header blocks without an end, bombs, frames that mean nothing, windows that stay shut, frames that are none, keys that change again and
// again. Each test holds the engine to three things: the p99 of another client at most doubles, memory grows by less than 64 MB, and the
// attacker's connection ends within 5 s. And the package holds the engine to what is not to be taken for an attack.
//
// The engine has the test's process for itself. The attacker, the Pod that it attacks, the other client and its Pod are processes of
// their own with ranks of their own, so that what is measured is what the engine lets an attacker cost, and not what the attacker's
// machine and the attacked Pod's would do if they were this one. The other client asks at a fixed pace. What differs between before and
// during is the attack alone: the processors are busy in both. Times on a machine that others share are bad now and then, so a test that
// fails by a time is made again, up to five times: what is wrong with the engine is so every time.
//
// The package holds tests only.
package floods
