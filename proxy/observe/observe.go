// Package observe owns what the proxy says about itself and its traffic: the access log, and the metrics behind
// /metrics. Whoever serves a request only adds to counters that were resolved when its Route was published, and copies a
// line into a queue: nothing here waits, looks a label up, or allocates per request. The package serves no HTTP, and
// takes label values only from declared objects and from the program's own closed sets, never from a request.
package observe
