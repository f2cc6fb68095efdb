package ingress

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Remembers returns how many things b holds for objects: none after a Snapshot without objects.
func (b *Builder) Remembers() int {
	objects := len(b.ingresses.objects) + len(b.services.objects) + len(b.secrets.objects) + len(b.classes.objects)
	objects += len(b.configMaps.objects) + len(b.configMaps.last)
	objects += len(b.ingresses.last) + len(b.services.last) + len(b.secrets.last) + len(b.classes.last)
	readers := len(b.serviceReaders) + len(b.secretReaders) + len(b.configMapReaders)
	merged := len(b.compiled) + len(b.hosts) + len(b.names) + len(b.aliases) + len(b.defaults) + len(b.certificates) + len(b.pairs) + len(b.authorities)
	return objects + readers + merged + len(b.problems.chunks) + len(b.problems.byObject) + len(b.problems.order) + len(b.problems.added) + b.table.Len()
}

// Interrupt leaves b as a Build that panicked does.
func (b *Builder) Interrupt() { b.building = true }

// Forms returns how many forms l holds.
func (l *LastGood) Forms() int {
	n := len(l.ingresses) + len(l.broken)
	if l.settings.object != nil {
		n++
	}
	return n
}

// Poison makes the merging of an Ingress's hosts panic.
func (b *Builder) Poison(name types.NamespacedName) { b.compiled[name].policies = nil }

// Break makes the reading of a Service panic.
func (b *Builder) Break(service types.NamespacedName) {
	find := b.services.find
	b.environment.service = func(name types.NamespacedName) *corev1.Service {
		if name == service {
			panic("broken")
		}
		return find(name)
	}
}

// KeyPairs returns how many parsed key pairs and authorities b holds.
func (b *Builder) KeyPairs() int { return len(b.pairs) + len(b.authorities) }
