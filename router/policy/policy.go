// Package policy says what an annotation is: its keys, kinds and docs, how it is parsed into an immutable value,
// and what happens to a route whose value does not parse. It knows nothing of Ingress objects, routing or HTTP.
package policy

import "fmt"

// Effect says what becomes of a route when a family's value does not parse.
type Effect uint8

// The effects. There is no default: a Family without one is a programming error that Validate reports.
const (
	// Ignore drops the value, keeps the route, and raises a Problem.
	Ignore Effect = iota + 1
	// Deny answers 503 on that route alone, and raises a Problem. Security families fail closed with it.
	Deny
)

// Kind is the type of an annotation's text.
type Kind string

// The kinds of annotation text, with ingress-nginx's rules of parsing.
const (
	Bool     Kind = "bool"     // strconv.ParseBool
	Int      Kind = "int"      // strconv.Atoi
	Duration Kind = "duration" // Go duration, or a number of seconds
	Size     Kind = "size"     // nginx size: digits and an optional b, k, m or g
	String   Kind = "string"
	List     Kind = "list" // comma-separated
	URL      Kind = "url"
)

// Key is one annotation of a Family, without its prefix.
type Key struct {
	// Name is the key without prefix: "ssl-redirect".
	Name string
	Kind Kind
	// Doc is one or two sentences for the reference. Default is what holds without the annotation, as text.
	Doc, Default string
	// Example is a valid value; a test parses it.
	Example string
}

// Value is a parsed family: its name and the immutable T of Of[T].
type Value struct {
	Family string
	Parsed any
}

// String returns the family and the parsed value as text, for the text form of a Table: the value's own String where it has
// one, else its fields. Equal values must give equal text, so a T that holds pointers or functions needs a String method;
// so does one that holds secrets, which must not print them. Validate checks the former.
func (v Value) String() string {
	if v.Parsed == nil {
		return v.Family
	}
	return fmt.Sprintf("%s %+v", v.Family, v.Parsed)
}

// Family is what Build needs to know about annotations that parse together. Of[T] implements it.
type Family interface {
	// FamilyName is unique among the families, FamilyDoc one paragraph for the reference.
	FamilyName() string
	FamilyDoc() string
	// FamilyKeys are the annotations; the caller must not change the slice.
	FamilyKeys() []Key
	// InvalidEffect says what becomes of a route whose values do not parse.
	InvalidEffect() Effect
	// ParseValues returns the immutable parsed value. The error names the key and says what to write instead.
	ParseValues(Values) (any, error)
}

// Of is one family of annotations that parse together into an immutable T.
type Of[T any] struct {
	// Name is unique among the families; Doc is one paragraph for the reference.
	Name, Doc string
	Keys      []Key
	IfInvalid Effect
	// Parse is called when at least one key is present. It must not keep v.
	Parse func(v Values) (T, error)
}

// FamilyName returns Name.
func (f *Of[T]) FamilyName() string { return f.Name }

// FamilyDoc returns Doc.
func (f *Of[T]) FamilyDoc() string { return f.Doc }

// FamilyKeys returns Keys; the caller must not change them.
func (f *Of[T]) FamilyKeys() []Key { return f.Keys }

// InvalidEffect returns IfInvalid.
func (f *Of[T]) InvalidEffect() Effect { return f.IfInvalid }

// ParseValues calls Parse.
func (f *Of[T]) ParseValues(v Values) (any, error) { return f.Parse(v) }
