// Package router decides which Route a request belongs to. It owns the Table (what a set of Ingresses compiled to), the
// canonical form of paths, and the Table's text form. It knows nothing of Kubernetes objects, of HTTP messages and of
// connections: router/ingress makes Tables, the proxy reads them.
//
// Everything here is immutable once it is built, and shared between Tables: a Table that differs in one host shares all
// other hosts with the one before.
package router
