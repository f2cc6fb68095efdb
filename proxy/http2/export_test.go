package http2

import "golang.org/x/net/http2"

// CodeOf returns the code with which we have ended a connection for the error that Serve returned; ok is false where the peer, or the
// network, ended it.
func CodeOf(err error) (code http2.ErrCode, ok bool) {
	code, _, ok = verdict(err)
	return code, ok
}
