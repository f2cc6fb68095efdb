package filters

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/router/policy"
)

// replacement is what nginx's proxy_redirect, proxy_cookie_domain and proxy_cookie_path are told: what to look for, and what to write for it.
type replacement struct {
	from *expr.Expr     // text, where pattern is nil
	re   *regexp.Regexp // what begins with ~ or ~*
	to   []piece
	text string // as written
}

// piece is a part of what is written: an expression, or what a group of the pattern matched.
type piece struct {
	value *expr.Expr
	group int // where value is nil
}

// String returns the replacement as it was written.
func (r *replacement) String() string {
	if r == nil {
		return "off"
	}
	return r.text
}

// newReplacement compiles a pattern and what is written for it. caseless says so of a pattern that begins with ~; one with ~* is always.
func newReplacement(from, to string, flags string) (*replacement, error) {
	r := &replacement{text: from + " " + to}
	var err error
	if pattern, ok := strings.CutPrefix(from, "~"); ok {
		if caseless, ok := strings.CutPrefix(pattern, "*"); ok {
			pattern, flags = caseless, "(?i)"
		}
		if r.re, err = policy.Regexp(flags + pattern); err != nil {
			return nil, fmt.Errorf("%q is no regular expression that Podlane has (RE2): %w", pattern, err)
		}
	} else if r.from, err = expr.Parse(from); err != nil {
		return nil, err
	}
	r.to, err = r.pieces(to)
	return r, err
}

// pieces splits what is written at the groups that it names.
func (r *replacement) pieces(text string) ([]piece, error) {
	var list []piece
	add := func(s string) error {
		e, err := expr.Parse(s)
		if s != "" {
			list = append(list, piece{value: e})
		}
		return err
	}
	begin := 0
	for i := 0; i < len(text); i++ {
		group, length := r.groupAt(text[i:])
		if length == 0 {
			continue
		}
		if group < 0 {
			return nil, errors.New("there are not so many groups in the pattern: " + text[i:i+length])
		}
		if err := add(text[begin:i]); err != nil {
			return nil, err
		}
		list = append(list, piece{group: group})
		begin = i + length
		i = begin - 1
	}
	return list, add(text[begin:])
}

// groupAt returns the group that text begins with the name of, and how long the name is: 0 for none. The group is -1 where the pattern has none.
func (r *replacement) groupAt(text string) (group, length int) {
	name, length := cutVariable(text)
	if length == 0 {
		return 0, 0
	}
	number, err := strconv.Atoi(name)
	switch {
	case err == nil && (r.re == nil || number > r.re.NumSubexp()):
		return -1, length
	case err == nil:
		return number, length
	case r.re == nil || r.re.SubexpIndex(name) < 0:
		return 0, 0
	}
	return r.re.SubexpIndex(name), length
}

// cutVariable returns the name of the variable that text begins with, and how long it is as written: 0 for none. Numbers have one digit, as in nginx.
func cutVariable(text string) (name string, length int) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return "", 0
	}
	rest, braces := strings.CutPrefix(rest, "{")
	n := 0
	for n < len(rest) && strings.IndexByte(letters+digits+"_", rest[n]) >= 0 {
		n++
	}
	if n > 0 && rest[0] <= '9' {
		n = 1
	}
	switch {
	case n == 0, braces && (n >= len(rest) || rest[n] != '}'):
		return "", 0
	case braces:
		return rest[:n], n + 3
	}
	return rest[:n], n + 1
}

// appendTo appends what is written for value, in which groups are where the pattern matched.
func (r *replacement) appendTo(dst []byte, x *exchange.Exchange, value []byte, groups []int) []byte {
	for _, p := range r.to {
		switch {
		case p.value != nil:
			dst = p.value.Append(dst, x)
		case groups[2*p.group] >= 0:
			dst = append(dst, value[groups[2*p.group]:groups[2*p.group+1]]...)
		}
	}
	return dst
}

// prefix appends value with its beginning replaced, or all of it where the pattern is a regular expression that matches any part, as nginx has it. ok is
// false, and nothing is appended, where it does not match.
func (r *replacement) prefix(dst []byte, x *exchange.Exchange, value []byte) (out []byte, ok bool) {
	if r.re != nil {
		return r.whole(dst, x, value)
	}
	at := len(dst)
	dst = r.from.Append(dst, x)
	n := len(dst) - at
	if !bytes.HasPrefix(value, dst[at:]) {
		return dst[:at], false
	}
	dst = r.appendTo(dst[:at], x, value, nil)
	return append(dst, value[n:]...), true
}

// whole appends what is written for value where a regular expression matches it.
func (r *replacement) whole(dst []byte, x *exchange.Exchange, value []byte) (out []byte, ok bool) {
	groups := r.re.FindSubmatchIndex(value)
	if groups == nil {
		return dst, false
	}
	return r.appendTo(dst, x, value, groups), true
}
