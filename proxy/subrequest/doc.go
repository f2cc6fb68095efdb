// Package subrequest makes the proxy's own requests, beside those that it forwards: to services that authenticate clients, and copies for
// mirrors. It owns the connections to such services and bounds their number, the number of requests under way, and what is read of
// answers. It must not decide anything about the request of a client: it is handed the fields to send, and hands back a status and fields.
//
// It is the one place of the data path that speaks through net/http. What goes in has been validated by our codecs; what comes out is never
// passed on but for the values that somebody asks for, and those are validated here.
package subrequest
