// Package preamble reads what comes before HTTP on a connection: the header of the PROXY protocol, by which a load balancer says for whom
// it speaks, and the ClientHello of TLS, in which a client says which host it wants. It looks at bytes that the caller has
// read, and says when it needs more of them. It consumes nothing, keeps no time, does no I/O and knows no HTTP.
//
// Both readers give the same verdict however the bytes were split on their way.
package preamble

import "errors"

// ErrShort says that what has come so far may be the beginning of something valid: the caller should read more and ask again.
var ErrShort = errors.New("more bytes are needed")
