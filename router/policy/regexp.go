package policy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// MaxRegexp is how long a regular expression may be, in bytes (SECURITY.md C8). Compiled it takes hundreds of times as much memory, and annotations may have 256 KiB.
const MaxRegexp = 1024

// Regexp compiles a regular expression (RE2) of at most 1,024 bytes that a user wrote. Its errors are those of ExplainRegexp.
func Regexp(expression string) (*regexp.Regexp, error) {
	if len(expression) > MaxRegexp {
		return nil, fmt.Errorf("a regular expression has at most %d bytes, and this has %d", MaxRegexp, len(expression))
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, ExplainRegexp(err)
	}
	return re, nil
}

// ExplainRegexp returns an error of regexp or regexp/syntax in words that follow "is not valid: ": it names the construct of PCRE that RE2 does not
// have, where it is one. Other errors are returned as they are.
func ExplainRegexp(err error) error {
	var e *syntax.Error
	if !errors.As(err, &e) {
		return err
	}
	constructs := []struct{ in, name string }{
		{"(?=", "a lookahead"}, {"(?!", "a negative lookahead"}, {"(?<=", "a lookbehind"}, {"(?<!", "a negative lookbehind"},
		{"(?>", "an atomic group"}, {"(?|", "a branch reset"}, {"(?#", "a comment"}, {"(?(", "a condition"}, {"(?R", "a recursion"}, {"(*", "a verb"},
	}
	for _, c := range constructs {
		if strings.Contains(e.Expr, c.in) {
			return fmt.Errorf("%s has no counterpart in RE2 (%s)", c.name, e.Expr)
		}
	}
	switch {
	case e.Code == syntax.ErrInvalidEscape && len(e.Expr) == 2 && e.Expr[1] >= '1' && e.Expr[1] <= '9':
		return fmt.Errorf("a backreference has no counterpart in RE2 (%s)", e.Expr)
	case e.Code == syntax.ErrInvalidRepeatOp && strings.HasSuffix(e.Expr, "+"):
		return fmt.Errorf("a possessive quantifier has no counterpart in RE2 (%s)", e.Expr)
	}
	return fmt.Errorf("%s (%s)", e.Code, e.Expr)
}
