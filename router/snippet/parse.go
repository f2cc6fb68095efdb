package snippet

import (
	"errors"
	"fmt"
	"strings"
)

// Directive is one directive of nginx's configuration.
type Directive struct {
	Name string
	Args []string
	// Block is what is in braces behind it; IsBlock says that there are braces.
	Block   []Directive
	IsBlock bool
	// Line counts from 1.
	Line int
}

// String returns the directive as it is written in a line, without its block.
func (d Directive) String() string {
	text := strings.Join(append([]string{d.Name}, d.Args...), " ")
	if d.IsBlock {
		return text + " { … }"
	}
	return text
}

// maxDepth bounds blocks in blocks.
const maxDepth = 20

// Parse reads text as nginx's ngx_conf_read_token does: words, quotes, escapes, comments, semicolons and braces.
func Parse(text string) ([]Directive, error) {
	p := &parser{rest: text, line: 1}
	list, err := p.directives(0)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", p.line, err)
	}
	return list, nil
}

type parser struct {
	rest string
	line int
}

var errUnexpectedEnd = errors.New("it ends within a directive")

// directives reads up to the end of the text or, within a block, of the block.
func (p *parser) directives(depth int) ([]Directive, error) {
	var list []Directive
	for {
		d, end, err := p.head()
		switch {
		case err != nil:
			return nil, err
		case end == semicolonToken:
			list = append(list, d)
		case end == openToken && depth == maxDepth:
			return nil, errors.New("there are too many blocks in blocks")
		case end == openToken:
			if d.Block, err = p.directives(depth + 1); err != nil {
				return nil, err
			}
			d.IsBlock = true
			list = append(list, d)
		case end == endToken && depth > 0:
			return nil, errUnexpectedEnd
		case end == closeToken && depth == 0:
			return nil, errTooManyBraces
		default:
			return list, nil
		}
	}
}

var errTooManyBraces = errors.New(`there is a "}" too many`)

// head reads the words of a directive, and returns the mark behind them: the end of the text or of a block only where there are no words.
func (p *parser) head() (d Directive, end tokenKind, err error) {
	var words []string
	for {
		word, kind, err := p.token()
		if err != nil {
			return d, kind, err
		}
		if kind == wordToken {
			if len(words) == 0 {
				d.Line = p.line
			}
			words = append(words, word)
			continue
		}
		switch {
		case len(words) > 0 && kind == endToken:
			return d, kind, errUnexpectedEnd
		case len(words) > 0 && kind == closeToken:
			return d, kind, errTooManyBraces
		case len(words) > 0:
			d.Name, d.Args = words[0], words[1:]
		case kind == semicolonToken || kind == openToken:
			return d, kind, errors.New("there is a directive without a name")
		}
		return d, kind, nil
	}
}

type tokenKind uint8

const (
	wordToken tokenKind = iota
	semicolonToken
	openToken
	closeToken
	endToken
)

// token reads one word or mark.
func (p *parser) token() (word string, kind tokenKind, err error) {
	p.skipSpace()
	if p.rest == "" {
		return "", endToken, nil
	}
	switch c := p.rest[0]; c {
	case ';', '{', '}':
		p.rest = p.rest[1:]
		return "", map[byte]tokenKind{';': semicolonToken, '{': openToken, '}': closeToken}[c], nil
	case '"', '\'':
		return p.quoted(c)
	}
	var b strings.Builder
	for i := 0; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteString(unescape(p.rest[i]))
			continue
		case c == '$' && strings.HasPrefix(p.rest[i:], "${"):
			end := strings.IndexByte(p.rest[i:], '}')
			if end < 0 {
				return "", 0, errUnexpectedEnd
			}
			b.WriteString(p.rest[i : i+end+1])
			i += end
			continue
		case strings.IndexByte(" \t\r\n;{}", c) >= 0:
			p.rest = p.rest[i:]
			return b.String(), wordToken, nil
		}
		b.WriteByte(c)
	}
	p.rest = ""
	return b.String(), wordToken, nil
}

// quoted reads a word in quotes.
func (p *parser) quoted(quote byte) (string, tokenKind, error) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteString(unescape(p.rest[i]))
			continue
		case c == quote:
			p.rest = p.rest[i+1:]
			return b.String(), wordToken, nil
		case c == '\n':
			p.line++
		}
		b.WriteByte(c)
	}
	return "", 0, errors.New("a quote is not closed")
}

// unescape returns what a backslash and c stand for.
func unescape(c byte) string {
	switch c {
	case '"', '\'', '\\', ' ', ';':
		return string(c)
	case 't':
		return "\t"
	case 'r':
		return "\r"
	case 'n':
		return "\n"
	}
	return `\` + string(c)
}

// skipSpace skips white space and comments.
func (p *parser) skipSpace() {
	for p.rest != "" {
		switch p.rest[0] {
		case '\n':
			p.line++
		case ' ', '\t', '\r':
		case '#':
			end := strings.IndexByte(p.rest, '\n')
			if end < 0 {
				p.rest = ""
				return
			}
			p.rest = p.rest[end:]
			continue
		default:
			return
		}
		p.rest = p.rest[1:]
	}
}
