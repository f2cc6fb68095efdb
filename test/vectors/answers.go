package vectors

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// PodAnswer is one example of a Pod's bytes, and of what the client gets of them. It is a plain value.
type PodAnswer struct {
	// ID is the row's name, followed by the number of the case where the row has several.
	ID string
	// Rules are the rules of the contract that the example shows.
	Rules []string
	// Method, Version ("1.1" or "1.0") and Fields are of the client's request; each of Fields ends in CRLF.
	Method, Version, Fields string
	// Raw is what the Pod sends, and After what it does then.
	Raw   string
	After After
	// Status and Body are what the client gets. Cut says that it must see that the answer is not whole: what it gets is then a
	// beginning of Body, or where nothing had been sent yet a whole 502.
	Status int
	Body   string
	Cut    bool
	// Closes says that the client's connection ends behind the answer.
	Closes bool
	// Reused says that the Pod's connection carries the next request.
	Reused bool
	// Interim are the statuses of the answers before the final one.
	Interim []int
	// Has are field lines of the client's answer, Lacks names that it has not, Trailers all of its trailer fields.
	Has, Lacks, Trailers []string
}

// After is what a Pod does behind its answer.
type After uint8

// The ways in which a Pod goes on.
const (
	Stays After = iota
	Ends
	Resets
)

//go:embed answers.txt
var answersText string

// PodAnswers returns every example of answers.txt, in its order. The caller may change the slice.
func PodAnswers() ([]PodAnswer, error) {
	var all []PodAnswer
	err := blocks("answers.txt", answersText, func(b block) error {
		var failed error
		b.each(func(id, with string) {
			d := decoder{with: with}
			a, err := b.podAnswer(d.text(b.rest))
			if err != nil {
				failed = err
			}
			all = append(all, a.decode(id, d))
		})
		return failed
	})
	return all, err
}

// podAnswer reads one block; its texts stay encoded. first is what stands behind its name.
func (b block) podAnswer(first string) (a PodAnswer, err error) {
	a = PodAnswer{Method: "GET", Version: "1.1", Rules: b.rules}
	status, cut := strings.CutSuffix(first, "%")
	status, closes := strings.CutSuffix(status, ".")
	a.Cut, a.Closes = cut, closes
	if a.Status, err = strconv.Atoi(status); err != nil {
		return a, fmt.Errorf("answer %q", first)
	}
	for _, l := range b.lines {
		if err := a.add(l.kind, l.rest); err != nil {
			return a, err
		}
	}
	return a, nil
}

// add takes one line of a block behind its first.
func (a *PodAnswer) add(kind, rest string) error {
	switch kind {
	case "<":
		a.Method, rest, _ = strings.Cut(rest, " ")
		a.Version, a.Fields, _ = strings.Cut(rest, " ")
	case "|":
		a.Raw += rest
	case "+":
		a.Has = append(a.Has, rest)
	case "-":
		a.Lacks = append(a.Lacks, rest)
	case ";":
		a.Trailers = append(a.Trailers, rest)
	case "=":
		a.Body += rest
	case ":":
		status, err := strconv.Atoi(rest)
		a.Interim = append(a.Interim, status)
		return err
	case "!":
		if rest != "reused" {
			return fmt.Errorf("line %q", "! "+rest)
		}
		a.Reused = true
	default:
		return fmt.Errorf("line %q", kind+" "+rest)
	}
	return nil
}

// decode replaces the notation by what it stands for.
func (a PodAnswer) decode(id string, d decoder) PodAnswer {
	a.ID = id
	a.Fields, a.Body, a.Raw = d.text(a.Fields), d.text(a.Body), d.text(a.Raw)
	for suffix, after := range map[string]After{"■": Ends, "✕": Resets} {
		if raw, ok := strings.CutSuffix(a.Raw, suffix); ok {
			a.Raw, a.After = raw, after
		}
	}
	a.Has, a.Lacks, a.Trailers = d.list(a.Has), d.list(a.Lacks), d.list(a.Trailers)
	return a
}
