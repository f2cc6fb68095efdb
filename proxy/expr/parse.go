package expr

import (
	"errors"
	"fmt"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
)

// The bounds of an expression. The longest log format that anyone seems to use has 60 variables in 3 KiB.
const (
	MaxText      = 8 << 10
	MaxVariables = 128
)

// The mistakes that have no name in them.
var (
	errLong      = fmt.Errorf("the text is too long: write at most %d bytes", MaxText)
	errMany      = fmt.Errorf("there are too many variables: write at most %d", MaxVariables)
	errControl   = errors.New("there is a control character, such as the end of a line: write the text in one line")
	errNUL       = errors.New("there is a NUL character: remove it")
	errNoName    = errors.New("there is a $ that no name follows: write a variable such as $request_uri; a $ by itself cannot be written")
	errUnclosed  = errors.New("there is a ${ that no } closes: write a variable such as ${request_uri}")
	errEmptyName = errors.New("there is a ${ without a name of letters, digits and underscores: write a variable such as ${request_uri}")
)

// Parse compiles an expression for header fields, URLs and keys. Names are those of Variables, in any case. The error says what is wrong and what
// to write. Literal text may not hold control characters: with them it could end a header field.
func Parse(text string) (*Expr, error) {
	for i := range len(text) {
		if text[i] < 0x20 || text[i] == 0x7f {
			return nil, errControl
		}
	}
	return compile(text, text, nothing)
}

// ParseLog compiles a format of log lines, which nginx reads as a quoted word of its configuration: \t, \n and \r are control characters, and a backslash
// before a quote or a backslash stands for that alone. Control characters other than NUL may also be written as they are. Variables that hold what a
// client proves its identity with, such as $http_authorization, $http_cookie and $cookie_NAME, are refused: a log is read by more people than that is for.
func ParseLog(text string) (*Expr, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, errNUL
	}
	return compile(text, quoted.Replace(text), credentials)
}

// refusal returns why a variable must not be in an expression, nil where it may.
type refusal func(written string, p *part) error

func nothing(string, *part) error { return nil }

// credentials refuses what must never be in a log.
func credentials(written string, p *part) error {
	switch p.name.id {
	case exchange.Authorization, exchange.ProxyAuthorization, exchange.Cookie, exchange.SetCookie:
	default:
		if !strings.HasPrefix(strings.ToLower(written), "cookie_") {
			return nil
		}
	}
	return fmt.Errorf("$%s holds what a client proves its identity with, and is never logged: leave it out, or write $remote_user", clip(written))
}

// quoted undoes what nginx's configuration has for characters in quotes. It is never written after it is built.
var quoted = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\'`, `'`, `\t`, "\t", `\n`, "\n", `\r`, "\r")

// compile returns the Expr of source; text is how it was written.
func compile(text, source string, refuse refusal) (*Expr, error) {
	if len(text) > MaxText {
		return nil, errLong
	}
	e := &Expr{text: text}
	variables := 0
	for rest := source; rest != ""; {
		literal, after, found := strings.Cut(rest, "$")
		if literal != "" {
			e.parts = append(e.parts, part{literal: literal})
		}
		if !found {
			break
		}
		written, remainder, err := cutName(after)
		if err != nil {
			return nil, err
		}
		p, err := variable(written)
		if err != nil {
			return nil, err
		}
		if err := refuse(written, &p); err != nil {
			return nil, err
		}
		if variables++; variables > MaxVariables {
			return nil, errMany
		}
		e.parts = append(e.parts, p)
		rest = remainder
	}
	return e, nil
}

// cutName splits what follows a $ into the variable's name and the rest.
func cutName(s string) (written, rest string, err error) {
	inner, braces := strings.CutPrefix(s, "{")
	n := 0
	for n < len(inner) && nameChar(inner[n]) {
		n++
	}
	written, rest = inner[:n], inner[n:]
	switch {
	case !braces && n == 0:
		return "", "", errNoName
	case !braces:
		return written, rest, nil
	case rest == "" || rest[0] != '}' && strings.IndexByte(rest, '}') < 0:
		return "", "", errUnclosed
	case n == 0 || rest[0] != '}':
		return "", "", errEmptyName
	}
	return written, rest[1:], nil
}

func nameChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// variable returns the part of a name: nginx compares names without regard to case.
func variable(written string) (part, error) {
	if '0' <= written[0] && written[0] <= '9' {
		return part{}, fmt.Errorf("$%s: captures of a regular expression are no variables here: write a variable such as $request_uri", clip(written))
	}
	lower := strings.ToLower(written)
	if d, ok := byName[lower]; ok {
		return part{read: d.read}, nil
	}
	// Their order does not matter: none begins like another.
	for i := range table {
		family, ok := strings.CutSuffix(table[i].Name, familyEnd)
		if !ok {
			continue
		}
		if last, ok := strings.CutPrefix(lower, family); ok && last != "" {
			p := part{read: table[i].read, name: name{text: last}}
			if strings.HasSuffix(family, "http_") {
				p.name.id = exchange.IDOf(strings.ReplaceAll(last, "_", "-"))
			}
			return p, nil
		}
	}
	if near := nearest(lower); near != "" {
		return part{}, fmt.Errorf("there is no variable $%s: write $%s if that is meant", clip(written), near)
	}
	return part{}, fmt.Errorf("there is no variable $%s: write one of those in ANNOTATIONS.md (Variables), such as $request_uri, $host, $remote_addr or $http_NAME", clip(written))
}

// clip shortens a name for a message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// nearest returns the variable that differs from s by one or two letters, "" where there is none or s is short.
func nearest(s string) string {
	best, least := "", 3
	for i := range table {
		candidate := table[i].Name
		if strings.HasSuffix(candidate, familyEnd) || len(s) < 4 || len(candidate)-len(s) > 2 || len(s)-len(candidate) > 2 {
			continue
		}
		if d := distance(s, candidate); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove or replace to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
