package ingress

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"podlane.dev/podlane/router/policy"
)

// MaxAnnotations is how many bytes of annotations of one Ingress are read: the API server's own limit for all of them.
const MaxAnnotations = 256 << 10

// policySet is what the annotations of one Ingress parsed to. It is immutable, and shared by what an Ingress compiles to
// before and after a change elsewhere in it, so that its Routes can be told to be unchanged.
type policySet struct {
	object Object
	// read are the annotations that were read: all that is under our prefixes. tooLarge says that there were too many.
	read     map[string]string
	tooLarge bool

	values   []policy.Value
	denied   string // not empty: every route of the Ingress is denied
	problems []Problem
}

// policyReader parses annotations. It is immutable.
type policyReader struct {
	families []policy.Family
	byKey    map[string]int // the family of each key
	prefixes []string       // with the slash, in ascending order of precedence
}

func newPolicyReader(families []policy.Family, prefixes []string) *policyReader {
	r := &policyReader{families: families, byKey: make(map[string]int)}
	for i, f := range families {
		for _, k := range f.FamilyKeys() {
			r.byKey[k.Name] = i
		}
	}
	for _, p := range prefixes {
		r.prefixes = append(r.prefixes, p+"/")
	}
	return r
}

// readPolicies parses the annotations of i; old is what it returned for the Ingress before, or nil.
func (r *policyReader) readPolicies(i *networkingv1.Ingress, old *policySet) *policySet {
	s := &policySet{object: objectOf(i)}
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
	if old != nil && old.object == s.object && old.tooLarge == s.tooLarge && maps.Equal(old.read, s.read) {
		return old
	}
	if s.tooLarge {
		// What is not read may have been what keeps strangers out.
		s.denied = "annotations too large"
		s.report("metadata.annotations", Problem{Reason: TooLarge, Effect: RouteDenied, Message: fmt.Sprintf("there are %d bytes of annotations; at most %d are read", size, MaxAnnotations)})
		return s
	}
	if len(s.read) > 0 {
		r.parse(s)
	}
	return s
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

// given is one annotation of a family: the winner among the prefixes.
type given struct {
	annotation, value string
	rank              int
}

// parse fills s from s.read.
func (r *policyReader) parse(s *policySet) {
	byFamily := make(map[int]map[string]given)
	for _, annotation := range slices.Sorted(maps.Keys(s.read)) {
		key, rank := r.cut(annotation)
		family, known := r.byKey[key]
		if !known {
			s.unknown(annotation, key)
			continue
		}
		if byFamily[family] == nil {
			byFamily[family] = make(map[string]given)
		}
		winner, loser := given{annotation, s.read[annotation], rank}, byFamily[family][key]
		if loser.rank > winner.rank {
			winner, loser = loser, winner
		}
		if loser.annotation != "" && loser.value != winner.value {
			s.report(annotationField(loser.annotation), Problem{Reason: OverriddenAnnotation, Effect: Ignored, Message: fmt.Sprintf("%s has another value and wins", winner.annotation)})
		}
		byFamily[family][key] = winner
	}
	for i, f := range r.families {
		if byFamily[i] != nil {
			s.parseFamily(f, byFamily[i])
		}
	}
}

// guards are the annotations of ingress-nginx that keep strangers out. Until a family knows one of them its routes are closed: without
// it they would be open to everyone.
var guards = []string{
	"allowlist-source-range", "auth-secret", "auth-type", "auth-url", "denylist-source-range", "whitelist-source-range",
}

// unknown reports an annotation that no family knows.
func (s *policySet) unknown(annotation, key string) {
	p := Problem{Reason: UnsupportedAnnotation, Effect: Ignored, Message: fmt.Sprintf("Podlane does not know %q: it has no effect", key)}
	if slices.Contains(guards, key) {
		p.Effect = RouteDenied
		p.Message = fmt.Sprintf("Podlane does not support %q yet, and without it the routes of this Ingress would be open to everyone: they answer 503; remove it to open them", key)
		if s.denied == "" {
			s.denied = key
		}
	}
	s.report(annotationField(annotation), p)
}

// parseFamily adds f's value, or what its failure means.
func (s *policySet) parseFamily(f policy.Family, keys map[string]given) {
	values := make(policy.Values, len(keys))
	for key, g := range keys {
		values[key] = g.value
	}
	parsed, err := parseValues(f, values)
	if err == nil {
		s.values = append(s.values, policy.Value{Family: f.FamilyName(), Parsed: parsed})
		return
	}
	// The annotation that the error names, else the first of the family.
	annotation := keys[slices.Min(slices.Collect(maps.Keys(keys)))].annotation
	var value *policy.ValueError
	if errors.As(err, &value) && keys[value.Key].annotation != "" {
		annotation = keys[value.Key].annotation
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ") // joined errors, on one line
	p := Problem{Reason: InvalidAnnotation, Effect: Ignored, Message: text + "; until then it has no effect"}
	var crash *panicError
	isCrash := errors.As(err, &crash)
	if isCrash {
		p.Reason, p.Message = PolicyFailed, fmt.Sprintf("Podlane failed to read the %s annotations (%s), so their routes are closed: please report it", f.FamilyName(), text)
	} else if f.InvalidEffect() != policy.Ignore {
		p.Message = text + "; until then the routes of this Ingress answer 503"
	}
	if isCrash || f.InvalidEffect() != policy.Ignore {
		p.Effect = RouteDenied
		if s.denied == "" {
			s.denied = f.FamilyName()
		}
	}
	s.report(annotationField(annotation), p)
}

// panicError is a panic in a family's Parse.
type panicError struct{ cause any }

func (e *panicError) Error() string { return fmt.Sprint("panic: ", e.cause) }

// parseValues calls f, whose panics must not take the Build along.
func parseValues(f policy.Family, values policy.Values) (parsed any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &panicError{cause}
		}
	}()
	return f.ParseValues(values)
}

// report adds a Problem of the Ingress.
func (s *policySet) report(field string, p Problem) {
	p.Object, p.Field = s.object, field
	s.problems = append(s.problems, p)
}

// annotationField is the field of an annotation, as a JSON path has it.
func annotationField(annotation string) string { return "metadata.annotations[" + annotation + "]" }
