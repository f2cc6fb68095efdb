// Package controllers reads the cluster and tells the proxy. It owns the watches and caches, the Snapshot that Build
// reads, the order in which addresses and tables are handed over, the leader's lease, Ingress status and Events.
//
// It must not know the proxy or TLS (it meets them as a [DataPlane]), decide what an Ingress means (router/ingress does), or keep any
// state that a restart could not rebuild from the API server.
//
// # How a change flows
//
// A mirror keeps the objects of every watched kind as the informers' own pointers. Each change but those of endpoints
// wakes the table controller through one constant request; it builds, lets the DataPlane prepare pools, fills the new
// ones with addresses, and publishes. An endpoint change wakes the endpoints controller with one request per Service and never
// touches the table. Both run on every replica. Status and Events are written by the replica that holds the lease; losing it
// (the API server may be away for minutes) stops the writing and nothing else, which is why the manager's own leader
// election, which ends the process, is not used.
//
// # Access
//
// The verbs below are all that is used; chart and config/rbac repeat them. With [Options].Namespaces set, everything but ingressclasses and
// nodes can be granted by Roles in those namespaces; ingressclasses are optional then (see [Options]). Leases are needed in the namespace of
// the lease, pods and nodes only for [StatusOptions].Nodes. ConfigMaps but for the operator's own are optional: where they may not be listed, those that
// annotations and settings name are not found.
//
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses;ingressclasses,verbs=get;list;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=services;endpoints;secrets;configmaps,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get
package controllers
