// Package expr evaluates nginx's expressions: text in which $variable and ${variable} stand for what is known of a request. It owns the table of
// variables, how they are parsed, and how their values are escaped. An Expr is compiled once, where an annotation or an option is parsed, and
// evaluated per request without an allocation. The package must not decide anything about a request, nor change it.
//
// There are no captures, no conditions and no assignments: what an expression gives depends on the Exchange alone.
package expr

import (
	"podlane.dev/podlane/proxy/exchange"
)

// Expr is a compiled expression. It is immutable and may be used concurrently. The zero Expr is the empty text.
type Expr struct {
	text  string
	parts []part
}

// part is a piece of literal text or, where read is not nil, a variable.
type part struct {
	literal string
	read    reader
	name    name
}

// reader appends a variable's value to dst. It reports false, and leaves dst as it is, where the request has no such thing; a value that
// is there and empty is true. nginx draws the same line, and its logs show it.
type reader func(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool)

// name is the last part of a variable such as $http_NAME: lower-case, with underscores.
type name struct {
	text string
	id   exchange.ID // of the header field, which has dashes in place of the underscores; else Unknown
}

// Append appends the expression's value for x, fit for a header field: AppendEscaped with EscapeText.
func (e *Expr) Append(dst []byte, x *exchange.Exchange) []byte {
	return e.AppendEscaped(dst, x, EscapeText)
}

// AppendEscaped appends the expression's value for x; values of variables are escaped as how says, literal text is not. It allocates
// nothing but room in dst. dst must not overlap what x holds; memory behind x.Scratch's end does not. A value may be as long as the head
// of the request, and the expression may name it MaxVariables times: who sends the result somewhere bounds its length.
func (e *Expr) AppendEscaped(dst []byte, x *exchange.Exchange, how Escape) []byte {
	for i := range e.parts {
		p := &e.parts[i]
		if p.read == nil {
			dst = append(dst, p.literal...)
			continue
		}
		from := len(dst)
		var found bool
		if dst, found = p.read(dst, x, &p.name); !found {
			if how == EscapeLog {
				dst = append(dst, '-')
			}
			continue
		}
		dst = escape(dst, from, how)
	}
	return dst
}

// Constant returns the expression's value, and true, where it holds no variable.
func (e *Expr) Constant() (string, bool) {
	switch len(e.parts) {
	case 0:
		return "", true
	case 1:
		return e.parts[0].literal, e.parts[0].read == nil
	}
	return "", false
}

// String returns the expression as it was written, so equal text gives equal Strings.
func (e *Expr) String() string { return e.text }
