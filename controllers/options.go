package controllers

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// BuildFunc turns a Snapshot into a Table. It must be pure as Builder.Build is; it is called by one goroutine at a time,
// and a panic in it keeps the live Table. Returning the very Table that it returned last says that nothing changed.
type BuildFunc func(ingress.Snapshot) (*router.Table, []ingress.Problem)

// AddressFunc turns one Service and what the cluster says about its endpoints into addresses by port name. slices are
// sorted by name; endpoints is nil where there is no core Endpoints object of that name. It must be pure; several
// goroutines call it at a time.
type AddressFunc func(s *corev1.Service, slices []*discoveryv1.EndpointSlice, endpoints *corev1.Endpoints) map[string][]router.Address

// DataPlane is the proxy as the controllers see it. Prepare and Publish are called by one goroutine, SetAddresses by
// several at a time, but never by two for the same Service. None may block on the network.
type DataPlane interface {
	// Prepare makes the pools that t needs and returns the Services that have a new one: their addresses are set before Publish.
	Prepare(t *router.Table) []router.Service
	// SetAddresses replaces the addresses of one Service: key of byPort is the port name. Ports without entry have none.
	// Services without a pool are ignored.
	SetAddresses(s router.Service, byPort map[string][]router.Address)
	// Publish makes t live.
	Publish(t *router.Table)
}

// Observer is told what happens, for metrics. Any field may be nil. The functions are called synchronously, some by several
// goroutines at a time, and must return at once.
type Observer struct {
	// OnPublish is told of each published Table: its generation (1, 2, …), how long Build took, and the time from the
	// first watch event that it contains until it was live (for generation 1: since the mirror was complete).
	OnPublish func(generation uint64, build, eventToLive time.Duration)
	// OnProblems is told the Problems whenever the list changes. It must not change what it gets.
	OnProblems func(problems []ingress.Problem)
	// OnAddresses is told of each SetAddresses that an endpoint change caused, with the time since the first watch event it contains.
	OnAddresses func(s router.Service, eventToSet time.Duration)
	// OnBuildPanic is told of each Build that panicked, with the recovered value.
	OnBuildPanic func(recovered any)
	// OnBrake is told of each step that removes more than Options.Brake allows, and of the end of each that was held.
	OnBrake func(BrakeStep)
	// OnLeading is told when this replica starts or stops to hold the lease.
	OnLeading func(leading bool)
}

// Options are the operator's settings. The zero value watches every namespace, has no election and writes no status.
type Options struct {
	// Namespaces restricts every namespaced watch; empty means all. With it, a replica that may not list IngressClasses
	// goes on without them: Ingresses of the class name Ingress.IngressClass are taken then, whatever an IngressClass says, and
	// with Ingress.ClaimNginx those of the class name nginx as ingress-nginx's.
	Namespaces []string
	// Ingress is part of every Snapshot. Its DefaultBackend, DefaultCertificate, TicketKeys and Settings are watched wherever they are. Other
	// ConfigMaps that annotations or the settings name are read in the namespaces where ConfigMaps may be listed.
	Ingress ingress.Options
	// Remember is Builder.Remember of the Builder whose Build is used, and is called after each; nil lets no earlier form of an object stand in for
	// one that a change broke.
	Remember func(*ingress.LastGood) []types.NamespacedName
	// Status says what is written to Ingresses.
	Status StatusOptions
	// Election says how replicas agree on the one that writes status and Events.
	Election ElectionOptions
	// Brake says what is too much to lose in one step.
	Brake BrakeOptions
	// Observer is told what happens.
	Observer Observer
}

// StatusOptions say where the addresses in the status of Ingresses come from. The first source that is set wins: Addresses,
// PublishService, Nodes. Without one, status is never written.
type StatusOptions struct {
	// Update turns the writing on (--update-status).
	Update bool
	// Addresses are IP addresses and host names to publish as they are (--publish-status-address).
	Addresses []string
	// PublishService is the Service in front of the proxy (--publish-service). Its addresses are chosen by its type as
	// ingress-nginx does: see statusOfService.
	PublishService types.NamespacedName
	// Nodes publishes the addresses of the nodes on which this Deployment's Pods run. nil means no.
	Nodes *NodeAddresses
	// RemoveOnShutdown empties the status of every owned Ingress when the leader stops and no other Pod of its
	// Deployment runs. It needs Self. Off by default: a rolling restart must not make the addresses flicker in DNS.
	RemoveOnShutdown bool
	// Self is this Pod (POD_NAMESPACE, POD_NAME), by whose labels its siblings are found.
	Self types.NamespacedName
}

// NodeAddresses say which addresses of a node are published. They need StatusOptions.Self.
type NodeAddresses struct {
	// Internal prefers InternalIP to ExternalIP (--report-node-internal-ip-address).
	Internal bool
}

// ElectionOptions are the lease by which one replica becomes the writer of status and Events.
type ElectionOptions struct {
	// Disabled makes this replica the leader without a lease: right for a single replica only.
	Disabled bool
	// Namespace and ID name the Lease (coordination.k8s.io/v1). Without an ID the election is disabled.
	Namespace, ID string
	// Identity is this replica; empty means the host name with a random suffix.
	Identity string
	// LeaseDuration is how long a lost leader is waited for; 0 means 15 s. A leader that cannot renew gives up after two
	// thirds of it.
	LeaseDuration time.Duration
}
