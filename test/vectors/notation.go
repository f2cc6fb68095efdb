package vectors

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// block is one example of a file, or several that differ in what stands for "§". Its texts are encoded.
type block struct {
	id, rest string // its first line
	rules    []string
	cases    []string
	octets   bool // the cases are single bytes
	lines    []line
}

// line is a line of a block behind its first.
type line struct{ kind, rest string }

// blocks calls f for each block of a file. A block that only has a line of kind "??" says which rules those behind it show.
func blocks(name, file string, f func(block) error) error {
	var rules []string
	for n, s := range strings.Split(file, "\n\n") {
		b, err := read(s)
		switch {
		case err != nil:
		case b.id == "??":
			rules = strings.Fields(b.rest)
			continue
		case b.id == "":
			continue
		default:
			b.rules = slices.Concat(rules, b.rules)
			err = f(b)
		}
		if err != nil {
			return fmt.Errorf("block %d of %s (%.40q): %w", n, name, s, err)
		}
	}
	return nil
}

// read cuts a block into its lines.
func read(s string) (b block, err error) {
	for l := range strings.Lines(s) {
		l = strings.TrimRight(l, "\n ")
		if l == "" || l[0] == '#' {
			continue
		}
		kind, rest, _ := strings.Cut(l, " ")
		switch {
		case b.id == "":
			b.id, b.rest = kind, rest
		case kind == "§":
			b.cases = append(b.cases, rest)
		case kind == "§§":
			each, err := octets(rest)
			if err != nil {
				return b, err
			}
			b.cases, b.octets = append(b.cases, each...), true
		case kind == "?":
			b.rules = append(b.rules, strings.Fields(rest)...)
		default:
			b.lines = append(b.lines, line{kind, rest})
		}
	}
	return b, nil
}

// octets returns a case for each byte of the ranges, such as "00-08 7f".
func octets(ranges string) (cases []string, err error) {
	for r := range strings.FieldsSeq(ranges) {
		from, to, ok := strings.Cut(r, "-")
		if !ok {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 16, 8)
		last, err2 := strconv.ParseUint(to, 16, 8)
		if err1 != nil || err2 != nil || first > last {
			return nil, fmt.Errorf("range of bytes %q", r)
		}
		for c := first; c <= last; c++ {
			cases = append(cases, fmt.Sprintf(`\x%02x`, c))
		}
	}
	return cases, nil
}

// each calls f for every case of b, with the example's name and what takes the place of "§".
func (b block) each(f func(id, with string)) {
	if len(b.cases) == 0 {
		f(b.id, "")
	}
	for i, c := range b.cases {
		f(b.id+"-"+strconv.Itoa(i+1), c)
	}
}

// decoder replaces the notation by what it stands for.
type decoder struct{ with, scheme string }

func (d decoder) text(s string) string {
	return unescape(strings.ReplaceAll(strings.ReplaceAll(s, "§", d.with), "¤", d.scheme))
}

func (d decoder) list(s []string) (out []string) {
	for _, x := range s {
		out = append(out, d.text(x))
	}
	return out
}

var symbols = strings.NewReplacer("⏎", "\r\n", "␊", "\n", "␍", "\r", "␀", "\x00", "→", "\t", "␠", " ")

func unescape(s string) string {
	s = symbols.Replace(s)
	var out strings.Builder
	for i := 0; i < len(s); {
		if c, ok := octet(s[i:]); ok {
			out.WriteByte(c)
			i += len(`\xHH`)
			continue
		}
		if body, ok := strings.CutPrefix(s[i:], "⟨"); ok {
			if body, _, ok = strings.Cut(body, "⟩"); ok {
				piece, count, _ := strings.Cut(body, "×")
				if n, err := strconv.Atoi(count); err == nil {
					number(&out, unescape(piece), n)
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

// octet returns the byte that \xHH at the head of s stands for.
func octet(s string) (byte, bool) {
	if len(s) < len(`\xHH`) || s[:2] != `\x` {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:4], 16, 8)
	return byte(n), err == nil
}

// number writes piece n times; "#" in it is the count so far, from 1.
func number(out *strings.Builder, piece string, n int) {
	for i := range n {
		out.WriteString(strings.ReplaceAll(piece, "#", strconv.Itoa(i+1)))
	}
}
