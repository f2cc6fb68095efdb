package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Refusal is a key of ingress-nginx's that Podlane knows and does not obey.
type Refusal struct {
	Name  string
	Where Place
	// Why says why not, and Instead what to write or do in its place; both are parts of a sentence. Instead may be empty.
	Why, Instead string
	// Default is the value that holds in ingress-nginx without the key, "" for none: who writes that, or nothing at all, loses nothing.
	Default string
	// Harmless says that nothing is lost without the key, as with the process tuning of nginx.
	Harmless bool
}

// RefusedError says that a key was given that is refused.
type RefusedError struct{ *Refusal }

// Error names the key, and says why it is refused and what to do instead.
func (e RefusedError) Error() string {
	if e.Instead == "" {
		return fmt.Sprintf("%s has no effect: %s", e.Name, e.Why)
	}
	return fmt.Sprintf("%s has no effect: %s; %s", e.Name, e.Why, e.Instead)
}

// Refused is the Family of keys that are refused: it has no value, and a Problem for every key.
type Refused struct {
	// Name and Doc are as in Of.
	Name, Doc string
	List      []Refusal
}

// Refusals returns List.
func (f *Refused) Refusals() []Refusal { return f.List }

// FamilyName returns Name.
func (f *Refused) FamilyName() string { return f.Name }

// FamilyDoc returns Doc.
func (f *Refused) FamilyDoc() string { return f.Doc }

// FamilyKeys returns a Key for each Refusal.
func (f *Refused) FamilyKeys() []Key {
	keys := make([]Key, len(f.List))
	for i, r := range f.List {
		keys[i] = Key{Name: r.Name, Kind: String, Where: r.Where, Doc: r.Why, Default: cmp.Or(r.Default, "none"), Example: "any"}
	}
	return keys
}

// InvalidEffect returns Ignore.
func (f *Refused) InvalidEffect() Effect { return Ignore }

// IsGlobal returns false.
func (f *Refused) IsGlobal() bool { return false }

// ParseValues returns a RefusedError for every key with a value that asks for something, joined.
func (f *Refused) ParseValues(v Values, _ Source) (any, error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(v)) {
		for i := range f.List {
			if f.List[i].Name == name && !f.List[i].asksNothing(v[name]) {
				errs = append(errs, RefusedError{&f.List[i]})
			}
		}
	}
	return nil, errors.Join(errs...)
}

// asksNothing says whether a value is what holds in ingress-nginx without the key, however it is written.
func (r *Refusal) asksNothing(value string) bool {
	value = strings.TrimSpace(value)
	if value == "" || strings.EqualFold(value, r.Default) {
		return true
	}
	wanted, known := truth(r.Default)
	written, ok := truth(value)
	return known && ok && wanted == written
}

// truth reads a value as one of nginx's or of Go's booleans.
func truth(text string) (on, ok bool) {
	switch strings.ToLower(text) {
	case "on":
		return true, true
	case "off":
		return false, true
	}
	on, err := strconv.ParseBool(text)
	return on, err == nil
}
