package policy

import (
	"errors"
	"slices"
	"testing"
)

// TestRefusedValues checks which values of a refused key are told of: those that ask for something.
func TestRefusedValues(t *testing.T) {
	f := &Refused{Name: "refused", Doc: "Nothing.", List: []Refusal{
		{Name: "early", Default: "false", Why: "no"}, {Name: "ocsp", Default: "off", Why: "no"}, {Name: "spans", Default: "true", Why: "no"},
		{Name: "size", Default: "16384", Why: "no"}, {Name: "snippet", Why: "no"},
	}}
	for _, test := range []struct {
		key  string
		says []string
		not  []string
	}{
		{"early", []string{"true", "on", "T", "yes", "x"}, []string{"false", "off", "F", "0", " False ", ""}},
		{"ocsp", []string{"on", "true"}, []string{"off", "false"}},
		{"spans", []string{"false", "off"}, []string{"true", "on", "1"}},
		{"size", []string{"1024", "true"}, []string{"16384", " 16384"}},
		{"snippet", []string{"deny all;", "false"}, []string{"", "  \n"}},
	} {
		for _, value := range slices.Concat(test.says, test.not) {
			_, err := f.ParseValues(Values{test.key: value}, nil)
			refused, told := errors.AsType[RefusedError](err)
			if want := slices.Contains(test.says, value); told != want || told && refused.Name != test.key {
				t.Errorf("%s: %q: %v, want it told: %t", test.key, value, err, want)
			}
		}
	}
	_, err := f.ParseValues(Values{"early": "false", "snippet": "x", "ocsp": "on"}, nil)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 2 {
		t.Errorf("of three keys, two of which ask for something: %v", err)
	}
}
