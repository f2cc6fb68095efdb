package ingress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"podlane.dev/podlane/router"
)

// This file makes hosts of further names that Ingresses give theirs. What a rule names is never anybody's alias.

// aliasState is one further name: the hosts that want it, and what that came to.
type aliasState struct {
	claims []aliasClaim // sorted by age, aliases before those that are for www only
	host   *router.Host
}

// aliasClaim is the wish of one Ingress that name is one of host's.
type aliasClaim struct {
	by   *compiled
	host string
	www  bool
}

func compareAliases(a, b aliasClaim) int {
	byKind := 0
	if a.www != b.www {
		if byKind = -1; a.www {
			byKind = 1
		}
	}
	return cmp.Or(byKind, a.by.age.compare(b.by.age), strings.Compare(a.host, b.host))
}

// aliasesOf yields the further names that c gives its hosts.
func aliasesOf(c *compiled, yield func(name string, claim aliasClaim)) {
	if c.canary.On {
		return
	}
	for _, h := range c.hosts {
		if h.host == "" {
			continue
		}
		for _, name := range c.names.Aliases {
			if name != h.host {
				yield(name, aliasClaim{by: c, host: h.host})
			}
		}
		if c.names.WWW && !strings.HasPrefix(h.host, "*") {
			yield(router.OtherWWW(h.host), aliasClaim{by: c, host: h.host, www: true})
		}
	}
}

// addAliases puts in the further names that c wants.
func (b *Builder) addAliases(c *compiled, d *delta) {
	aliasesOf(c, func(name string, claim aliasClaim) {
		state := b.aliases[name]
		if state == nil {
			state = &aliasState{}
			b.aliases[name] = state
		}
		i, found := slices.BinarySearchFunc(state.claims, claim, compareAliases)
		if !found {
			state.claims = slices.Insert(state.claims, i, claim)
		}
		d.aliases.add(name)
	})
}

// removeAliases takes them out.
func (b *Builder) removeAliases(c *compiled, d *delta) {
	aliasesOf(c, func(name string, claim aliasClaim) {
		state := b.aliases[name]
		if i, found := slices.BinarySearchFunc(state.claims, claim, compareAliases); found {
			state.claims = slices.Delete(state.claims, i, i+1)
		}
		d.aliases.add(name)
	})
}

// mergeAliases makes the hosts of d.aliases, and of those whose host changed.
func (b *Builder) mergeAliases(d *delta, change *router.Change) {
	for name := range d.hosts {
		if b.aliases[name] != nil {
			d.aliases.add(name)
		}
		if state := b.hosts[name]; state != nil {
			for _, c := range state.claimants {
				aliasesOf(c.compiled, func(alias string, claim aliasClaim) {
					if claim.host == name {
						d.aliases.add(alias)
					}
				})
			}
		}
	}
	for name := range d.aliases {
		state := b.aliases[name]
		host, problems := b.mergeAlias(name, state)
		b.problems.set(chunk{kind: aliasChunk, name: name}, problems)
		if len(state.claims) == 0 {
			delete(b.aliases, name)
		}
		if host == state.host {
			continue
		}
		// A name that a rule has now is in change already.
		if state.host = host; host != nil {
			change.Hosts = append(change.Hosts, host)
		} else if !b.named(name) {
			change.Remove = append(change.Remove, name)
		}
	}
}

// named says whether a rule names the host.
func (b *Builder) named(host string) bool {
	state := b.hosts[host]
	return state != nil && len(state.claimants) > 0
}

// mergeAlias returns the host of a further name, nil where there is none, and the Problems of those who do not get it.
func (b *Builder) mergeAlias(name string, state *aliasState) (host *router.Host, problems []Problem) {
	if len(state.claims) == 0 {
		return nil, nil
	}
	defer func() {
		if cause := recover(); cause != nil {
			host, problems = state.host, nil
			for _, claim := range state.claims {
				problems = append(problems, mergeFailed(name, claim.by.object, host, cause))
			}
		}
	}()
	winner := state.claims[0]
	taken := func(claim aliasClaim, by string) {
		p := Problem{Object: claim.by.object, Field: "spec.rules", Reason: AliasConflict, Effect: Ignored, Message: fmt.Sprintf("%q is no further name of %s: %s", name, hostText(claim.host), by)}
		problems = append(problems, p)
	}
	if b.named(name) {
		for _, claim := range state.claims {
			if !claim.www { // that there is a host with www. is why somebody has both
				taken(claim, "a rule names it, so it is a host by itself")
			}
		}
		return nil, problems
	}
	if err := checkAlias(name); err != nil {
		for _, claim := range state.claims {
			taken(claim, err.Error())
		}
		return nil, problems
	}
	for _, claim := range state.claims[1:] {
		if claim.host != winner.host {
			taken(claim, fmt.Sprintf("it is one of %s, by Ingress %s", hostText(winner.host), winner.by.name()))
		}
	}
	if winner.www {
		return b.sendToHost(name, winner, state.host), problems
	}
	host, _ = b.hosts[winner.host].merge(name, b.hasCertificate(name), state.host)
	return host, problems
}

// checkAlias returns what is wrong with a further name.
func checkAlias(name string) error {
	if strings.HasPrefix(name, "~") {
		return nil // the family has compiled it
	}
	return checkHost(name)
}

// sendToHost returns the host that sends its requests to another.
func (b *Builder) sendToHost(name string, claim aliasClaim, old *router.Host) *router.Host {
	id := router.RouteID{Namespace: claim.by.object.Namespace, Ingress: claim.by.object.Name, Host: name, Path: "/"}
	state := routeState{id: id, hasCertificate: b.hasCertificate(name), compat: b.hosts[claim.host].compat(), sendTo: claim.host}
	if old != nil && len(old.Routes()) == 1 {
		state.old = old.Routes()[0]
	}
	nowhere := router.Backend{Weight: 1, Unavailable: router.InvalidBackend}
	route := newRoute(claim.by, nowhere, state)
	if route == state.old && route != nil {
		return old
	}
	return router.NewHost(name, []*router.Route{route})
}
