package router

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"podlane.dev/podlane/router/policy"
)

// Pattern is a path that is a regular expression (RE2). It is immutable and may be used concurrently.
type Pattern struct {
	text string
	// re is nil where the text is a literal prefix.
	re *regexp.Regexp
	// inPath is what nginx's rewrite directive looks for: the text without an anchor. It is nil where that comes to the same as re.
	inPath *regexp.Regexp
	// literal is what every match begins with.
	literal string
	nginx   bool
	under   bool
}

// NewPattern returns a Pattern that matches whole canonical paths, with regard to case.
func NewPattern(path string) (*Pattern, error) {
	p := &Pattern{text: path}
	return p, p.compile(`\A(?:`, `)\z`)
}

// NewNginxPattern returns a Pattern that matches as ingress-nginx does: the beginning of the decoded path, without regard to case. Of alternatives
// outside of parentheses only the first is bound to the beginning, as in the "^" + path of nginx's location.
func NewNginxPattern(path string) (*Pattern, error) {
	p := &Pattern{text: path, nginx: true}
	return p, p.compile(`(?i)\A`, ``)
}

// NewNginxPatternUnder returns the Pattern of what lies under path, which ends in no slash: path and a slash, in the place of path among other Patterns.
func NewNginxPatternUnder(path string) (*Pattern, error) {
	p := &Pattern{text: path + "/", nginx: true, under: true}
	return p, p.compile(`(?i)\A`, ``)
}

// Under says whether p was made by NewNginxPatternUnder.
func (p *Pattern) Under() bool { return p.under }

// place is the text by which Patterns are sorted.
func (p *Pattern) place() string {
	if p.under {
		return p.text[:len(p.text)-1]
	}
	return p.text
}

func (p *Pattern) compile(before, after string) error {
	if len(p.text) > policy.MaxRegexp {
		return fmt.Errorf("a regular expression has at most %d bytes, and this has %d", policy.MaxRegexp, len(p.text))
	}
	// By itself first: a parenthesis too many must not close ours.
	parsed, err := syntax.Parse(p.text, syntax.Perl)
	if err != nil {
		return policy.ExplainRegexp(err)
	}
	p.re, err = regexp.Compile(before + p.text + after)
	if err != nil {
		return policy.ExplainRegexp(err)
	}
	if p.nginx && alternates(p.text) {
		p.inPath, err = regexp.Compile(`(?i)` + p.text)
		return err
	}
	first := parsed
	if parsed.Op == syntax.OpConcat {
		first = parsed.Sub[0]
	}
	if first.Op == syntax.OpLiteral && first.Flags&syntax.FoldCase == 0 && isASCII(first.Rune) {
		p.literal = string(first.Rune)
		if first == parsed && p.nginx {
			p.re = nil
		}
	}
	return nil
}

// alternates says whether a regular expression, which must be valid, has alternatives outside of parentheses, so that an anchor in front of it would
// bind the first of them alone.
func alternates(text string) bool {
	anchored, err := syntax.Parse(`\A`+text, syntax.Perl)
	return err == nil && anchored.Op == syntax.OpAlternate
}

func isASCII(runes []rune) bool {
	return !slices.ContainsFunc(runes, func(r rune) bool { return r >= 0x80 })
}

// String returns the regular expression as it is written.
func (p *Pattern) String() string { return p.text }

// Literal returns the text that every match begins with, which may be empty.
func (p *Pattern) Literal() string { return p.literal }

// Nginx says whether the Pattern matches as ingress-nginx does.
func (p *Pattern) Nginx() bool { return p.nginx }

// Unbound says whether p has alternatives that match anywhere in a path, because only the first is bound to its beginning.
func (p *Pattern) Unbound() bool { return p.inPath != nil }

// Matches says whether p matches a canonical path.
func (p *Pattern) Matches(path string) bool {
	if p.nginx {
		path = decodedString(path)
	}
	return p.matches(path)
}

// matches is Matches for a path that is decoded where p needs that.
func (p *Pattern) matches(path string) bool {
	n := len(p.literal)
	switch {
	case len(path) < n:
		return false
	case p.nginx && !foldedEqual(path[:n], p.literal), !p.nginx && path[:n] != p.literal:
		return false
	case p.re == nil:
		return true
	}
	return p.re.MatchString(path)
}

// foldedEqual compares ASCII strings of one length without regard to case.
func foldedEqual(a, b string) bool {
	for i := range len(a) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x |= 0x20; x != y|0x20 || x < 'a' || x > 'z' {
			return false
		}
	}
	return true
}

// decodedString returns the form of a canonical path on which ingress-nginx decides: all escapes decoded, runs of slashes merged and dot segments
// removed after that. It allocates only where there is an escape.
func decodedString(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	return string(appendDecoded(nil, path))
}

// appendDecoded is decodedString with memory of the caller's.
func appendDecoded[T string | []byte](dst []byte, path T) []byte {
	at := len(dst)
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			high, _ := unhex(path[i+1])
			low, _ := unhex(path[i+2])
			dst = append(dst, high<<4|low)
			i += 2
			continue
		}
		dst = append(dst, path[i])
	}
	return dst[:at+len(ResolvePath(dst[at:]))]
}

// Target is what a request's path becomes: text with $1 to $9 for what the groups of a Pattern matched. It is immutable.
type Target struct {
	text  string
	parts []targetPart
}

type targetPart struct {
	literal string
	group   int // where it is not 0
}

// NewTarget parses text.
func NewTarget(text string) (*Target, error) {
	t := &Target{text: text}
	for rest := text; rest != ""; {
		literal, after, found := strings.Cut(rest, "$")
		if literal != "" {
			t.parts = append(t.parts, targetPart{literal: literal})
		}
		if !found {
			break
		}
		if after == "" || after[0] < '1' || after[0] > '9' {
			return nil, errors.New("a $ is followed by 1 to 9, the number of a group")
		}
		t.parts = append(t.parts, targetPart{group: int(after[0] - '0')})
		rest = after[1:]
	}
	return t, nil
}

// String returns the text.
func (t *Target) String() string { return t.text }

// Groups returns the highest number of a group in t.
func (t *Target) Groups() int {
	most := 0
	for _, part := range t.parts {
		most = max(most, part.group)
	}
	return most
}

// Groups returns how many groups p has.
func (p *Pattern) Groups() int {
	if p.re == nil {
		return 0
	}
	return p.re.NumSubexp()
}

// Rewrite appends what t makes of a canonical path that p matches: a path, escaped. ok is false where p does not match it.
func (p *Pattern) Rewrite(dst []byte, t *Target, path []byte) (_ []byte, ok bool) {
	var ends []int
	if p.nginx && slices.Contains(path, '%') {
		path = appendDecoded(nil, path)
	}
	if p.re != nil && t.Groups() > 0 {
		if ends = cmp.Or(p.inPath, p.re).FindSubmatchIndex(path); ends == nil {
			return dst, false
		}
	}
	for _, part := range t.parts {
		dst = append(dst, part.literal...)
		if i := 2 * part.group; part.group > 0 && i < len(ends) && ends[i] >= 0 {
			dst = p.appendEscaped(dst, path[ends[i]:ends[i+1]])
		}
	}
	return dst, true
}

// appendEscaped appends a part of the form that p matches.
func (p *Pattern) appendEscaped(dst, part []byte) []byte {
	if !p.nginx {
		return append(dst, part...) // it is canonical
	}
	for _, b := range part {
		if class := pathClass[b]; class == pathPlain || class == pathSlash {
			dst = append(dst, b)
		} else {
			dst = appendEscape(dst, b)
		}
	}
	return dst
}
