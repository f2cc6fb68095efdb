package ingress

import (
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// Build returns the Table that s stands for, and the mistakes in it, sorted. It is pure: equal Snapshots give equal Tables
// and Problems, whatever the order of their slices. families are the annotations that have a meaning, in the order in
// which a Route has their values; policy.Validate must have nothing to say about them.
func Build(s Snapshot, families []policy.Family) (*router.Table, []Problem) {
	return NewBuilder(families).Build(s)
}

// Builder builds one Snapshot after the other, and remembers what each Ingress and each host came to, so that a Build costs
// what changed since the last. Its result always equals that of Build. It is used by one goroutine at a time.
//
// What did not change is the same pointer in the next Table: Routes, Hosts, Certificates, and the Table itself where
// nothing changed at all.
type Builder struct {
	families []policy.Family

	ingresses memory[networkingv1.Ingress]
	services  memory[corev1.Service]
	secrets   memory[corev1.Secret]
	classes   memory[networkingv1.IngressClass]
	// configMaps are those that policies name, and the operator's.
	configMaps memory[corev1.ConfigMap]
	// pairs and authorities are what Secrets that were read parsed to.
	pairs       map[types.NamespacedName]keyPair
	authorities map[types.NamespacedName]authority
	// environment is what every Ingress depends on; nil before the first Build.
	environment *sources
	// settingsObject is the operator's ConfigMap that environment was made by.
	settingsObject *corev1.ConfigMap

	compiled map[types.NamespacedName]*compiled
	// readers are the Ingresses that read a Service, a Secret or a ConfigMap, there or not.
	serviceReaders, secretReaders, configMapReaders map[types.NamespacedName][]types.NamespacedName
	hosts                                           map[string]*hostState
	names                                           map[string]*nameState
	aliases                                         map[string]*aliasState
	defaults                                        []*compiled // those with a default backend, sorted
	certificates                                    map[types.NamespacedName][]*router.Certificate
	problems                                        *ledger
	table                                           *router.Table
	// stands is a time in which nothing of compiled becomes outdated.
	stands validity
	// lastGood and taken are of the present Snapshot; lessons and goodSettings are what Remember writes down.
	lastGood     *LastGood
	taken        time.Time
	lessons      []lesson
	first        bool // the present Build is the first one
	goodSettings goodForm[corev1.ConfigMap]
	// building is set while a Build runs: one that finds it set comes after one that panicked, and trusts nothing.
	building bool
}

// NewBuilder returns a Builder that remembers nothing yet. The caller must not change families any more.
func NewBuilder(families []policy.Family) *Builder {
	return &Builder{
		families: families,
		ingresses: memory[networkingv1.Ingress]{
			name:   func(o *networkingv1.Ingress) types.NamespacedName { return nameOf(o.Namespace, o.Name) },
			before: func(a, b *networkingv1.Ingress) int { return compareCopies(a, b, &a.ObjectMeta, &b.ObjectMeta) },
			same:   sameIngress,
		},
		services: memory[corev1.Service]{
			name:   func(o *corev1.Service) types.NamespacedName { return nameOf(o.Namespace, o.Name) },
			before: func(a, b *corev1.Service) int { return compareCopies(a, b, &a.ObjectMeta, &b.ObjectMeta) },
			same:   func(a, b *corev1.Service) bool { return reflect.DeepEqual(a.Spec, b.Spec) },
		},
		secrets: memory[corev1.Secret]{
			name:   func(o *corev1.Secret) types.NamespacedName { return nameOf(o.Namespace, o.Name) },
			before: func(a, b *corev1.Secret) int { return compareCopies(a, b, &a.ObjectMeta, &b.ObjectMeta) },
			same:   sameSecret,
		},
		classes: memory[networkingv1.IngressClass]{
			name:   func(o *networkingv1.IngressClass) types.NamespacedName { return nameOf("", o.Name) },
			before: func(a, b *networkingv1.IngressClass) int { return compareCopies(a, b, &a.ObjectMeta, &b.ObjectMeta) },
			same:   sameClass,
		},
		configMaps: memory[corev1.ConfigMap]{
			name:   func(o *corev1.ConfigMap) types.NamespacedName { return nameOf(o.Namespace, o.Name) },
			before: func(a, b *corev1.ConfigMap) int { return compareCopies(a, b, &a.ObjectMeta, &b.ObjectMeta) },
			same:   sameConfigMap,
		},
		pairs:            make(map[types.NamespacedName]keyPair),
		authorities:      make(map[types.NamespacedName]authority),
		compiled:         make(map[types.NamespacedName]*compiled),
		serviceReaders:   make(map[types.NamespacedName][]types.NamespacedName),
		secretReaders:    make(map[types.NamespacedName][]types.NamespacedName),
		configMapReaders: make(map[types.NamespacedName][]types.NamespacedName),
		hosts:            make(map[string]*hostState),
		names:            make(map[string]*nameState),
		aliases:          make(map[string]*aliasState),
		certificates:     make(map[types.NamespacedName][]*router.Certificate),
		problems:         newLedger(),
		table:            new(router.Table),
	}
}

// Build returns the Table that s stands for, and the mistakes in it, sorted. The caller must not change the slice.
func (b *Builder) Build(s Snapshot) (*router.Table, []Problem) {
	if b.building {
		*b = *NewBuilder(b.families)
	}
	b.building = true
	b.lastGood, b.taken, b.lessons, b.first = s.LastGood, s.Taken, nil, b.environment == nil
	d := &delta{hosts: make(set[string]), names: make(set[string]), aliases: make(set[string]), certificates: make(set[types.NamespacedName])}
	for _, i := range b.stale(s) {
		b.replace(i, d)
	}
	b.decideNames(d)
	change := router.Change{DefaultCertificate: b.defaultCertificate(), TicketKeys: b.ticketKeys(), Globals: b.environment.policies.settings.globals, Compat: s.Options.answersAsNginx()}
	change.Certificates = b.mergeCertificates(d)
	b.mergeHosts(d, &change)
	b.mergeAliases(d, &change)
	change.CatchAll = b.catchAll()
	if len(change.Hosts)+len(change.Remove) > 0 || d.certificatesChanged ||
		change.CatchAll != b.table.CatchAll() || change.DefaultCertificate != b.table.DefaultCertificate() || change.TicketKeys != b.table.TicketKeys() ||
		!sameValues(change.Globals, b.table.Globals()) || change.Compat != b.table.Compat() {
		b.table = b.table.With(change)
	}
	b.building = false
	return b.table, b.problems.all()
}

// delta is what one Build has to look at again.
type delta struct {
	hosts, names        set[string]
	aliases             set[string]
	certificates        set[types.NamespacedName] // the Ingresses whose certificates to merge
	certificatesChanged bool
}

type set[T comparable] map[T]struct{}

func (s set[T]) add(v T) { s[v] = struct{}{} }

func (s set[T]) has(v T) bool {
	_, ok := s[v]
	return ok
}

// stale takes the new Snapshot in and returns the names of the Ingresses to compile, the oldest first, so that whatever is
// kept sorted by age grows at its end.
func (b *Builder) stale(s Snapshot) []types.NamespacedName {
	names := make(set[types.NamespacedName])
	for _, name := range b.ingresses.update(s.Ingresses) {
		names.add(name)
	}
	for _, name := range b.services.update(s.Services) {
		for _, reader := range b.serviceReaders[name] {
			names.add(reader)
		}
	}
	for _, name := range b.secrets.update(s.Secrets) {
		delete(b.pairs, name)
		delete(b.authorities, name)
		for _, reader := range b.secretReaders[name] {
			names.add(reader)
		}
	}
	for _, name := range b.configMaps.update(s.ConfigMaps) {
		for _, reader := range b.configMapReaders[name] {
			names.add(reader)
		}
	}
	if b.updateEnvironment(s) {
		for name := range b.ingresses.objects {
			names.add(name)
		}
		for name := range b.compiled {
			names.add(name)
		}
	}
	b.environment.taken = s.Taken
	for _, c := range b.outdated(s.Taken) {
		names.add(c.age.name)
	}
	ages := make([]age, 0, len(names))
	for name := range names {
		a := age{name: name}
		if i := b.ingresses.find(name); i != nil {
			a.created = i.CreationTimestamp.Time
		}
		ages = append(ages, a)
	}
	slices.SortFunc(ages, age.compare)
	sorted := make([]types.NamespacedName, len(ages))
	for i, a := range ages {
		sorted[i] = a.name
	}
	return sorted
}

// updateEnvironment renews what every Ingress depends on, and says whether that is other than before.
func (b *Builder) updateEnvironment(s Snapshot) bool {
	classes := b.classes.update(s.Classes)
	var defaultPair keyPair
	if name, ok := splitName(s.Options.DefaultCertificate); ok {
		defaultPair, _ = b.keyPair(name)
	}
	var settings *corev1.ConfigMap
	if name, ok := splitName(s.Options.Settings); ok {
		settings = b.configMaps.find(name)
	}
	if e := b.environment; e != nil && len(classes) == 0 && e.defaultPair.pair == defaultPair.pair && reflect.DeepEqual(e.options, s.Options) &&
		b.sameSettings(settings) {
		e.defaultPair = defaultPair
		return false
	}
	var oldDefault string
	if b.environment != nil {
		oldDefault = b.environment.options.DefaultCertificate
	}
	options := s.Options
	options.AnnotationPrefixes = slices.Clone(options.AnnotationPrefixes)
	b.environment = &sources{
		options: options, ownership: NewOwnership(s.Classes, options), policies: b.readSettings(options, settings),
		service: b.services.find, secret: b.secrets.find, keyPair: b.keyPair, authority: b.authority, defaultPair: defaultPair,
	}
	if name, ok := splitName(oldDefault); ok {
		b.forget(name)
	}
	return true
}

// keyPair returns what a Secret parsed to, once for each content; ok is false if there is no such Secret.
func (b *Builder) keyPair(name types.NamespacedName) (pair keyPair, ok bool) {
	s := b.secrets.find(name)
	if s == nil {
		return keyPair{}, false
	}
	pair, ok = b.pairs[name]
	if !ok {
		pair = parseSecret(s)
		b.pairs[name] = pair
	}
	return pair, true
}

// authority returns what a Secret parsed to as an authority, once for each content; ok is false if there is no such Secret.
func (b *Builder) authority(name types.NamespacedName) (a authority, ok bool) {
	s := b.secrets.find(name)
	if s == nil {
		return authority{}, false
	}
	a, ok = b.authorities[name]
	if !ok {
		a = parseAuthority(s)
		b.authorities[name] = a
	}
	return a, true
}

// replace compiles one Ingress, if it is there and ours, in place of what it was before.
func (b *Builder) replace(name types.NamespacedName, d *delta) {
	old := b.compiled[name]
	var next *compiled
	var orphan []Problem
	switch i := b.ingresses.find(name); {
	case i == nil:
	case b.environment.ownership.Owns(i):
		next = b.compile(i, old)
	default:
		orphan = b.environment.ownership.orphan(i)
	}
	if old != nil {
		b.remove(old, d)
	}
	if next != nil {
		b.add(next, d)
	} else {
		delete(b.compiled, name)
		b.learn(name, goodForm[networkingv1.Ingress]{})
	}
	var before, after compiled
	if old != nil {
		before = *old
	}
	if next != nil {
		after = *next
	}
	setReaders(b.serviceReaders, name, before.services, after.services)
	setReaders(b.secretReaders, name, before.secrets, after.secrets)
	setReaders(b.configMapReaders, name, before.configMaps, after.configMaps)
	for _, secret := range before.secrets {
		b.forget(secret)
	}
	b.problems.set(chunk{ingressChunk, name.Namespace, name.Name}, append(orphan, after.problems...))
}

// forget drops what a Secret parsed to that nobody reads any more.
func (b *Builder) forget(secret types.NamespacedName) {
	if len(b.secretReaders[secret]) > 0 {
		return
	}
	delete(b.authorities, secret)
	if secret.String() != b.environment.options.DefaultCertificate {
		delete(b.pairs, secret)
	}
}

// remove takes out the claims of an Ingress.
func (b *Builder) remove(c *compiled, d *delta) {
	for _, h := range c.hosts {
		b.hosts[h.host].remove(c)
		d.hosts.add(h.host)
	}
	for _, entry := range c.tls {
		for _, host := range entry.hosts {
			b.names[host].remove(c)
			d.names.add(host)
		}
	}
	b.removeAliases(c, d)
	if i, found := b.defaultIndex(c); found {
		b.defaults = slices.Delete(b.defaults, i, i+1)
	}
	d.certificates.add(c.age.name)
}

// add puts in the claims of an Ingress.
func (b *Builder) add(c *compiled, d *delta) {
	b.compiled[c.age.name] = c
	b.stands.narrow(c.stands)
	for _, h := range c.hosts {
		if b.hosts[h.host] == nil {
			b.hosts[h.host] = &hostState{}
		}
		b.hosts[h.host].add(c, h)
		d.hosts.add(h.host)
	}
	for _, entry := range c.tls {
		for _, host := range entry.hosts {
			if b.names[host] == nil {
				b.names[host] = &nameState{}
			}
			b.names[host].add(tlsClaim{c, entry})
			d.names.add(host)
		}
	}
	b.addAliases(c, d)
	if c.defaultBackend != nil && !c.canary.On {
		i, _ := b.defaultIndex(c)
		b.defaults = slices.Insert(b.defaults, i, c)
	}
	if len(c.tls) > 0 {
		d.certificates.add(c.age.name)
	}
}

// defaultIndex returns the place of c among those with a default backend.
func (b *Builder) defaultIndex(c *compiled) (int, bool) {
	return slices.BinarySearchFunc(b.defaults, c, func(o, c *compiled) int { return o.age.compare(c.age) })
}

// setReaders records what an Ingress reads now instead of what it read before; both lists are sorted.
func setReaders(readers map[types.NamespacedName][]types.NamespacedName, reader types.NamespacedName, before, after []types.NamespacedName) {
	if slices.Equal(before, after) {
		return
	}
	for _, name := range before {
		left := slices.DeleteFunc(readers[name], func(r types.NamespacedName) bool { return r == reader })
		if len(left) == 0 {
			delete(readers, name)
		} else {
			readers[name] = left
		}
	}
	for _, name := range after {
		readers[name] = append(readers[name], reader)
	}
}

func nameOf(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}
