package ingress

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// settings are what the operator's ConfigMap says, and what therefore holds where an Ingress says nothing. They are immutable.
type settings struct {
	object Object
	// values are those of the ConfigMap that can be used, by Key.Name.
	values map[string]string
	// rules are how Ingresses are read.
	rules router.Rules
	// globals are the values of the global families.
	globals []policy.Value
	// plain and compat are what holds for an Ingress without annotations, by the way in which it is read.
	plain, compat defaults
	// closed is the key that closes every route, because it should keep strangers out and cannot be used; "" is none.
	closed   string
	problems []Problem
	looked   references
	// faults are why it is closed, and unresolved says that a value names what is not there.
	faults     []settingFault
	unresolved bool
}

// settingFault is a key whose value closes every route, with the Problem as far as it does not depend on what becomes of it.
type settingFault struct {
	key     string
	problem Problem
}

// defaults are the values of an Ingress without annotations.
type defaults struct {
	// byFamily has an entry for each family; nil where nothing is said.
	byFamily []any
	given    [][]policy.Given
	values   []policy.Value
}

// place is where a key belongs.
type place struct {
	family int
	key    *policy.Key
}

// keyIndex finds keys by what users write.
type keyIndex struct {
	annotations, settings map[string]place
}

func newKeyIndex(families []policy.Family) keyIndex {
	x := keyIndex{annotations: make(map[string]place), settings: make(map[string]place)}
	for i, f := range families {
		keys := f.FamilyKeys()
		for k := range keys {
			key := &keys[k]
			at := place{i, key}
			if key.InAnnotations() {
				x.annotations[key.Name] = at
				if key.Alias != "" {
					x.annotations[key.Alias] = at
				}
			}
			if key.InConfigMap() {
				x.settings[key.SettingName()] = at
			}
		}
	}
	return x
}

// newSettings reads the ConfigMap, which may be nil.
func (r *policyReader) newSettings(c *corev1.ConfigMap, o objects) *settings {
	s := &settings{values: make(map[string]string)}
	if c != nil {
		s.object = Object{Kind: "ConfigMap", Namespace: c.Namespace, Name: c.Name, UID: string(c.UID)}
		for _, name := range slices.Sorted(maps.Keys(c.Data)) {
			at, known := r.index.settings[name]
			if !known {
				s.report(name, Problem{Reason: UnsupportedSetting, Effect: Ignored, Message: fmt.Sprintf("Podlane does not know %q: it has no effect", name)})
				continue
			}
			if at.key.Kind == policy.List && strings.TrimSpace(c.Data[name]) == "" {
				continue // the default of every list of ingress-nginx's, and how charts write that there is none
			}
			s.values[at.key.Name] = c.Data[name]
		}
	}
	for i, f := range r.families {
		r.check(s, i, f, o)
	}
	s.plain, s.compat = r.defaults(s, o, strict), r.defaults(s, o, compatible)
	for i, f := range r.families {
		if f.IsGlobal() && s.plain.byFamily[i] != nil {
			s.globals = append(s.globals, policy.Value{Family: f.FamilyName(), Parsed: s.plain.byFamily[i], Given: s.plain.given[i]})
			s.omissions(s.plain.byFamily[i])
		}
		if rules, ok := s.plain.byFamily[i].(router.Rules); ok {
			s.rules = rules
		}
	}
	return s
}

// report adds a Problem of the ConfigMap.
func (s *settings) report(name string, p Problem) {
	p.Object, p.Field = s.object, "data."+name
	s.problems = append(s.problems, p)
}

// omissions reports what in the keys of a value has no effect.
func (s *settings) omissions(parsed any) {
	partial, ok := parsed.(policy.Partial)
	if !ok {
		return
	}
	for _, o := range partial.Omitted() {
		s.report(o.Key, Problem{Reason: InvalidSetting, Effect: Ignored, Message: o.Message})
	}
}

// check removes from s what the family cannot use, and reports it.
func (r *policyReader) check(s *settings, i int, f policy.Family, o objects) {
	own := make(map[string]*policy.Key)
	for _, at := range r.index.settings {
		if _, given := s.values[at.key.Name]; given && at.family == i {
			own[at.key.Name] = at.key
		}
	}
	for len(own) > 0 {
		values := make(policy.Values, len(own))
		for key := range own {
			values[key] = s.values[key]
		}
		from := r.source(s, o, strict)
		from.values, from.ofOperator = values, allOf(values)
		_, err := parseValues(f, values, from)
		s.looked.add(from.looked)
		if err == nil {
			return
		}
		for _, one := range split(err) {
			key := own[keyOf(one)]
			if key == nil {
				key = own[slices.Min(slices.Collect(maps.Keys(own)))]
			}
			s.refuse(key, one)
			delete(s.values, key.Name)
			delete(own, key.Name)
		}
	}
}

// refuse reports that key's value cannot be used.
func (s *settings) refuse(key *policy.Key, err error) {
	p := Problem{Reason: InvalidSetting, Effect: Ignored, Message: oneLine(err) + "; until then it has no effect"}
	if refused, ok := errors.AsType[policy.RefusedError](err); ok {
		p.Reason, p.Message = RefusedSetting, oneLine(err)
		if refused.Harmless {
			p.Effect = Notice
		}
	} else if key.Closes {
		p.Effect, p.Message = RouteDenied, oneLine(err)+"; until then every route answers 503, because it would be open to everyone"
		s.closed = key.Name
		if _, reference := errors.AsType[*referenceError](err); reference {
			s.unresolved = true
		}
		s.faults = append(s.faults, settingFault{key.Name, Problem{Object: s.object, Field: "data." + key.SettingName(), Reason: p.Reason, Message: oneLine(err)}})
	}
	s.report(key.SettingName(), p)
}

// defaults returns what holds for an Ingress without annotations.
func (r *policyReader) defaults(s *settings, o objects, m mode) defaults {
	d := defaults{byFamily: make([]any, len(r.families)), given: make([][]policy.Given, len(r.families))}
	for i, f := range r.families {
		from := r.source(s, o, m)
		values := r.layers(i, s, m, from)
		if len(values) == 0 {
			continue
		}
		parsed, err := parseValues(f, values, from)
		s.looked.add(from.looked)
		if err != nil || parsed == nil {
			continue // reported by check, or refused; the compat values are constants that are tested
		}
		d.byFamily[i], d.given[i] = parsed, r.given(i, s, from, nil)
		if !f.IsGlobal() {
			d.values = append(d.values, policy.Value{Family: f.FamilyName(), Parsed: parsed, Given: d.given[i]})
		}
	}
	return d
}

// layers returns the values that hold for a family where an Ingress says nothing, and tells from whose they are.
func (r *policyReader) layers(i int, s *settings, m mode, from *source) policy.Values {
	values := make(policy.Values)
	from.values, from.ofOperator = values, make(map[string]bool)
	for _, key := range r.families[i].FamilyKeys() {
		if m == compatible && key.Compat != "" {
			values[key.Name] = key.Compat
		}
		if value, ok := s.values[key.Name]; ok && key.InConfigMap() {
			values[key.Name] = value
			from.ofOperator[key.Name] = true
		}
	}
	return values
}

// given tells who gave the values of a family that from has; keys are the annotations among them.
func (r *policyReader) given(i int, s *settings, from *source, keys map[string]given) []policy.Given {
	list := make([]policy.Given, 0, len(from.values))
	for _, key := range r.families[i].FamilyKeys() {
		value, there := from.values[key.Name]
		annotation := keys[key.Name].annotation
		switch {
		case !there:
		case annotation != "":
			list = append(list, policy.Given{By: policy.ByAnnotation, Name: annotation, Value: value})
		case from.ofOperator[key.Name]:
			list = append(list, policy.Given{By: policy.ByConfigMap, Name: key.SettingName(), Value: value, Object: s.object.Namespace + "/" + s.object.Name})
		default:
			list = append(list, policy.Given{By: policy.ByCompat, Name: key.Name, Value: value})
		}
	}
	return list
}

// source returns the policy.Source for what s says.
func (r *policyReader) source(s *settings, o objects, m mode) *source {
	return &source{objects: o, namespace: s.object.Namespace, foreign: true, compat: m == compatible, operator: s.object.Namespace}
}

// add takes in what another reading looked at.
func (r *references) add(other references) {
	if r.secrets == nil {
		r.secrets = maps.Clone(other.secrets)
	} else {
		maps.Copy(r.secrets, other.secrets)
	}
	if r.configMaps == nil {
		r.configMaps = maps.Clone(other.configMaps)
	} else {
		maps.Copy(r.configMaps, other.configMaps)
	}
}

func allOf(values policy.Values) map[string]bool {
	all := make(map[string]bool, len(values))
	for key := range values {
		all[key] = true
	}
	return all
}

// sameSettings says whether the settings that policies are read with are those of c, and what they name is what it was.
func (b *Builder) sameSettings(c *corev1.ConfigMap) bool {
	return sameConfigMap(b.settingsObject, c) && b.environment.policies.settings.looked.current(b.environment.policies.objects)
}

// readSettings reads the operator's ConfigMap, which may be nil, and returns what reads policies by it.
func (b *Builder) readSettings(o Options, c *corev1.ConfigMap) *policyReader {
	const flag = "--configmap"
	if e := b.environment; e != nil && slices.Equal(e.options.AnnotationPrefixes, o.AnnotationPrefixes) && e.options.Settings == o.Settings && b.sameSettings(c) {
		return e.policies // what was read by it stays what it is
	}
	reader := newPolicyReader(b.families, o.AnnotationPrefixes, objects{b.secrets.find, b.configMaps.find})
	reader.settings = b.settingsOf(reader, c)
	b.settingsObject = c
	problems := slices.Concat(badName(flag, o.Settings), reader.settings.problems)
	if name, ok := splitName(o.Settings); ok && c == nil {
		problems = append(problems, Problem{
			Object: Object{Kind: "ConfigMap", Namespace: name.Namespace, Name: name.Name}, Field: flag, Reason: ConfigMapMissing, Effect: Notice,
			Message: "there is no such ConfigMap; until then the defaults hold",
		})
	}
	b.problems.set(chunk{kind: optionChunk, name: flag}, problems)
	return reader
}

// badName is badOption unless value is namespace/name.
func badName(flag, value string) []Problem {
	if _, ok := splitName(value); ok {
		return nil
	}
	return badOption(flag, value)
}
