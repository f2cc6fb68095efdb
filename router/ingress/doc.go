// Package ingress turns Ingress objects, and the Services, Secrets and classes that they refer to, into a router.Table. It
// is the only reader of Ingress objects, and it owns the rules by which they are told apart, checked and merged: which are
// ours, who wins where two claim the same path or host name, what becomes of a mistake.
//
// Build is a function of its arguments alone: no clock, no I/O, no logger, no package state; it never writes to an object.
// A mistake is a Problem, never an error: a table always comes out, and a bad rule never takes its neighbours along.
// Builder remembers what it compiled, so that one changed Ingress costs its own hosts only; its result always equals
// Build's.
//
// # Who wins
//
// The older Ingress wins by creationTimestamp, then by namespace and name, wherever two claim one thing. For one host, path
// and type the loser's path is dropped. For a host's default backend, and for the catch-all, the loser's default is not
// used. For the certificate of a host, an Ingress in the namespace of the host's owner (who has the oldest rule for it)
// comes before all others, and one that lists the host in spec.tls before one that lists none. The loser gets a Problem
// that names the winner.
//
// # What is dropped and what is denied
//
// A path, host or type that cannot be is dropped: requests go where they would go without that rule. A path whose backend
// cannot answer, or whose security policy does not parse, is kept and answers 503: its requests belong to it, and must not
// reach somebody else's prefix. An Ingress beyond the limits of MaxPaths and MaxTLSHosts is refused as a whole: with some
// of its paths left out, others of it would get requests that they were never meant to get.
//
// # What a change broke
//
// An Ingress that its own text closes or refuses as a whole stands in its last good form, and so does the operator's ConfigMap where a value would
// close every route. See LastGood for what that may never do. Reading one Ingress may even panic: it costs that Ingress only.
package ingress
