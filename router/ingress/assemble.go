package ingress

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"podlane.dev/podlane/router"
)

// This file turns what a Build has to look at again into a change of the Table.

// decideNames decides whose certificate the hosts in d.names have, and adds the hosts whose routes depend on it to d.hosts.
func (b *Builder) decideNames(d *delta) {
	// Whoever owns a host decides its certificate, and the owner of a wildcard that of the hosts under it.
	wildcards := make(set[string])
	for host := range d.hosts {
		if b.names[host] != nil {
			d.names.add(host)
		}
		if state := b.hosts[host]; state.lastOwner != state.owner() {
			state.lastOwner = state.owner()
			if strings.HasPrefix(host, "*") {
				wildcards.add(host)
			}
		}
	}
	addUnder(d.names, b.names, wildcards)
	clear(wildcards)
	for name := range d.names {
		if !b.decideName(name, d) {
			continue
		}
		if b.hosts[name] != nil {
			d.hosts.add(name)
		}
		if b.aliases[name] != nil {
			d.aliases.add(name)
		}
		if strings.HasPrefix(name, "*") {
			wildcards.add(name)
		}
	}
	addUnder(d.hosts, b.hosts, wildcards)
	addUnder(d.aliases, b.aliases, wildcards)
}

// addUnder adds those of hosts to s that are under one of wildcards.
func addUnder[T any](s set[string], hosts map[string]T, wildcards set[string]) {
	if len(wildcards) == 0 {
		return
	}
	for host := range hosts {
		if wildcards.has(parentWildcard(host)) {
			s.add(host)
		}
	}
}

// decideName decides whose certificate one host has, and says whether Routes may depend on what is new.
func (b *Builder) decideName(name string, d *delta) bool {
	state, where := b.names[name], chunk{kind: certificateChunk, name: name}
	before := state.winner
	usable := state.usable
	if before != (tlsWinner{}) {
		d.certificates.add(before.ingress)
	}
	if len(state.claims) == 0 {
		delete(b.names, name)
		b.problems.set(where, nil)
		return true
	}
	b.problems.set(where, state.decide(name, b.ownerOf(name)))
	if state.winner != before {
		d.certificates.add(state.winner.ingress)
	}
	return before == (tlsWinner{}) || usable != state.usable
}

// ownerOf returns the namespace that owns a host by a rule for it, or for the wildcard over it; "" where there is none.
func (b *Builder) ownerOf(host string) string {
	owner := b.hosts[host].owner()
	if wildcard := parentWildcard(host); owner == "" && wildcard != "" {
		owner = b.hosts[wildcard].owner()
	}
	return owner
}

// hasCertificate says whether a host has a usable certificate, by itself or by the wildcard over it.
func (b *Builder) hasCertificate(host string) bool {
	if state := b.names[host]; state != nil {
		return state.usable
	}
	state := b.names[parentWildcard(host)]
	return state != nil && state.usable
}

// mergeCertificates returns all Certificates of the new Table: the old slice where none changed.
func (b *Builder) mergeCertificates(d *delta) []*router.Certificate {
	gone := make(set[*router.Certificate])
	var added []*router.Certificate
	for name := range d.certificates {
		old := b.certificates[name]
		var next []*router.Certificate
		if c := b.compiled[name]; c != nil {
			next = b.certificatesOf(c, old)
		}
		for _, c := range old {
			if !slices.Contains(next, c) {
				gone.add(c)
			}
		}
		for _, c := range next {
			if !slices.Contains(old, c) {
				added = append(added, c)
			}
		}
		if len(next) == 0 {
			delete(b.certificates, name)
		} else {
			b.certificates[name] = next
		}
	}
	if len(gone)+len(added) == 0 {
		return b.table.Certificates()
	}
	d.certificatesChanged = true
	slices.SortFunc(added, compareCertificates)
	merged := make([]*router.Certificate, 0, len(b.table.Certificates())+len(added))
	for _, c := range b.table.Certificates() {
		if gone.has(c) {
			continue
		}
		for len(added) > 0 && compareCertificates(added[0], c) < 0 {
			merged, added = append(merged, added[0]), added[1:]
		}
		merged = append(merged, c)
	}
	return append(merged, added...)
}

// mergeHosts merges the hosts in d.hosts, and writes down how the Table changes.
func (b *Builder) mergeHosts(d *delta, change *router.Change) {
	for name := range d.hosts {
		state, where := b.hosts[name], chunk{kind: hostChunk, name: name}
		if len(state.claimants)+len(state.canaries) == 0 {
			delete(b.hosts, name)
		}
		host, problems := b.mergeHost(name, state)
		b.problems.set(where, problems)
		if len(state.claimants) == 0 {
			if state.host != nil {
				change.Remove = append(change.Remove, name)
				state.host = nil
			}
			continue
		}
		if host != state.host {
			state.host = host
			change.Hosts = append(change.Hosts, host)
		}
	}
}

// mergeHost merges one host. Where that panics, which is Podlane's fault, the host stays as it was, and costs no other host anything.
func (b *Builder) mergeHost(name string, state *hostState) (host *router.Host, problems []Problem) {
	defer func() {
		if cause := recover(); cause != nil {
			host, problems = state.host, nil
			for _, c := range state.claimants {
				problems = append(problems, mergeFailed(name, c.object, host, cause))
			}
		}
	}()
	return state.merge(name, b.hasCertificate(name), state.host)
}

// mergeFailed tells the owner of an Ingress that a host of its could not be merged; old is what the host stays, nil for nothing.
func mergeFailed(name string, object Object, old *router.Host, cause any) Problem {
	p := Problem{Object: object, Field: "spec.rules", Reason: PolicyFailed, Effect: Kept, Message: fmt.Sprintf("Podlane failed to merge what Ingresses say about %s (panic: %v): please report it; until then it is served as it was before", hostText(name), cause)}
	if old == nil {
		p.Effect, p.Message = RouteDropped, fmt.Sprintf("Podlane failed to merge what Ingresses say about %s (panic: %v): please report it; until then it is not served", hostText(name), cause)
	}
	return p
}

// catchAll returns the Route of requests that nothing else matches: the default backend of the oldest Ingress that has one,
// else the operator's.
func (b *Builder) catchAll() *router.Route {
	old := b.table.CatchAll()
	route, problems := mergeDefaults(b.defaults, old)
	b.problems.set(chunk{kind: defaultChunk}, problems)
	operator := b.operatorDefault(old)
	if route == nil {
		return operator
	}
	return route
}

// operatorDefault returns the Route of Options.DefaultBackend, or nil.
func (b *Builder) operatorDefault(old *router.Route) *router.Route {
	const flag = "--default-backend-service"
	where := chunk{kind: optionChunk, name: flag}
	option := b.environment.options.DefaultBackend
	name, ok := splitName(option)
	if !ok {
		b.problems.set(where, badOption(flag, option))
		return nil
	}
	backend, problem := firstPort(name, b.services.find, b.environment.options)
	var problems []Problem
	if problem != nil {
		problems = []Problem{{
			Object: Object{Kind: "Service", Namespace: name.Namespace, Name: name.Name}, Field: flag, Reason: problem.reason, Effect: RouteDenied,
			Message: problem.text + "; until then requests without a route get 503",
		}}
	}
	b.problems.set(where, problems)
	nobody := &compiled{policies: &policySet{}}
	return newRoute(nobody, backend, routeState{id: router.RouteID{Namespace: name.Namespace}, isDefault: true, old: old})
}

// ticketKeys returns the keys of Options.TicketKeys, or nil: then every replica goes on with those that it has.
func (b *Builder) ticketKeys() *router.TicketKeys {
	const flag = "--ssl-session-ticket-key-secret"
	where := chunk{kind: optionChunk, name: flag}
	option := b.environment.options.TicketKeys
	name, ok := splitName(option)
	if !ok {
		b.problems.set(where, badOption(flag, option))
		return nil
	}
	p := Problem{Object: Object{Kind: "Secret", Namespace: name.Namespace, Name: name.Name}, Field: flag, Effect: Ignored}
	s := b.secrets.find(name)
	if s == nil {
		p.Reason, p.Message = SecretMissing, "there is no such Secret; until then the last keys stay, and a replica that has none makes its own"
		b.problems.set(where, []Problem{p})
		return nil
	}
	var texts [][]byte
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		texts = append(texts, s.Data[key])
	}
	keys, err := router.ParseTicketKeys(texts...)
	if err != nil {
		p.Reason, p.Message = SecretInvalid, fmt.Sprintf("it does not hold keys of session tickets: %v; until then the last keys stay, and a replica that has none makes its own", err)
		b.problems.set(where, []Problem{p})
		return nil
	}
	b.problems.set(where, nil)
	if old := b.table.TicketKeys(); old.Equal(keys) {
		return old
	}
	return keys
}

// badOption is the Problem of an option that is not namespace/name, or nil for an empty one.
func badOption(flag, value string) []Problem {
	if value == "" {
		return nil
	}
	return []Problem{{
		Object: Object{Kind: "Option", Name: flag}, Field: flag, Reason: InvalidOption, Effect: Ignored,
		Message: fmt.Sprintf("%q is not namespace/name", value),
	}}
}

// defaultCertificate returns the Certificate of Options.DefaultCertificate, or nil.
func (b *Builder) defaultCertificate() *router.Certificate {
	const flag = "--default-ssl-certificate"
	where := chunk{kind: optionChunk, name: flag}
	option := b.environment.options.DefaultCertificate
	name, ok := splitName(option)
	if !ok {
		b.problems.set(where, badOption(flag, option))
		return nil
	}
	pair, found := b.keyPair(name)
	p := Problem{Object: Object{Kind: "Secret", Namespace: name.Namespace, Name: name.Name}, Field: flag, Effect: Ignored}
	switch {
	case !found:
		p.Reason, p.Message = SecretMissing, "there is no such Secret; until then hosts without a certificate get a self-signed one"
	case pair.err != nil:
		p.Reason, p.Message = SecretInvalid, fmt.Sprintf("it is not a certificate and its key: %v; until then hosts without a certificate get a self-signed one", pair.err)
	default:
		// This is looked at in every Build.
		found, _ := judgeTime(pair.pair, name.Name, b.taken)
		p.Reason, p.Effect, p.Message = found.Reason, found.Effect, found.Message
	}
	if p.Reason != "" {
		b.problems.set(where, []Problem{p})
	} else {
		b.problems.set(where, nil)
	}
	cert := &router.Certificate{Namespace: name.Namespace, Secret: name.Name, KeyPair: pair.pair}
	if old := b.table.DefaultCertificate(); old != nil && equalCertificates(old, cert) {
		return old
	}
	return cert
}
