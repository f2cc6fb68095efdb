// Package bodies holds implementations of exchange.Body that wrap or keep another: a Spool keeps a request's body so that it can be sent
// again, Compression makes an answer's shorter, and a Throttle slows one down.
//
// Each is pulled by the goroutine of its exchange and starts none of its own, so that backpressure stays what it is: nothing is read that
// nobody asked for. What a body takes for its exchange, memory of a pool or a file, it gives back when it has been read to its end, and
// otherwise when the exchange ends, by exchange.Own. Nothing here parses annotations or knows routes: settings come as values.
package bodies
