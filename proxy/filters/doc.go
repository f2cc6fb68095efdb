// Package filters owns the policies that annotations ask for: one file per family, holding its keys, docs, parsing and
// behaviour. It must not read Kubernetes objects, decide which route a request takes, or keep state that a Publish would
// lose; a filter that needs such state asks proxy/upstream for it.
//
// A family becomes part of the product by one line in config.Policies; the order of that list is the order in which
// filters run, on requests and on responses alike.
package filters
