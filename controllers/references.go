package controllers

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/router/ingress"
)

// How long a table waits for objects that have to be fetched. The first one may wait longer, for nothing is served yet. A table that does not
// wait long enough is followed by another as soon as the object is there.
const (
	firstFetchBudget = 5 * time.Second
	laterFetchBudget = 200 * time.Millisecond
)

// hold makes the mirror use what holds Secrets and ConfigMaps.
func (m *mirror) hold(secrets *referents[*corev1.Secret], configMaps *referents[*corev1.ConfigMap]) {
	m.secrets, m.configMaps = secrets, configMaps
	secrets.changed, configMaps.changed = m.tableChanged, m.tableChanged
}

// referAll tells which Secrets and ConfigMaps are referred to by all Ingresses, the options and the operator's ConfigMap. m.view is held.
func (m *mirror) referAll() {
	if !m.referring {
		return
	}
	m.refer(types.NamespacedName{}, ingress.Snapshot{Options: m.options.Ingress, ConfigMaps: m.settings.list(), LastGood: &m.lastGood})
	for _, i := range m.ingresses.list() {
		m.referOne(client.ObjectKeyFromObject(i))
	}
}

// referOne tells what one Ingress refers to now: nothing if it is gone or not ours. m.view is held, so that the last reading is of the last version.
func (m *mirror) referOne(key types.NamespacedName) {
	if !m.referring {
		return
	}
	var s ingress.Snapshot
	if i := m.ingresses.find(key); i != nil && m.owns(i) {
		o := m.options.Ingress
		s.Ingresses, s.ConfigMaps, s.LastGood = []*networkingv1.Ingress{i}, m.settings.list(), &m.lastGood
		// What options and settings name is not the Ingress's, but settings say what it may name.
		s.Options = ingress.Options{EveryClass: true, AnnotationPrefixes: o.AnnotationPrefixes, Settings: o.Settings}
		s.Options.References.SecretAnnotations = o.References.SecretAnnotations
		s.Options.References.ConfigMapAnnotations = o.References.ConfigMapAnnotations
	}
	m.refer(key, s)
}

// remember writes down which forms of objects are good, and lets go of what earlier forms refer to that are not needed any more.
func (m *mirror) remember() {
	if m.options.Remember == nil {
		return
	}
	released := m.options.Remember(&m.lastGood)
	m.view.Lock()
	defer m.view.Unlock()
	if slices.Contains(released, types.NamespacedName{}) {
		m.referAll()
		return
	}
	for _, name := range released {
		m.referOne(name)
	}
}

// refer replaces the references of one owner by those of s. The operator's ConfigMap is watched by itself.
func (m *mirror) refer(owner types.NamespacedName, s ingress.Snapshot) {
	m.secrets.refer(owner, ingress.SecretRefs(s))
	settings, _ := parseName(m.options.Ingress.Settings)
	m.configMaps.refer(owner, slices.DeleteFunc(ingress.ConfigMapRefs(s), func(name types.NamespacedName) bool { return name == settings }))
}

// optionSecrets returns the Secrets that the options name: the default certificate, and the keys of session tickets.
func optionSecrets(o ingress.Options) []types.NamespacedName {
	return ingress.SecretRefs(ingress.Snapshot{Options: ingress.Options{DefaultCertificate: o.DefaultCertificate, TicketKeys: o.TicketKeys}})
}

// snapshot collects what Build reads. What is referred to but not held is fetched, and waited for until the budget is used up; then it goes on
// with the last data it had, or without, and the table is built again when the data comes. It returns an error only when ctx ends.
func (m *mirror) snapshot(ctx context.Context, budget time.Duration) (ingress.Snapshot, error) {
	s, pending := m.look()
	if len(pending) == 0 {
		return s, nil
	}
	timer := time.NewTimer(budget)
	defer timer.Stop()
	for len(pending) > 0 {
		for _, a := range pending {
			select {
			case <-a.done:
			case <-timer.C:
				leave(pending)
				s, _ = m.look()
				return s, nil
			case <-ctx.Done():
				return ingress.Snapshot{}, fmt.Errorf("wait for Secrets and ConfigMaps: %w", ctx.Err())
			}
		}
		s, pending = m.look()
	}
	return s, nil
}

// leave records that a table is built without waiting for the attempts.
func leave(attempts []*attempt) {
	for _, a := range attempts {
		a.left.Store(true)
	}
}

// look returns what Build would read now, and the fetches of what is not in it yet.
func (m *mirror) look() (ingress.Snapshot, []*attempt) {
	m.view.Lock()
	defer m.view.Unlock()
	secrets, pending := m.secrets.look()
	configMaps, more := m.configMaps.look()
	return ingress.Snapshot{
		Ingresses:  m.ingresses.list(),
		Classes:    m.classes.list(),
		Services:   m.services.list(),
		Secrets:    secrets,
		ConfigMaps: append(m.settings.list(), configMaps...),
		Options:    m.options.Ingress,
		LastGood:   &m.lastGood,
		Taken:      time.Now(),
	}, slices.Concat(pending, more)
}
