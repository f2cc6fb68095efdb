package exchange

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Rehearsal is what an Exchange has that nobody sent: it is taken through the proxy to tell what would become of it. Filters and checks do to it
// what they do to every Exchange, but for what outlives it: they count nothing, keep nothing and ask nobody, and note what they would have
// done. It belongs to one goroutine. The methods work on nil, where they do nothing.
type Rehearsal struct {
	// Steps are what filters did, in the order in which they did it. Filters that did nothing have none.
	Steps []Step
	// Conditions are what had to be assumed: each is a sentence.
	Conditions []string
	// AuthStatus is what services that authenticate clients are taken to answer; 0 is one of 2xx, or what they are remembered to have said.
	AuthStatus int

	notes  []string
	blamed string
	depth  int
}

// Step is what one filter did to an Exchange.
type Step struct {
	// Family is the policy family of the filter.
	Family string `json:"family"`
	// Did are short sentences.
	Did []string `json:"did"`
	// Answered says that the filter answered, so that nothing comes after it.
	Answered bool `json:"answered,omitempty"`
}

// Note adds a sentence to the Step of the filter that runs now.
func (r *Rehearsal) Note(format string, args ...any) {
	if r != nil {
		r.notes = append(r.notes, fmt.Sprintf(format, args...))
	}
}

// Assume adds a condition under which the rest holds.
func (r *Rehearsal) Assume(format string, args ...any) {
	if r != nil {
		r.Conditions = append(r.Conditions, fmt.Sprintf(format, args...))
	}
}

// Blame says that what answers is of another family than the filter that runs now, which is made of several.
func (r *Rehearsal) Blame(family string) {
	if r != nil {
		r.blamed = family
	}
}

// Watch runs f, which is a filter of the family, or a part of one, on x, whose Rehearsal is r, and adds a Step where it did anything. r must not be nil.
func (r *Rehearsal) Watch(family string, x *Exchange, f func() Verdict) Verdict {
	before := sceneOf(x)
	r.notes = nil
	r.depth++
	verdict := f()
	r.depth--
	did := append(slices.Clip(r.notes), before.changes(x)...)
	if verdict == Answered {
		did = append(did, answerText(&x.Response))
		family = cmp.Or(r.blamed, family)
	}
	if len(did) > 0 {
		r.Steps = append(r.Steps, Step{Family: family, Did: did, Answered: verdict == Answered})
	}
	r.notes = nil
	if r.depth == 0 {
		r.blamed = ""
	}
	return verdict
}

// scene is what filters may change of a request.
type scene struct {
	path   string
	fields []Field
}

func sceneOf(x *Exchange) scene {
	return scene{path: string(x.Request.SendPath()), fields: x.Request.Fields.List()}
}

// changes returns what is different in x now, as sentences.
func (s scene) changes(x *Exchange) []string {
	var did []string
	now := sceneOf(x)
	if now.path != s.path {
		did = append(did, fmt.Sprintf("the Pod gets the path %q in place of %q", now.path, s.path))
	}
	set, removed := FieldChanges(s.fields, now.fields)
	for _, f := range set {
		did = append(did, fmt.Sprintf("the Pod gets %s: %s", f.Name, f.Shown()))
	}
	for _, name := range removed {
		did = append(did, fmt.Sprintf("the Pod does not get %s", name))
	}
	return did
}

func answerText(a *Response) string {
	text := fmt.Sprintf("answers %d", a.Status)
	if to := a.Fields.Get(Location); to != nil {
		text += " to " + string(to)
	}
	return text
}

// FieldChanges returns the fields that are in after and not in before, by name and value, and the names that are in before alone.
func FieldChanges(before, after []Field) (set []Field, removed []string) {
	left := slices.Clone(before)
	for _, f := range after {
		if i := slices.Index(left, f); i >= 0 {
			left = slices.Delete(left, i, i+1)
			continue
		}
		set = append(set, f)
	}
	has := func(list []Field, name string) bool {
		return slices.ContainsFunc(list, func(f Field) bool { return EqualFold([]byte(f.Name), name) })
	}
	for _, f := range left {
		if !has(after, f.Name) && !slices.Contains(removed, f.Name) {
			removed = append(removed, f.Name)
		}
	}
	return set, removed
}

// List returns a copy of the fields, in order.
func (f *Fields) List() []Field {
	list := make([]Field, 0, f.Len())
	for i := range f.Len() {
		if _, name, value, ok := f.At(i); ok {
			list = append(list, Field{string(name), string(value)})
		}
	}
	return list
}

// secretWords are parts of names of fields whose values are not shown to anybody.
var secretWords = [...]string{"authorization", "cookie", "token", "secret", "password", "passwd", "api-key", "apikey", "credential", "session", "ssl-client-cert"}

// Shown returns the value for people to read: nothing of it where the field is one that carries credentials.
func (f Field) Shown() string {
	name := make([]byte, len(f.Name))
	for i := range len(f.Name) {
		if name[i] = Lower(f.Name[i]); name[i] == '_' {
			name[i] = '-'
		}
	}
	for _, word := range secretWords {
		if !strings.HasPrefix(string(name), "access-control-") && strings.Contains(string(name), word) {
			return fmt.Sprintf("(%d bytes, not shown)", len(f.Value))
		}
	}
	return f.Value
}
