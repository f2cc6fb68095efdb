package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Validate checks the list of families as a whole: names and keys are there, well formed and unique, nothing lacks a doc,
// an example or an Effect, every example is of its Kind, and each family parses its examples, twice to the same text. All
// that it reports are programming errors, so a program may refuse to start over them; the error joins all of them.
func Validate(families []Family) error {
	var errs []error
	names := make(map[string]bool, len(families))
	owners := make(map[written]string)
	for i, f := range families {
		if f == nil {
			errs = append(errs, fmt.Errorf("family %d is nil", i))
			continue
		}
		if names[f.FamilyName()] {
			errs = append(errs, fmt.Errorf("family %q is listed twice", f.FamilyName()))
		}
		names[f.FamilyName()] = true
		for _, k := range f.FamilyKeys() {
			for _, name := range k.names() {
				if owner, taken := owners[name]; taken {
					errs = append(errs, fmt.Errorf("family %q: key %q belongs to family %q already", f.FamilyName(), name.text, owner))
				}
				owners[name] = f.FamilyName()
			}
		}
		for _, err := range validateFamily(f) {
			errs = append(errs, fmt.Errorf("family %q: %w", f.FamilyName(), err))
		}
	}
	return errors.Join(errs...)
}

// written is a name as users write it. An annotation and a setting of one name may be of two families.
type written struct {
	text    string
	setting bool
}

// names returns the names that k has, as annotation and as setting.
func (k *Key) names() []written {
	var names []written
	if k.InAnnotations() {
		names = append(names, written{k.Name, false})
		if k.Alias != "" {
			names = append(names, written{k.Alias, false})
		}
	}
	if k.InConfigMap() {
		names = append(names, written{k.SettingName(), true})
	}
	return names
}

// validateFamily returns what is wrong with f alone.
func validateFamily(f Family) []error {
	var errs []error
	if !keyLike(f.FamilyName()) {
		errs = append(errs, errors.New("the name must be lower-case letters, digits and dashes"))
	}
	if strings.TrimSpace(f.FamilyDoc()) == "" {
		errs = append(errs, errors.New("there is no doc"))
	}
	if e := f.InvalidEffect(); e != Ignore && e != Deny {
		errs = append(errs, errors.New("IfInvalid must be Ignore or Deny"))
	}
	if len(f.FamilyKeys()) == 0 {
		errs = append(errs, errors.New("there are no keys"))
	}
	examples := make(Values)
	data := make(exampleSource)
	for _, k := range f.FamilyKeys() {
		examples[k.Name] = k.Example
		data[k.Name] = k.ExampleData
		if f.IsGlobal() && k.Where != ConfigMap {
			errs = append(errs, fmt.Errorf("key %q: the family is global, so its keys are in the ConfigMap only", k.Name))
		}
		if err := validateKey(k); err != nil {
			errs = append(errs, fmt.Errorf("key %q: %w", k.Name, err))
		}
	}
	if _, refused := f.(interface{ Refusals() []Refusal }); refused {
		return errs
	}
	if err := validateExamples(f, examples, data); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// validateKey checks one key; its example must be of its Kind.
func validateKey(k Key) error {
	switch {
	case !keyLike(k.Name):
		return errors.New("the name must be lower-case letters, digits and dashes")
	case strings.TrimSpace(k.Doc) == "":
		return errors.New("there is no doc")
	case k.Example == "":
		return errors.New("there is no example")
	case k.Where > ConfigMap:
		return errors.New("there is no such place")
	}
	example, err := Values{k.Name: k.Example}, error(nil)
	switch k.Kind {
	case Bool:
		_, err = example.Bool(k.Name, false)
	case Int:
		_, err = example.Int(k.Name, 0)
	case Duration:
		_, err = example.Duration(k.Name, 0)
	case Size:
		_, err = example.Size(k.Name, 0)
	case URL:
		_, err = example.URL(k.Name)
	case List:
		if len(example.List(k.Name)) == 0 {
			err = errors.New("the example is an empty list")
		}
	case Switch:
		_, err = example.Switch(k.Name, false)
	case String, SecretName, ConfigMapName, ServiceName:
	default:
		err = fmt.Errorf("there is no kind %q", k.Kind)
	}
	return err
}

// validateExamples parses all examples of f together, twice, and compares the text of the values.
func validateExamples(f Family, examples Values, data exampleSource) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parsing the examples panics: %v", p)
		}
	}()
	var text [2]string
	for i := range text {
		parsed, err := f.ParseValues(examples, data)
		if err != nil {
			return fmt.Errorf("the examples do not parse: %w", err)
		}
		text[i] = Value{Family: f.FamilyName(), Parsed: parsed}.String()
	}
	if text[0] != text[1] {
		return fmt.Errorf("the same examples give two texts, %q and %q: the value needs a String method", text[0], text[1])
	}
	return nil
}

// keyLike says whether s is made of lower-case letters, digits and inner dashes.
func keyLike(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// exampleSource is the Source of examples: for each key the data of the object that its example names.
type exampleSource map[string]map[string]string

// Secret returns the key's data.
func (s exampleSource) Secret(key string) (map[string][]byte, error) {
	data := make(map[string][]byte, len(s[key]))
	for name, text := range s[key] {
		data[name] = []byte(text)
	}
	return data, nil
}

// ConfigMap returns the key's data.
func (s exampleSource) ConfigMap(key string) (map[string]string, error) { return s[key], nil }

// Compat returns false.
func (exampleSource) Compat() bool { return false }
