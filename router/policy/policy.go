// Package policy says what an annotation is: its keys, kinds and docs, how it is parsed into an immutable value,
// and what happens to a route whose value does not parse. It knows nothing of Ingress objects, routing or HTTP.
//
// A key has its value from the annotation, else from the operator's ConfigMap, else from Key.Compat where the Ingress is read as ingress-nginx
// reads it. A Family sees only the outcome.
package policy

import (
	"cmp"
	"fmt"
)

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
	Switch   Kind = "on/off"   // nginx's booleans
	String   Kind = "string"
	List     Kind = "list" // comma-separated
	URL      Kind = "url"
	// SecretName, ConfigMapName and ServiceName are NAME or NAMESPACE/NAME of an object that Build hands to the family: see Source.
	SecretName    Kind = "secret"
	ConfigMapName Kind = "configmap"
	ServiceName   Kind = "service"
)

// Place says where a Key may be written.
type Place uint8

// The places. ConfigMap is the operator's: what it says holds for every Ingress that does not say otherwise.
const (
	// Annotation only.
	Annotation Place = iota
	// Everywhere: as an annotation, and in the ConfigMap as the annotation's default.
	Everywhere
	// ConfigMap only.
	ConfigMap
)

// Key is one annotation or setting of a Family, without its prefix.
type Key struct {
	// Name is the key without prefix: "ssl-redirect".
	Name string
	Kind Kind
	// Where the key may be written.
	Where Place
	// Setting is the key in the ConfigMap where that is another than Name.
	Setting string
	// Alias is a further name of the annotation, "" for none. Where both are given, Name wins.
	Alias string
	// Doc is one or two sentences for the reference. Default is what holds without the key, as text.
	Doc, Default string
	// Compat is the value that holds without the key for Ingresses that are read as ingress-nginx reads them, where it is another than Default.
	Compat string
	// Closes says that the key keeps strangers out. Where its value in the ConfigMap cannot be used, every route is closed.
	Closes bool
	// Differs says in what the key differs from ingress-nginx's of the same name; "" says that it does not, or that ingress-nginx has none.
	Differs string
	// Lacks says which values of ingress-nginx's the key does not take; "" says none. Who writes one has a Problem, so without one nothing differs.
	Lacks string
	// Example is a valid value; a test parses it.
	Example string
	// ExampleData is the data of the object that Example names, where the family reads one.
	ExampleData map[string]string
}

// InAnnotations says whether the key may be an annotation, InConfigMap whether it may be in the ConfigMap.
func (k *Key) InAnnotations() bool { return k.Where != ConfigMap }

// InConfigMap says whether the key may be in the ConfigMap.
func (k *Key) InConfigMap() bool { return k.Where != Annotation }

// Difference returns Differs and Lacks in one.
func (k *Key) Difference() string {
	if k.Differs == "" || k.Lacks == "" {
		return k.Differs + k.Lacks
	}
	return k.Differs + "; " + k.Lacks
}

// SettingName is the key in the ConfigMap.
func (k *Key) SettingName() string { return cmp.Or(k.Setting, k.Name) }

// Source is what a family may look at while it parses, besides its values. Whatever it asks for is remembered: when it changes, the family parses
// again. Secrets and ConfigMaps are found in the Ingress's own namespace, and elsewhere only where the operator says so.
type Source interface {
	// Secret and ConfigMap return the data of the object that key's value names. The error is for the user.
	Secret(key string) (map[string][]byte, error)
	ConfigMap(key string) (map[string]string, error)
	// Compat says that the Ingress is to be read as ingress-nginx reads it.
	Compat() bool
}

// Value is a parsed family: its name and the immutable T of Of[T].
type Value struct {
	Family string
	Parsed any
	// Given are the keys that it was made of, in the order of the family, for explanations. It is no part of the value's text.
	Given []Given
}

// Given is one key that was given, and by whom. It is comparable.
type Given struct {
	// By says which layer the value is from.
	By Layer
	// Name is the annotation with its prefix, or the key of the ConfigMap.
	Name string
	// Value is what is written there.
	Value string
	// Object is namespace/name of the ConfigMap; "" for annotations, which are those of the Route's Ingress.
	Object string
}

// Layer is where the value of a key comes from.
type Layer string

// The layers, in descending order of precedence.
const (
	ByAnnotation Layer = "annotation"
	ByConfigMap  Layer = "ConfigMap"
	// ByCompat is what ingress-nginx takes without the key.
	ByCompat Layer = "ingress-nginx's default"
)

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
	// IsGlobal says that the family is about the proxy and not about routes: its keys are all in the ConfigMap, and there is one value of it.
	IsGlobal() bool
	// ParseValues returns the immutable parsed value. The error names the key and says what to write instead.
	ParseValues(Values, Source) (any, error)
}

// Of is one family of annotations that parse together into an immutable T.
type Of[T any] struct {
	// Name is unique among the families; Doc is one paragraph for the reference.
	Name, Doc string
	Keys      []Key
	IfInvalid Effect
	// Global says that the family is about the proxy: see Family.
	Global bool
	// Parse is called when at least one key is present. It must not keep v.
	Parse func(v Values) (T, error)
	// Resolve is Parse for families that need more than their values. One of the two is set.
	Resolve func(v Values, from Source) (T, error)
}

// FamilyName returns Name.
func (f *Of[T]) FamilyName() string { return f.Name }

// FamilyDoc returns Doc.
func (f *Of[T]) FamilyDoc() string { return f.Doc }

// FamilyKeys returns Keys; the caller must not change them.
func (f *Of[T]) FamilyKeys() []Key { return f.Keys }

// InvalidEffect returns IfInvalid.
func (f *Of[T]) InvalidEffect() Effect { return f.IfInvalid }

// IsGlobal returns Global.
func (f *Of[T]) IsGlobal() bool { return f.Global }

// ParseValues calls Resolve or Parse.
func (f *Of[T]) ParseValues(v Values, from Source) (any, error) {
	if f.Resolve != nil {
		return f.Resolve(v, from)
	}
	return f.Parse(v)
}
