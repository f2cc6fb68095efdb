package ingress

import (
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router/policy"
)

// This file lets an object that was broken by a change stand in the form that it had before.
//
// An object is held as a whole. Half of it could be neither what was meant nor what was there before: an old allow list beside the new
// "satisfy: any" lets clients in that neither form of the Ingress lets in, and the old annotations would guard a new path that they were never
// meant for.
//
// It is held only where that drops no protection: every policy that fails closed and that the broken form gives, well or badly, must have
// a value in the form before. Who writes an allow list for the first time, and badly, has said that the route is not for everyone.
//
// Nothing is held in place of what a value names (SECURITY.md B6). A Secret or ConfigMap that is missing closes the route, and so does one that turned
// into something unreadable: the old form of the Ingress is read with the objects of now. A password file or an authority is changed to shut somebody
// out, so serving on with the old one would undo just that. A certificate shuts nobody out, which is why tls/certs may serve an old one on.

// LastGood holds the last form of each Ingress, and of the operator's ConfigMap, that was not broken. It is an input of Build, and
// Builder.Remember alone writes to it. It is empty in a process that has just started. The zero value is ready. It is safe for concurrent use; the objects
// are shared and read-only.
type LastGood struct {
	mu        sync.Mutex
	ingresses map[types.NamespacedName]goodForm[networkingv1.Ingress]
	settings  goodForm[corev1.ConfigMap]
	// broken are the Ingresses whose last good form is not their present one.
	broken map[types.NamespacedName]struct{}
}

// goodForm is a form of an object, nil for none. since is when the form after it was found to be broken, zero where there is none after it.
type goodForm[T any] struct {
	object *T
	since  time.Time
}

// Held returns how many objects stand in an earlier form because their present one is broken.
func (l *LastGood) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.broken)
	if !l.settings.since.IsZero() {
		n++
	}
	return n
}

// Clone returns a copy that does not follow l. l may be nil.
func (l *LastGood) Clone() *LastGood {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return &LastGood{ingresses: maps.Clone(l.ingresses), settings: l.settings, broken: maps.Clone(l.broken)}
}

// ingress returns the last good form of an Ingress. l may be nil.
func (l *LastGood) ingress(name types.NamespacedName) goodForm[networkingv1.Ingress] {
	if l == nil {
		return goodForm[networkingv1.Ingress]{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ingresses[name]
}

// configMap returns the last good form of the operator's ConfigMap. l may be nil.
func (l *LastGood) configMap() goodForm[corev1.ConfigMap] {
	if l == nil {
		return goodForm[corev1.ConfigMap]{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settings
}

// set replaces the form of an Ingress, and says whether another one was there.
func (l *LastGood) set(name types.NamespacedName, form goodForm[networkingv1.Ingress]) (released bool) {
	old := l.ingresses[name].object
	if delete(l.broken, name); form.object == nil {
		delete(l.ingresses, name)
		return old != nil
	}
	if l.ingresses == nil {
		l.ingresses, l.broken = make(map[types.NamespacedName]goodForm[networkingv1.Ingress]), make(map[types.NamespacedName]struct{})
	}
	l.ingresses[name] = form
	if !form.since.IsZero() {
		l.broken[name] = struct{}{}
	}
	return old != nil && old != form.object
}

// lesson is what a Build found out about the last good form of an Ingress.
type lesson struct {
	name types.NamespacedName
	form goodForm[networkingv1.Ingress]
}

// Remember writes down in l what the last Build found: it is called after each Build, whose Snapshot had l as LastGood, and before the next. It
// returns the names of the Ingresses of which an earlier form, and with it what that form names, is not needed any more; the empty name is the
// operator's ConfigMap. Its cost is that of the change. l may be nil.
func (b *Builder) Remember(l *LastGood) (released []types.NamespacedName) {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, found := range b.lessons {
		if l.set(found.name, found.form) {
			released = append(released, found.name)
		}
	}
	b.lessons = nil
	for name := range l.ingresses {
		if !b.first {
			break
		}
		if b.compiled[name] == nil { // it went while a Build failed
			l.set(name, goodForm[networkingv1.Ingress]{})
		}
	}
	if old := l.settings.object; old != nil && old != b.goodSettings.object {
		released = append(released, types.NamespacedName{})
	}
	l.settings = b.goodSettings
	return released
}

// learn notes the last good form of an Ingress, nil for none.
func (b *Builder) learn(name types.NamespacedName, form goodForm[networkingv1.Ingress]) {
	b.lessons = append(b.lessons, lesson{name, form})
}

// compile returns what i says, or where that is broken what it said in its last good form; old is what it came to before, or nil.
func (b *Builder) compile(i *networkingv1.Ingress, old *compiled) *compiled {
	e, name := b.environment, nameOf(i.Namespace, i.Name)
	next := e.compileAlone(i, old)
	if len(next.faults) == 0 {
		b.learn(name, goodForm[networkingv1.Ingress]{object: i})
		return next
	}
	last := b.lastGood.ingress(name)
	if last.object == nil || last.object.UID != i.UID {
		b.learn(name, goodForm[networkingv1.Ingress]{}) // another Ingress had the name
		return next
	}
	if next.unresolved || !e.ownership.Owns(last.object) {
		return next
	}
	held := e.compileAlone(last.object, old)
	if len(held.faults) > 0 || !e.policies.guardsLike(held.policies, i) {
		next.alsoReads(held)
		return next
	}
	if last.since.IsZero() {
		last.since = b.taken
	}
	b.learn(name, last)
	held.hold(next, last.since)
	return held
}

// guardsLike says whether an earlier form has a value of every policy that fails closed and that i gives.
func (r *policyReader) guardsLike(earlier *policySet, i *networkingv1.Ingress) bool {
	for annotation := range i.Annotations {
		name, rank := r.cut(annotation)
		at, known := r.index.annotations[name]
		if rank < 0 || !known {
			continue
		}
		if f := r.families[at.family]; f.InvalidEffect() == policy.Deny && earlier.value(f.FamilyName()) == nil {
			return false
		}
	}
	return true
}

// hold makes c, which an earlier form of an Ingress compiled to, stand in for its broken form.
func (c *compiled) hold(broken *compiled, since time.Time) {
	for _, p := range broken.faults {
		p.Effect = Kept
		p.Message = fmt.Sprintf("%s; until it is corrected the whole Ingress is served as it was before, %s", p.Message, heldSince(since))
		c.problems = append(c.problems, p)
	}
	c.alsoReads(broken)
}

// alsoReads makes what c comes to depend on what the other form of its Ingress reads, too.
func (c *compiled) alsoReads(other *compiled) {
	c.services = sortedNames(append(c.services, other.services...))
	c.secrets = sortedNames(append(c.secrets, other.secrets...))
	c.configMaps = sortedNames(append(c.configMaps, other.configMaps...))
}

// heldSince is how a Problem tells how old a form is, and that it cannot be relied on.
func heldSince(since time.Time) string {
	return fmt.Sprintf("since %s, by the replicas that knew it so: one that starts now answers 503", since.UTC().Format(time.RFC3339))
}

// settingsOf returns what the operator's ConfigMap says, or where that would close every route what its last good form said.
func (b *Builder) settingsOf(r *policyReader, c *corev1.ConfigMap) *settings {
	next := r.newSettings(c, r.objects)
	last := b.lastGood.configMap()
	if c == nil || len(next.faults) == 0 {
		b.goodSettings = goodForm[corev1.ConfigMap]{object: c}
		return next
	}
	if last.object == nil || last.object.UID != c.UID || nameOf(last.object.Namespace, last.object.Name) != nameOf(c.Namespace, c.Name) {
		b.goodSettings = goodForm[corev1.ConfigMap]{}
		return next
	}
	b.goodSettings = last
	held := r.newSettings(last.object, r.objects)
	next.looked.add(held.looked)
	if len(held.faults) > 0 || next.unresolved {
		return next
	}
	for _, f := range next.faults {
		if _, given := held.values[f.key]; !given {
			return next // there was no good value ever
		}
	}
	if last.since.IsZero() {
		last.since = b.taken
		b.goodSettings = last
	}
	for _, f := range next.faults {
		f.problem.Effect = Kept
		f.problem.Message = fmt.Sprintf("%s; until it is corrected the whole ConfigMap holds as it was before, %s", f.problem.Message, heldSince(last.since))
		held.problems = append(held.problems, f.problem)
	}
	held.looked.add(next.looked)
	return held
}
