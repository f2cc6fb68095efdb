// Package vectors holds the examples of the HTTP contract: what a client sends byte for byte, which answers it gets, and what a Pod
// may see of it. The tests of the codec and those of the engine run the same examples. vectors.txt has them, with its
// notation explained at its head; the rows whose names are L, R, F, H, C and N with a number are those of the contract itself.
package vectors

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// Vector is one example. It is a plain value.
type Vector struct {
	// ID is the row's name, followed by the number of the case where the row has several.
	ID string
	// Input is what the client sends; HalfClose says that it then closes its sending side.
	Input     string
	HalfClose bool
	// Answers are what the client gets, in order.
	Answers []Answer
	// Seen are the requests that Pods get, in order; nil where only their number is known, which is that of the Answers that are
	// neither refused nor local.
	Seen []Seen
	// Alone says that the input loses its meaning with one more field or with a request in front of it.
	Alone bool
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
	// Local: the proxy's own answer to a good request.
	Local
	// Refused: the proxy's own answer; the connection ends, and no byte went to a Pod.
	Refused
	// Aborted: the proxy's own answer; the connection ends, and a Pod saw at most the beginning of the request.
	Aborted
)

// Seen is a request as a Pod gets it.
type Seen struct {
	// Line is the request line without its end.
	Line string
	// Pod is the name of the one that gets it: "" for that of host "a".
	Pod string
	// Has are field lines that come exactly once each, Lacks names that must not come in any case.
	Has, Lacks []string
	// Body is what it holds, framing removed.
	Body string
}

//go:embed vectors.txt
var text string

// All returns every example, in the order of the file. The caller may change the slice.
func All() ([]Vector, error) {
	var all []Vector
	for n, block := range strings.Split(text, "\n\n") {
		v, cases, err := parse(block)
		switch {
		case err != nil:
			return nil, fmt.Errorf("block %d of vectors.txt (%.40q): %w", n, block, err)
		case v.ID == "":
			continue
		case len(cases) == 0:
			all = append(all, decode(v, ""))
		}
		for i, c := range cases {
			w := decode(v, c)
			w.ID += "-" + strconv.Itoa(i+1)
			all = append(all, w)
		}
	}
	return all, nil
}

// parse reads one block; its texts stay encoded, and cases are what takes the place of "§".
func parse(block string) (v Vector, cases []string, err error) {
	for line := range strings.Lines(block) {
		line = strings.TrimRight(line, "\n ")
		if line == "" || line[0] == '#' {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		switch {
		case kind == "§":
			cases = append(cases, rest)
		case v.ID == "" && len(kind) > 1:
			v.ID = kind
			v.Answers, err = answers(rest)
		case v.ID == "" || !v.add(kind, rest):
			err = fmt.Errorf("line %q", line)
		}
		if err != nil {
			return v, nil, err
		}
	}
	return v, cases, nil
}

// add takes one line of a block behind its first, and reports whether it is one.
func (v *Vector) add(kind, rest string) bool {
	switch kind {
	case "|":
		v.Input += rest
		return true
	case "!":
		v.Alone = true
		return rest == "alone"
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
	case "-":
		s.Lacks = append(s.Lacks, rest)
	case "=":
		s.Body = rest
	default:
		return false
	}
	return true
}

func answers(s string) (all []Answer, err error) {
	ends := map[string]End{"": Open, ".": Closed, "~": Local, "!": Refused, "*": Aborted}
	for word := range strings.FieldsSeq(s) {
		status, err := strconv.Atoi(word[:min(3, len(word))])
		end, ok := ends[word[min(3, len(word)):]]
		if err != nil || !ok {
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
func decode(v Vector, with string) Vector {
	dec := func(s string) string { return unescape(strings.ReplaceAll(s, "§", with)) }
	list := func(s []string) (out []string) {
		for _, x := range s {
			out = append(out, dec(x))
		}
		return out
	}
	v.Input = dec(v.Input)
	v.Input, v.HalfClose = strings.CutSuffix(v.Input, "■")
	v.Answers = append([]Answer(nil), v.Answers...)
	for i := range v.Answers {
		v.Answers[i].Fields = list(v.Answers[i].Fields)
	}
	var seen []Seen
	for _, s := range v.Seen {
		seen = append(seen, Seen{Line: dec(s.Line), Pod: s.Pod, Has: list(s.Has), Lacks: list(s.Lacks), Body: dec(s.Body)})
	}
	v.Seen = seen
	return v
}

var symbols = strings.NewReplacer("⏎", "\r\n", "␊", "\n", "␍", "\r", "␀", "\x00", "→", "\t", "␠", " ")

func unescape(s string) string {
	s = symbols.Replace(s)
	var out strings.Builder
	for i := 0; i < len(s); {
		if n, err := strconv.ParseUint(s[min(i+2, len(s)):min(i+4, len(s))], 16, 8); err == nil && s[i] == '\\' && s[i+1] == 'x' {
			out.WriteByte(byte(n))
			i += 4
			continue
		}
		if body, ok := strings.CutPrefix(s[i:], "⟨"); ok {
			if body, _, ok = strings.Cut(body, "⟩"); ok {
				piece, count, _ := strings.Cut(body, "×")
				if n, err := strconv.Atoi(count); err == nil {
					number(&out, piece, n)
					i += len("⟨") + len(body) + len("⟩")
					continue
				}
			}
		}
		out.WriteByte(s[i])
		i++
	}
	return out.String()
}

// number writes piece n times; "#" in it is the count so far, from 1.
func number(out *strings.Builder, piece string, n int) {
	for i := range n {
		out.WriteString(strings.ReplaceAll(piece, "#", strconv.Itoa(i+1)))
	}
}
