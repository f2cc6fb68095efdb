// Package differential compares Podlane with other readers of HTTP/1.1: net/http, Node's parser (llhttp), nginx and HAProxy. What Podlane
// sends to a Pod each of them must read as one request, the same that Podlane read; and what Podlane accepts from a client strict
// llhttp must accept too: where two parsers disagree about where a message ends, requests are smuggled. The tests run over all examples of
// the contract and over mutations of them. Where an oracle differs for a reason that was looked at, exceptions_test.go says so.
//
// It holds tests alone.
package differential
