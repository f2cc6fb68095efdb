package filters

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
)

// fieldSet are fields that are set on messages, in the order of their names.
type fieldSet []fieldValue

// fieldValue is one field. Its value is an expression where value is set, else text.
type fieldValue struct {
	id    exchange.ID
	name  string
	text  string
	value *expr.Expr
}

// String returns the field as it is written.
func (v fieldValue) String() string { return fmt.Sprintf("%s: %q", v.name, v.text) }

// maxFieldSet bounds the fields of one ConfigMap: a head has room for 100 in all.
const maxFieldSet = 64

// fieldRules say what may be in a ConfigMap whose keys are names of fields.
type fieldRules struct {
	// key names the ConfigMap.
	key string
	// variables says that values are expressions.
	variables bool
	// refused returns why the field must not be set, "" where it may.
	refused func(name string) string
}

// fieldsOf reads a ConfigMap. All mistakes are told of at once.
func (r fieldRules) fieldsOf(data map[string]string) (fieldSet, error) {
	if len(data) > maxFieldSet {
		return nil, fmt.Errorf("%s: there are %d fields in the ConfigMap: write at most %d", r.key, len(data), maxFieldSet)
	}
	var set fieldSet
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(data)) {
		field, err := r.field(name, strings.TrimSpace(data[name]))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: the field %q of the ConfigMap: %w", r.key, name, err))
			continue
		}
		set = append(set, field)
	}
	return set, errors.Join(errs...)
}

func (r fieldRules) field(name, value string) (fieldValue, error) {
	if !allIn(name, letters+digits+"-_") || name == "" {
		return fieldValue{}, errors.New("a name has letters, digits, - and _ alone")
	}
	id := exchange.IDOf(name)
	if id.Managed() {
		return fieldValue{}, errors.New("it says how messages are sent over one connection, and the proxy alone knows that")
	}
	if why := r.refused(name); why != "" {
		return fieldValue{}, errors.New(why)
	}
	if !isFieldValue(value) {
		return fieldValue{}, errors.New("its value is no text in one line of printable ASCII characters")
	}
	field := fieldValue{id: id, name: name, text: value}
	if r.variables && strings.Contains(value, "$") {
		var err error
		if field.value, err = expr.Parse(value); err != nil {
			return fieldValue{}, err
		}
	}
	return field, nil
}

// allowed refuses nothing.
func allowed(string) string { return "" }

// apply sets the fields of s on f, in the place of those of the same name. One whose value is empty is only removed, as nginx does.
func (s fieldSet) apply(f *exchange.Fields, x *exchange.Exchange) {
	for i := range s {
		v := &s[i]
		if v.value == nil {
			removeField(f, v.id, v.name)
			if v.text != "" {
				f.AddString(v.name, v.text)
			}
			continue
		}
		at := len(x.Scratch)
		x.Scratch = v.value.Append(x.Scratch, x) // it may read the field that it replaces
		removeField(f, v.id, v.name)
		if len(x.Scratch) > at {
			f.Add(v.name, x.Scratch[at:])
		}
		x.Scratch = x.Scratch[:at]
	}
}

// removeField removes all fields of a name, whose ID may be Unknown.
func removeField(f *exchange.Fields, id exchange.ID, name string) {
	if id != exchange.Unknown {
		f.Del(id)
		return
	}
	f.DelString(name)
}
