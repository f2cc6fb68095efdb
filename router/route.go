package router

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/router/policy"
)

// PathType says how a Route's path is compared with the canonical path of a request.
// ImplementationSpecific of the Ingress API is Prefix by the time it reaches the Table.
type PathType uint8

// The path types of a Route.
const (
	// Prefix matches element by element: /foo matches /foo, /foo/ and /foo/bar, never /foobar.
	Prefix PathType = iota
	// Exact matches byte by byte, case-sensitively.
	Exact
	// Regex matches as the Route's Pattern says.
	Regex
)

// String returns the Ingress API's word for t.
func (t PathType) String() string {
	switch t {
	case Exact:
		return "Exact"
	case Regex:
		return "Regex"
	}
	return "Prefix"
}

// Service names a Kubernetes Service. It is comparable.
type Service struct{ Namespace, Name string }

// String returns namespace/name.
func (s Service) String() string { return s.Namespace + "/" + s.Name }

// ServicePort is the key of all endpoint state: one port of one Service. Port is the *name* of the
// Service's port, which is empty for the only, unnamed port of a Service (EndpointSlices use the same key).
// It is comparable.
type ServicePort struct{ Namespace, Name, Port string }

// Service returns the Service that p is a port of.
func (p ServicePort) Service() Service { return Service{p.Namespace, p.Name} }

// String returns namespace/name:port.
func (p ServicePort) String() string { return p.Namespace + "/" + p.Name + ":" + p.Port }

// RouteID is the key of per-route runtime state (counters, rate buckets). It is comparable. Host is "" for
// rules without a host, Path is the path as the user wrote it.
type RouteID struct {
	Namespace, Ingress, Host, Path string
	Type                           PathType
}

// Address is one place where a Service's port is served: what an EndpointSlice says about one endpoint and port.
// It is a plain value; the proxy keeps the runtime state of it as an Endpoint.
type Address struct {
	// AddrPort is the Pod's address and the container's port.
	AddrPort netip.AddrPort
	// UID is the UID of the Pod (targetRef), "" where the endpoint was made by hand. Together with AddrPort it
	// is the endpoint's identity, so that a Pod address that is handed to another Pod is another endpoint.
	UID string
	// Pod is the Pod's name ("" where unknown), for logs and explanations.
	Pod string
	// Node and Zone say where the Pod runs, "" where unknown.
	Node, Zone string
	// Ready endpoints get traffic. Serving and Terminating ones only while none is ready.
	Ready, Serving, Terminating bool
}

// Unavailable says why a Backend can never answer. The empty value means that it can.
type Unavailable string

// The reasons for which requests to a Backend are answered 503 without looking for an endpoint.
const (
	Available          Unavailable = ""
	ServiceNotFound    Unavailable = "ServiceNotFound"
	PortNotFound       Unavailable = "PortNotFound"
	ExternalNameDenied Unavailable = "ExternalNameDenied"
	ResourceBackend    Unavailable = "ResourceBackend"
	InvalidBackend     Unavailable = "InvalidBackend"
	// PodTLSUnusable: the Pods are spoken to over TLS, and what that needs, such as a Secret, cannot be used.
	PodTLSUnusable Unavailable = "PodTLSUnusable"
)

// Backend is a weighted Service port behind a Route.
type Backend struct {
	// Service is the key of the endpoints. Where the Backend is Unavailable, Port is what the Ingress says, even a number.
	Service ServicePort
	// Written is the port as the Ingress writes it, by name or number.
	Written string
	// Weight is relative to the other Backends of the Route; 1 where there is one Backend.
	Weight int
	// Unavailable is set where the Backend can never answer.
	Unavailable Unavailable
	// ExternalName is the DNS name of an ExternalName Service that the operator allows, with ExternalPort; else "".
	ExternalName string
	ExternalPort uint16
	// ClusterIP is the Service's own address and port where requests go there instead of to Pods, else the zero value. It is in the place of the
	// port's name in Service then, so that its endpoint is another than those.
	ClusterIP netip.AddrPort
	// Affinity is the timeout of the Service's sessionAffinity: ClientIP; 0 means none.
	Affinity time.Duration
	// Scheme is what the Pods speak, and TLS how, where that is over TLS; else nil.
	Scheme PodScheme
	TLS    *PodTLS
}

// Route is what one path of one rule of one Ingress compiled to. It is immutable, and shared by every Table
// in which its Ingress did not change, so that what hangs from it (see Attach) survives table swaps.
type Route struct {
	ID RouteID
	// UID is the Ingress's UID.
	UID string
	// Backends has at least one entry unless Denied is set. The first is the Ingress's own backend.
	Backends []Backend
	// Alternative is the canary that gets some of the requests, nil for none.
	Alternative *Alternative
	// ErrorBackend answers in place of Pods, as CustomErrors say; nil for none.
	ErrorBackend *Backend
	// Policies are the parsed annotation families that this route has, in the order of config.Policies.
	Policies []policy.Value
	// Denied, when not empty, is the reason why a security policy failed closed: every request gets 503.
	Denied string
	// HasCertificate says that the Table has a usable certificate for the Route's host, so that plain HTTP is
	// redirected to HTTPS unless a policy says otherwise.
	HasCertificate bool
	// Pattern is what paths are compared with where ID.Type is Regex, else nil.
	Pattern *Pattern
	// Compat says that the Route's host is read as ingress-nginx reads it: Pods get the path as the client sent it.
	Compat bool
	// AppendSlash says that requests are sent to the same path with a slash behind it (301), and nothing else.
	AppendSlash bool
	// SendTo is the host to which requests are sent, with the same URL otherwise, "" for none.
	SendTo string
	// Passthrough is set on the Route of the path / of a host whose TLS ends at its Pods: what it says holds for every path.
	Passthrough Passthrough
	// IsDefault marks defaultBackend routes: they match last, whatever the path.
	IsDefault bool
	// TLS is what the Route's host asks of its clients, nil for nothing. It is the same for all Routes of a host.
	TLS *TLSPolicy
	// Ciphers are the cipher suites that the Route's host offers, nil for those of all hosts. They are the same for all Routes of a host.
	Ciphers *TLSCiphers

	attachment atomic.Pointer[any]
}

// Covers says whether the Route's own path matches a canonical path, whatever other Routes its host has. A default covers all.
func (r *Route) Covers(path string) bool {
	if r.IsDefault {
		return true
	}
	if r.ID.Type == Regex {
		return r.Pattern.Matches(path)
	}
	own, _, err := CanonicalPathString(r.ID.Path)
	switch {
	case err != nil:
		return false
	case r.ID.Type == Exact:
		return own == path
	}
	own = strings.TrimSuffix(own, "/")
	return strings.HasPrefix(path, own) && (len(path) == len(own) || path[len(own)] == '/')
}

// Attach stores the proxy's compiled form of the Route: its filter chain, pools and counters. Only Publish may call it,
// before it stores a Table that holds the Route; requests that still hold an older Table may read Attachment meanwhile.
func (r *Route) Attach(compiled any) { r.attachment.Store(&compiled) }

// Attachment returns what Attach stored last, or nil. It may be called concurrently.
func (r *Route) Attachment() any {
	if a := r.attachment.Load(); a != nil {
		return *a
	}
	return nil
}

// Certificate binds server names to one key pair. It is immutable.
type Certificate struct {
	// Hosts are the names, lower-case, exact or with a leading "*." label, that the owner's spec.tls lists;
	// empty means the names in the certificate itself.
	Hosts []string
	// Namespace and Secret name the Secret.
	Namespace, Secret string
	// Owner is namespace/name of the Ingress that decides.
	Owner string
	// KeyPair is the parsed chain and key, with Leaf set. nil where the Secret is missing or broken: the
	// certificate store then keeps the last good one for the same Secret, or serves the default certificate.
	KeyPair *tls.Certificate
}
