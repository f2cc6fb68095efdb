// Package http1 is Podlane's HTTP/1.1 codec (RFC 9112): the server side, which reads requests and writes responses, and the
// client side, which writes requests and reads responses. It owns the bytes of a connection and the framing of messages; it
// knows nothing of routes, Pods or policies. Its parsers work in place in the connection's buffer, give the same result for any
// split of the input, and are stricter than most peers on purpose: see the contract in HTTP.md.
package http1

import "podlane.dev/podlane/proxy/exchange"

// Limits bound what a peer may send. The zero value of a field means the default given beside it.
type Limits struct {
	// RequestLine in bytes (8 KiB): a longer one is 414.
	RequestLine int
	// HeaderBlock in bytes (32 KiB) and Fields (100) of a request: more is 431.
	HeaderBlock, Fields int
	// ResponseHead in bytes (64 KiB) and ResponseFields (256) of a Pod's answer: more is 502.
	ResponseHead, ResponseFields int
	// Underscores says what happens to request fields with "_" in the name.
	Underscores Underscores
	// Yield lets other goroutines run before the first look for a message. What was just answered, or asked, takes its time:
	// by then it is often there, which spares a fruitless read, a wait and a wake-up. Yielding takes a lock that all processors share, so
	// it is for processes with few of them.
	Yield bool
}

// Underscores is what happens to request fields with "_" in their names, which CGI-like applications confuse with "-".
type Underscores uint8

// The ways to treat such fields.
const (
	DropUnderscores Underscores = iota
	RejectUnderscores
	KeepUnderscores
)

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.RequestLine, 8<<10)
	def(&l.HeaderBlock, 32<<10)
	def(&l.Fields, 100)
	def(&l.ResponseHead, 64<<10)
	def(&l.ResponseFields, 256)
	return l
}

const (
	maxName        = 256
	maxMethod      = 64
	maxEmptyLines  = 2
	maxTrailer     = 8 << 10
	maxTrailers    = 32
	maxChunkExt    = 256
	maxChunkExcess = 16 << 10
)

// The rules of the contract whose violation refuses a request. They are compared by identity.
var (
	errLineEnding   = &exchange.Reject{Status: 400, Detail: "line does not end in CRLF"}
	errEmptyLines   = &exchange.Reject{Status: 400, Detail: "too many empty lines before the request"}
	errRequestLine  = &exchange.Reject{Status: 400, Detail: "malformed request line"}
	errTargetChar   = &exchange.Reject{Status: 400, Detail: "forbidden character in the request target"}
	errVersion      = &exchange.Reject{Status: 400, Detail: "malformed protocol version"}
	errVersionNot1  = &exchange.Reject{Status: 505, Detail: "HTTP version not supported"}
	errURITooLong   = &exchange.Reject{Status: 414, Detail: "request line too long"}
	errHeaderLarge  = &exchange.Reject{Status: 431, Detail: "header block too large"}
	errHeaderCount  = &exchange.Reject{Status: 431, Detail: "too many header fields"}
	errFold         = &exchange.Reject{Status: 400, Detail: "white space before a header field"}
	errFieldName    = &exchange.Reject{Status: 400, Detail: "malformed header field name"}
	errFieldValue   = &exchange.Reject{Status: 400, Detail: "forbidden character in a header field value"}
	errUnderscore   = &exchange.Reject{Status: 400, Detail: "underscore in a header field name"}
	errLength       = &exchange.Reject{Status: 400, Detail: "malformed Content-Length"}
	errLengthTwice  = &exchange.Reject{Status: 400, Detail: "repeated Content-Length"}
	errCoding       = &exchange.Reject{Status: 400, Detail: "malformed Transfer-Encoding"}
	errCodingNot    = &exchange.Reject{Status: 501, Detail: "transfer coding not supported"}
	errCodingLength = &exchange.Reject{Status: 400, Detail: "Transfer-Encoding beside Content-Length"}
	errCoding10     = &exchange.Reject{Status: 400, Detail: "Transfer-Encoding in an HTTP/1.0 request"}
	errBody10       = &exchange.Reject{Status: 400, Detail: "body on an HTTP/1.0 request of this method"}
	errChunk        = &exchange.Reject{Status: 400, Detail: "malformed chunk"}
	errChunkExcess  = &exchange.Reject{Status: 400, Detail: "too much chunk overhead"}
	errTrailer      = &exchange.Reject{Status: 400, Detail: "malformed or too large trailer section"}
)
