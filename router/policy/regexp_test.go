package policy

import (
	"strings"
	"testing"
)

func TestRegexpNamesTheConstruct(t *testing.T) {
	for expression, want := range map[string]string{
		"(?=a)b": "a lookahead", "(?!a)b": "a negative lookahead", "(?<=a)b": "a lookbehind", "(?<!a)b": "a negative lookbehind", "(?>a)b": "an atomic group", `(a)\1`: "a backreference",
		"a++": "a possessive quantifier", "(?i)(?R)": "a recursion", "(a": "missing closing )", "[": "missing closing ]",
	} {
		re, err := Regexp(expression)
		if err == nil || re != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", expression, err)
		}
	}
	if re, err := Regexp(strings.Repeat("a{1000}", MaxRegexp)); err == nil || re != nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("one that is too long: %v", err)
	}
	if re, err := Regexp("^b[0-9]$"); err != nil || !re.MatchString("b1") {
		t.Error(err)
	}
}
