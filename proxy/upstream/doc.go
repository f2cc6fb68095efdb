// Package upstream owns everything that the proxy remembers about Pods: the Registry of Pools by ServicePort, their
// Endpoints with in-flight counts, passive health and idle connections, the balancers, the retry budget, and the addresses
// of ExternalName Services.
//
// Addresses come in by Registry.SetAddresses, in a time that depends on one Service only; a request reads one immutable
// view of its Pool's members by one atomic load and then touches nothing but the Endpoint that it chose. No lock is shared
// by requests to different Endpoints.
//
// The package must not know of Ingress objects, tables or HTTP framing, must not look at DNS while a request waits, and
// must not retry by itself: it gives the engine an Endpoint, a connection, a typed failure and a budget.
package upstream
