package ingress

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	networkingv1 "k8s.io/api/networking/v1"

	"podlane.dev/podlane/router/policy"
)

// MaxAnnotations is how many bytes of annotations of one Ingress are read: the API server's own limit for all of them.
const MaxAnnotations = 256 << 10

// maxUseless is how many annotations of one Ingress without effect have a Problem each; of more there is one that counts them. A Problem is larger than
// such an annotation, and each is an Event.
const maxUseless = 50

// mode is how an Ingress is read.
type mode uint8

const (
	// strict is by the Ingress specification.
	strict mode = iota
	// compatible is as ingress-nginx reads it.
	compatible
)

// policySet is what the annotations of one Ingress parsed to. It is immutable, and shared by what an Ingress compiles to
// before and after a change elsewhere in it, so that its Routes can be told to be unchanged.
type policySet struct {
	object Object
	// read are the annotations that were read: all that is under our prefixes. tooLarge says that there were too many.
	read     map[string]string
	tooLarge bool
	// settings and mode are what it was read by, looked what it was read with.
	settings *settings
	mode     mode
	looked   references

	values   []policy.Value
	denied   string // not empty: every route of the Ingress is denied
	problems []Problem
	// faults are why the Ingress itself denies them; the Problems do not say what becomes of it. unresolved says that one is what a value names.
	faults     []Problem
	unresolved bool
}

// policyReader parses annotations and settings. It is immutable.
type policyReader struct {
	families []policy.Family
	index    keyIndex
	prefixes []string // with the slash, in ascending order of precedence
	objects  objects
	settings *settings
}

func newPolicyReader(families []policy.Family, prefixes []string, o objects) *policyReader {
	r := &policyReader{families: families, index: newKeyIndex(families), objects: o}
	for _, p := range prefixes {
		r.prefixes = append(r.prefixes, p+"/")
	}
	return r
}

// readPolicies parses the annotations of i; old is what it returned for the Ingress before, or nil.
func (r *policyReader) readPolicies(i *networkingv1.Ingress, m mode, old *policySet) *policySet {
	s := &policySet{object: objectOf(i), settings: r.settings, mode: m}
	size := 0
	for key, value := range i.Annotations {
		size += len(key) + len(value)
		if _, rank := r.cut(key); rank < 0 {
			continue
		}
		if s.read == nil {
			s.read = make(map[string]string)
		}
		s.read[key] = value
	}
	s.tooLarge = size > MaxAnnotations
	if old.holds(s, r.objects) {
		return old
	}
	if s.tooLarge {
		// What is not read may have been what keeps strangers out.
		s.deny("annotations too large", Problem{Field: "metadata.annotations", Reason: TooLarge, Message: fmt.Sprintf("there are %d bytes of annotations; at most %d are read", size, MaxAnnotations)})
		return s
	}
	s.denied = r.settings.closed
	if len(s.read) == 0 {
		s.values = r.settings.of(m).values
		return s
	}
	s.blockWords(r.settings.rules.Blocklist)
	r.parse(s)
	return s
}

// holds says whether s is still what next would become. s may be nil.
func (s *policySet) holds(next *policySet, o objects) bool {
	return s != nil && s.object == next.object && s.settings == next.settings && s.mode == next.mode &&
		s.tooLarge == next.tooLarge && maps.Equal(s.read, next.read) && s.looked.current(o)
}

// of returns what holds without annotations.
func (s *settings) of(m mode) *defaults {
	if m == compatible {
		return &s.compat
	}
	return &s.plain
}

// blockWords closes an Ingress that has a word of the operator's list in an annotation.
func (s *policySet) blockWords(words []string) {
	for _, annotation := range slices.Sorted(maps.Keys(s.read)) {
		for _, word := range words {
			if strings.Contains(s.read[annotation], word) {
				s.deny("a forbidden word", Problem{Field: annotationField(annotation), Reason: InvalidAnnotation, Message: fmt.Sprintf("it has the word %q, which the operator forbids", word)})
			}
		}
	}
}

// cut returns an annotation's key without its prefix, and the rank of the prefix: -1 where it is not ours.
func (r *policyReader) cut(annotation string) (key string, rank int) {
	for i, prefix := range slices.Backward(r.prefixes) {
		if key, ok := strings.CutPrefix(annotation, prefix); ok {
			return key, i
		}
	}
	return "", -1
}

// firstOf returns the annotation that speaks for a family in s: its first key, under the prefix that wins; "" where there is none.
func (r *policyReader) firstOf(s *policySet, family string) string {
	for _, f := range r.families {
		if f.FamilyName() != family {
			continue
		}
		for _, k := range f.FamilyKeys() {
			for _, prefix := range slices.Backward(r.prefixes) {
				if _, ok := s.read[prefix+k.Name]; ok {
					return prefix + k.Name
				}
			}
		}
	}
	return ""
}

// value returns what a family's annotations parsed to, nil where there are none or they did not.
func (s *policySet) value(family string) any {
	for i := range s.values {
		if s.values[i].Family == family {
			return s.values[i].Parsed
		}
	}
	return nil
}

// given is one annotation of a family: the winner among the prefixes and names.
type given struct {
	annotation, value string
	rank              int
}

// parse fills s from s.read.
func (r *policyReader) parse(s *policySet) {
	byFamily := make(map[int]map[string]given)
	useless := 0
	for _, annotation := range slices.Sorted(maps.Keys(s.read)) {
		name, rank := r.cut(annotation)
		at, known := r.index.annotations[name]
		if !known {
			if useless++; useless <= maxUseless {
				s.unknown(annotation, name)
			}
			continue
		}
		// A key's own name goes before its other one, whatever the prefix.
		if rank *= 2; name == at.key.Name {
			rank += 2 * len(r.prefixes)
		}
		if byFamily[at.family] == nil {
			byFamily[at.family] = make(map[string]given)
		}
		winner, loser := given{annotation, s.read[annotation], rank}, byFamily[at.family][at.key.Name]
		if loser.rank > winner.rank {
			winner, loser = loser, winner
		}
		if loser.annotation != "" && loser.value != winner.value {
			s.report(annotationField(loser.annotation), Problem{Reason: OverriddenAnnotation, Effect: Ignored, Message: fmt.Sprintf("%s has another value and wins", winner.annotation)})
		}
		byFamily[at.family][at.key.Name] = winner
	}
	if more := useless - maxUseless; more > 0 {
		s.report("metadata.annotations", Problem{Reason: UnsupportedAnnotation, Effect: Ignored, Message: fmt.Sprintf("there are %d more annotations that Podlane does not know: they have no effect", more)})
	}
	for i, f := range r.families {
		usual := r.settings.of(s.mode)
		parsed, by := usual.byFamily[i], usual.given[i]
		if byFamily[i] != nil {
			parsed, by = r.parseFamily(s, i, byFamily[i])
		}
		if parsed != nil && !f.IsGlobal() {
			s.values = append(s.values, policy.Value{Family: f.FamilyName(), Parsed: parsed, Given: by})
		}
	}
}

// unknown reports an annotation that no family knows.
func (s *policySet) unknown(annotation, key string) {
	p := Problem{Reason: UnsupportedAnnotation, Effect: Ignored, Message: fmt.Sprintf("Podlane does not know %q: it has no effect", key)}
	s.report(annotationField(annotation), p)
}

// parseFamily returns a family's value, nil where there is none, and who gave it. An annotation that cannot be used is reported; where that closes no route, the
// others of the family hold, and for it what would hold without it.
func (r *policyReader) parseFamily(s *policySet, i int, keys map[string]given) (any, []policy.Given) {
	f := r.families[i]
	for {
		from := &source{objects: r.objects, namespace: s.object.Namespace, foreign: r.settings.rules.CrossNamespace, compat: s.mode == compatible, operator: r.settings.object.Namespace}
		values := r.layers(i, r.settings, s.mode, from)
		for key, g := range keys {
			values[key] = g.value
			delete(from.ofOperator, key)
		}
		parsed, err := parseValues(f, values, from)
		s.looked.add(from.looked)
		if err == nil {
			s.omissions(parsed, keys)
			return parsed, r.given(i, r.settings, from, keys)
		}
		for _, one := range split(err) {
			// The annotation that the error names, else the first of the family.
			key := keyOf(one)
			if keys[key].annotation == "" {
				if len(keys) == 0 {
					break
				}
				key = slices.Min(slices.Collect(maps.Keys(keys)))
			}
			s.refuse(f, keys[key].annotation, one)
			delete(keys, key)
		}
		if s.denied != "" {
			return nil, nil
		}
		if len(keys) == 0 {
			usual := r.settings.of(s.mode)
			return usual.byFamily[i], usual.given[i]
		}
	}
}

// omissions reports what in the annotations of a value has no effect.
func (s *policySet) omissions(parsed any, keys map[string]given) {
	partial, ok := parsed.(policy.Partial)
	if !ok {
		return
	}
	for _, o := range partial.Omitted() {
		if annotation := keys[o.Key].annotation; annotation != "" {
			s.report(annotationField(annotation), Problem{Reason: InvalidAnnotation, Effect: Ignored, Message: o.Message})
		}
	}
}

// refuse reports an annotation that cannot be used, and closes the routes where that is the family's way.
func (s *policySet) refuse(f policy.Family, annotation string, err error) {
	p := Problem{Field: annotationField(annotation), Reason: InvalidAnnotation, Effect: Ignored, Message: oneLine(err)}
	crash, isCrash := errors.AsType[*panicError](err)
	if isCrash {
		p.Reason, p.Message = PolicyFailed, fmt.Sprintf("Podlane failed to read the %s annotations (%s): please report it", f.FamilyName(), crash)
	}
	reference, isReference := errors.AsType[*referenceError](err)
	if isReference {
		p.Reason = reference.reason
	}
	refused, isRefused := errors.AsType[policy.RefusedError](err)
	switch {
	case isRefused:
		if p.Reason = RefusedAnnotation; refused.Harmless {
			p.Effect = Notice
		}
		s.report(p.Field, p)
	case isCrash || f.InvalidEffect() != policy.Ignore:
		s.unresolved = s.unresolved || isReference
		s.deny(f.FamilyName(), p)
	default:
		p.Message += "; until then it has no effect"
		s.report(p.Field, p)
	}
}

// deny closes the routes because of p, which lacks an Effect and what becomes of it.
func (s *policySet) deny(because string, p Problem) {
	p.Object = s.object
	s.denied = cmp.Or(s.denied, because)
	s.faults = append(s.faults, p)
	p.Effect, p.Message = RouteDenied, p.Message+"; until then the routes of this Ingress answer 503"
	s.problems = append(s.problems, p)
}

// split returns the errors that err joins, or err itself.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// keyOf returns the key that an error is about, "" where it does not say.
func keyOf(err error) string {
	if value, ok := errors.AsType[*policy.ValueError](err); ok {
		return value.Key
	}
	if reference, ok := errors.AsType[*referenceError](err); ok {
		return reference.key
	}
	if refused, ok := errors.AsType[policy.RefusedError](err); ok {
		return refused.Name
	}
	// Families write "key: what is wrong".
	key, _, _ := strings.Cut(err.Error(), ":")
	return key
}

// oneLine is the text of an error on one line, without control characters that were in a value.
func oneLine(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// panicError is a panic in a family's Parse.
type panicError struct{ cause any }

func (e *panicError) Error() string { return fmt.Sprint("panic: ", e.cause) }

// parseValues calls f, whose panics must not take the Build along.
func parseValues(f policy.Family, values policy.Values, from policy.Source) (parsed any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &panicError{cause}
		}
	}()
	return f.ParseValues(values, from)
}

// report adds a Problem of the Ingress.
func (s *policySet) report(field string, p Problem) {
	p.Object, p.Field = s.object, field
	s.problems = append(s.problems, p)
}

// annotationField is the field of an annotation, as a JSON path has it.
func annotationField(annotation string) string { return "metadata.annotations[" + annotation + "]" }
