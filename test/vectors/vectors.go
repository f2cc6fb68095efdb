// Package vectors holds the examples of the HTTP contract: what a client sends byte for byte, which answers it gets, and what a Pod
// may see of it (vectors.txt); what a Pod answers, and what the client gets of that (answers.txt). The tests of the codec, those of the
// engine and the differential tests run the same examples. Each file has its notation explained at its head; the rows whose names
// are L, R, F, H, C and N with a number up to those of the contract are the contract's own.
package vectors

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Vector is one example of a client's bytes. It is a plain value.
type Vector struct {
	// ID is the row's name, followed by the number of the case where the row has several.
	ID string
	// Rules are the rules of the contract that the example shows.
	Rules []string
	// Input is what the client sends; HalfClose says that it then closes its sending side.
	Input     string
	HalfClose bool
	// Answers are what the client gets, in order; none where the connection ends in silence.
	Answers []Answer
	// Seen are the requests that Pods get, in order; nil where only their number is known, which is that of the Answers that are
	// neither refused nor local.
	Seen []Seen
	// Alone says that the input loses its meaning with one more field or with a request in front of it.
	Alone bool
	// Continue says that an interim 100 may come before an answer: only where the client's bytes come in pieces.
	Continue bool
	// Octet says that this is one of many cases that differ in one byte only.
	Octet bool
}

// Answer is one answer to the client.
type Answer struct {
	Status int
	// End is how the answer came about and what follows it.
	End End
	// Fields are header fields that the answer has, as "Name: value".
	Fields []string
}

// End is what becomes of the connection and of the request behind an Answer.
type End uint8

// The ends of an exchange.
const (
	// Open: a Pod's answer; the next request may follow.
	Open End = iota
	// Closed: a Pod's answer; the connection ends.
	Closed
	// Local: the proxy's own answer to a good request; the next one may follow.
	Local
	// LocalClosed: the proxy's own answer to a good request; the connection ends.
	LocalClosed
	// Refused: the proxy's own answer; the connection ends, and no byte went to a Pod.
	Refused
	// Aborted: the proxy's own answer; the connection ends, and a Pod saw at most the beginning of the request.
	Aborted
)

// FromPod reports whether the answer is a Pod's.
func (e End) FromPod() bool { return e == Open || e == Closed }

// Closes reports whether the connection ends behind the answer.
func (e End) Closes() bool { return e != Open && e != Local }

// Seen is a request as a Pod gets it.
type Seen struct {
	// Line is the request line without its end.
	Line string
	// Pod is the name of the one that gets it: "" for that of host "a".
	Pod string
	// Has are field lines that come exactly once each, Row field lines that come in this order, Lacks names that must not come in any
	// case, HasNot field lines that must not come.
	Has, Row, Lacks, HasNot []string
	// Body is what it holds, framing removed.
	Body string
}

//go:embed vectors.txt
var text string

// All returns every example as it is on a plain connection, in the order of the file. The caller may change the slice.
func All() ([]Vector, error) { return Over("http") }

// Over returns every example that there is for connections of the given scheme, "http" or "https".
func Over(scheme string) ([]Vector, error) {
	var all []Vector
	err := blocks("vectors.txt", text, func(b block) error {
		v, only, err := b.vector()
		if err != nil || only != "" && only != scheme {
			return err
		}
		v.Octet = b.octets
		b.each(func(id, with string) { all = append(all, v.decode(id, decoder{with, scheme})) })
		return nil
	})
	return all, err
}

// vector reads one block; its texts stay encoded. only is the one scheme that it is for.
func (b block) vector() (v Vector, only string, err error) {
	v.Rules = b.rules
	if v.Answers, err = answers(b.rest); err != nil {
		return v, "", err
	}
	for _, l := range b.lines {
		switch {
		case l.kind == "!" && l.rest == "http", l.kind == "!" && l.rest == "https":
			only = l.rest
		case !v.add(l.kind, l.rest):
			return v, "", fmt.Errorf("line %q", l.kind+" "+l.rest)
		}
	}
	return v, only, nil
}

// add takes one line of a block behind its first, and reports whether it is one.
func (v *Vector) add(kind, rest string) bool {
	switch kind {
	case "|":
		v.Input += rest
		return true
	case "!":
		v.Alone = v.Alone || rest == "alone"
		v.Continue = v.Continue || rest == "continue"
		return rest == "alone" || rest == "continue"
	case "^":
		v.Answers[0].Fields = append(v.Answers[0].Fields, rest)
		return true
	case ">":
		v.Seen = append(v.Seen, Seen{Line: rest})
		return true
	}
	return len(v.Seen) > 0 && v.Seen[len(v.Seen)-1].add(kind, rest)
}

func (s *Seen) add(kind, rest string) bool {
	switch kind {
	case "@":
		s.Pod = rest
	case "+":
		s.Has = append(s.Has, rest)
	case "&":
		s.Row = append(s.Row, rest)
	case "-":
		s.Lacks = append(s.Lacks, rest)
	case "/":
		s.HasNot = append(s.HasNot, rest)
	case "=":
		s.Body += rest
	default:
		return false
	}
	return true
}

var ends = map[string]End{"": Open, ".": Closed, "~": Local, "~.": LocalClosed, "!": Refused, "*": Aborted}

func answers(s string) (all []Answer, err error) {
	if s == "-" {
		return nil, nil
	}
	for word := range strings.FieldsSeq(s) {
		digits := min(3, len(word))
		status, err := strconv.Atoi(word[:digits])
		end, ok := ends[word[digits:]]
		if err != nil || status < 100 || !ok {
			return nil, fmt.Errorf("answer %q", word)
		}
		all = append(all, Answer{Status: status, End: end})
	}
	if all == nil {
		err = fmt.Errorf("no answers")
	}
	return all, err
}

// decode replaces the notation by what it stands for.
func (v Vector) decode(id string, d decoder) Vector {
	v.ID = id
	v.Input, v.HalfClose = strings.CutSuffix(d.text(v.Input), "■")
	v.Answers = slices.Clone(v.Answers)
	for i := range v.Answers {
		v.Answers[i].Fields = d.list(v.Answers[i].Fields)
	}
	v.Seen = slices.Clone(v.Seen)
	for i, s := range v.Seen {
		v.Seen[i] = Seen{
			Line: d.text(s.Line), Pod: s.Pod, Body: d.text(s.Body),
			Has: d.list(s.Has), Row: d.list(s.Row), Lacks: d.list(s.Lacks), HasNot: d.list(s.HasNot),
		}
	}
	return v
}
