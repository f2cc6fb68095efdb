package controllers

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// This file answers whether a change of an object is live on this replica. What counts is what requests are answered by: an object
// is live in a version when the Table that was stored last was built from it in that version, or in one from which Build makes the same. The second
// half is for writes that change nothing that is served, those of status above all: no Table is built for them.

// Version is a version of an object; the zero Version is that there is none. Resource versions of one kind can be compared.
type Version struct{ UID, ResourceVersion string }

// Applied is what this replica has made of one object.
type Applied struct {
	// Generation is the number of the live Table.
	Generation uint64
	// Watched says that objects of that namespace are read at all.
	Watched bool
	// Seen is what the API server told of it last, Live the newest version by which requests are answered. Where the object is gone but still
	// served, Seen is zero and Live is not.
	Seen, Live Version
	// Used says that the live Table needs it: an Ingress because it is ours, others because one that is ours, or an option, names them.
	Used bool
	// Problems are those of the live Table that are about the object.
	Problems []ingress.Problem
	// Slices are the resource versions of a used Service's EndpointSlices, by name, whose addresses requests go to.
	Slices map[string]string
}

// publication is a Table that is live, with what it was built from.
type publication struct {
	generation uint64
	table      *router.Table
	snapshot   ingress.Snapshot
	problems   []ingress.Problem
}

// Applied returns what this replica has made of an object. kind is Ingress, Service, Secret or ConfigMap; others are an error, and so is
// asking before there is a Table.
func (c *Controllers) Applied(kind string, name types.NamespacedName) (Applied, error) {
	if c.publisher.live.Load() == nil {
		return Applied{}, c.publisher.ready()
	}
	var a Applied
	// What was seen is read before what is live: a Table that is published in between can only be newer.
	var fill func(*publication)
	switch kind {
	case "Ingress":
		seen := c.mirror.ingresses.find(name)
		fill = func(p *publication) { a.ofIngress(p, seen, name) }
	case "Service":
		seen := c.mirror.services.find(name)
		fill = func(p *publication) { a.ofService(p, seen, name, c.addresses) }
	case "Secret":
		a.Seen, a.Used = c.mirror.secrets.seen(name)
		fill = func(p *publication) { a.Live = versionOf(findIn(p.snapshot.Secrets, name)) }
	case "ConfigMap":
		a.Seen, a.Used = c.mirror.configMaps.seen(name)
		if settings, _ := parseName(c.options.Ingress.Settings); settings == name {
			a.Seen, a.Used = versionOf(c.mirror.settings.find(name)), true
		}
		fill = func(p *publication) { a.Live = versionOf(findIn(p.snapshot.ConfigMaps, name)) }
	default:
		return Applied{}, fmt.Errorf("nothing is known of the kind %q: ask for Ingress, Service, Secret or ConfigMap", kind)
	}
	p := c.publisher.live.Load()
	fill(p)
	a.Generation = p.generation
	a.Watched = len(c.options.Namespaces) == 0 || slices.Contains(c.options.Namespaces, name.Namespace) || a.Seen != Version{}
	return a, nil
}

func (a *Applied) ofIngress(p *publication, seen *networkingv1.Ingress, name types.NamespacedName) {
	a.Seen = versionOf(seen)
	live := findIn(p.snapshot.Ingresses, name)
	a.Live = versionOf(live)
	if live != nil && seen != nil && ingress.SameIngress(seen, live) {
		a.Live = newer(a.Live, a.Seen)
	}
	a.Used = live != nil && ingress.NewOwnership(p.snapshot.Classes, p.snapshot.Options).Owns(live)
	for _, problem := range p.problems {
		if o := problem.Object; o.Kind == "Ingress" && o.Namespace == name.Namespace && o.Name == name.Name {
			a.Problems = append(a.Problems, problem)
		}
	}
}

// ofService: a Service is live in the Table, and in the addresses that its pool has.
func (a *Applied) ofService(p *publication, seen *corev1.Service, name types.NamespacedName, addresses *addresses) {
	a.Seen = versionOf(seen)
	live := findIn(p.snapshot.Services, name)
	a.Live = versionOf(live)
	if live != nil && seen != nil && ingress.SameService(seen, live) {
		a.Live = newer(a.Live, a.Seen)
	}
	a.Used = uses(p.table, router.Service{Namespace: name.Namespace, Name: name.Name})
	handed, ok := addresses.handedOver(router.Service{Namespace: name.Namespace, Name: name.Name})
	if !a.Used || !ok {
		return
	}
	a.Slices = make(map[string]string, len(handed.slices))
	for _, s := range handed.slices {
		a.Slices[s.Name] = s.ResourceVersion
	}
	if handed.service == nil || seen == nil || !ingress.SameService(seen, handed.service) {
		a.Live = older(a.Live, versionOf(handed.service))
	}
}

// uses says whether a Route of t names a Service.
func uses(t *router.Table, s router.Service) bool {
	for r := range t.Routes() {
		of := func(b router.Backend) bool { return b.Service.Service() == s }
		if slices.ContainsFunc(r.Backends, of) || r.ErrorBackend != nil && of(*r.ErrorBackend) {
			return true
		}
	}
	return false
}

// versionOf returns the version of an object, which may be nil.
func versionOf[T object](o T) Version {
	var none T
	if o == none {
		return Version{}
	}
	return Version{UID: string(o.GetUID()), ResourceVersion: o.GetResourceVersion()}
}

// findIn returns the object of a name, or nil.
func findIn[T object](list []T, name types.NamespacedName) T {
	var none T
	for _, o := range list {
		if o != none && client.ObjectKeyFromObject(o) == name {
			return o
		}
	}
	return none
}

// newer returns the newer of two versions of a kind, a where that cannot be told.
func newer(a, b Version) Version {
	if order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion); err == nil && order < 0 {
		return b
	}
	return a
}

// older returns the older of two versions, which is none where one of them is.
func older(a, b Version) Version {
	if a == (Version{}) || newer(a, b) == a {
		return b
	}
	return a
}
