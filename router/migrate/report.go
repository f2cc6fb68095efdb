package migrate

import (
	"cmp"
	"slices"
	"strings"

	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
	"podlane.dev/podlane/router/snippet"
)

// Verdict is how Podlane takes something that was written for ingress-nginx. A greater one is worse.
type Verdict uint8

// The verdicts.
const (
	// Same: it does the same.
	Same Verdict = iota
	// Differs: it works, in another way that is named.
	Differs
	// Refused: it has no effect, or a route does not work because of it.
	Refused
)

// String returns the verdict in a word.
func (v Verdict) String() string { return [...]string{"same", "differs", "refused"}[v] }

// MarshalText returns String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Note is what there is to say about one annotation, one setting or one field.
type Note struct {
	Verdict Verdict `json:"verdict"`
	// Field is the annotation, the key of the ConfigMap, or the field as kubectl explain writes it.
	Field string `json:"field"`
	// Text says how it differs or why it is refused, Instead what to write in its place.
	Text    string            `json:"text"`
	Instead map[string]string `json:"instead,omitempty"`
	// Left are parts of a snippet for which there is nothing to write instead.
	Left []string `json:"left,omitempty"`
	// Source is file:line where the object came from a file.
	Source string `json:"source,omitempty"`
}

// Item is one object.
type Item struct {
	Kind      string  `json:"kind"`
	Namespace string  `json:"namespace"`
	Name      string  `json:"name"`
	Verdict   Verdict `json:"verdict"`
	// Keys is how many annotations or settings it has that concern Podlane.
	Keys  int    `json:"keys"`
	Notes []Note `json:"notes"`
}

// Report is the outcome for a Snapshot.
type Report struct {
	Items []Item `json:"items"`
	// Objects and Keys count objects, and annotations and settings, by verdict.
	Objects Totals `json:"objects"`
	Keys    Totals `json:"keys"`
}

// Totals count by verdict.
type Totals struct {
	Same    int `json:"same"`
	Differs int `json:"differs"`
	Refused int `json:"refused"`
}

func (t *Totals) add(v Verdict) { *[...]*int{&t.Same, &t.Differs, &t.Refused}[v]++ }

// Worst returns the worst verdict of the objects.
func (r *Report) Worst() Verdict {
	switch {
	case r.Objects.Refused > 0:
		return Refused
	case r.Objects.Differs > 0:
		return Differs
	}
	return Same
}

// Options say what a Snapshot is.
type Options struct {
	// Partial says that objects which Ingresses name may be elsewhere, as in a folder that holds Ingresses alone: that one is missing is then a
	// remark and no verdict.
	Partial bool
}

// New returns the Report on s. families are those of Build, of which problems is the outcome; Problems of files may be among them.
func New(s ingress.Snapshot, families []policy.Family, problems []ingress.Problem, o Options) *Report {
	a := &assessor{keys: indexKeys(families), options: o, prefixes: s.Options.AnnotationPrefixes, byObject: make(map[ingress.Object][]ingress.Problem)}
	for _, p := range problems {
		p.Object.UID = ""
		a.byObject[p.Object] = append(a.byObject[p.Object], p)
	}
	r := &Report{}
	for _, i := range ingress.Owned(s) {
		r.add(a.ingress(i))
	}
	for _, c := range s.ConfigMaps {
		if c != nil && c.Namespace+"/"+c.Name == s.Options.Settings {
			r.add(a.settings(c))
		}
	}
	r.Keys = a.totals
	return r
}

func (r *Report) add(i Item) {
	for _, n := range i.Notes {
		i.Verdict = max(i.Verdict, n.Verdict)
	}
	slices.SortStableFunc(i.Notes, func(a, b Note) int { return cmp.Or(int(b.Verdict)-int(a.Verdict), strings.Compare(a.Field, b.Field)) })
	r.Items = append(r.Items, i)
	r.Objects.add(i.Verdict)
}

// Instead returns the annotations that do what a refused snippet does, and its directives for which there is none. p is a Problem of Build about one
// annotation of an Ingress of s; there is nothing for other Problems.
func Instead(s ingress.Snapshot, p ingress.Problem) (annotations map[string]string, left []string) {
	if p.Reason != ingress.RefusedAnnotation {
		return nil, nil
	}
	annotation := strings.TrimSuffix(strings.TrimPrefix(p.Field, "metadata.annotations["), "]")
	for _, i := range s.Ingresses {
		if i != nil && i.Namespace == p.Object.Namespace && i.Name == p.Object.Name {
			return translate(annotation, i.Annotations[annotation])
		}
	}
	return nil, nil
}

// translate returns what to write in the place of an annotation that is a snippet.
func translate(annotation, value string) (annotations map[string]string, left []string) {
	if !strings.HasSuffix(annotation, "-snippet") {
		return nil, nil
	}
	t := snippet.Translate(value)
	return t.Annotations, t.Left
}
