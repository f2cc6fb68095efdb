package vectors

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// contract is the number of rows that the contract has under each letter.
var contract = map[string]int{"L": 10, "R": 20, "F": 13, "H": 7, "C": 12, "N": 8}

// rules are what the contract says, by the names that "?" lines give them: sections of RFC 9110 and 9112, the steps of the canonical
// path, and the threats A and B of the security design as far as they are HTTP/1.1's.
var rules = []string{
	"9112-2.1", "9112-2.2", "9112-2.3", "9112-3", "9112-3.2", "host", "9112-4", "9112-5", "9112-6.1", "9112-6.2", "9112-6.3", "9112-7.1",
	"9112-7.1.2", "9112-8", "9112-9", "9112-9.3", "pipelining", "9110-7.6.1", "9110-10.1.1", "9110-15.2", "own-fields", "limits", "pods", "upgrade",
	"path-1", "path-2", "path-3", "path-4", "path-5", "path-6", "path-7", "path-8",
	"A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A12", "A13", "A15", "A16", "B1", "B2", "B3", "B4", "B5",
}

// elsewhere are the parts of the contract that data cannot say, because they are about time, about who waits for whom, or about another
// configuration; each with the test of package proxy that holds it.
var elsewhere = map[string]string{
	"9112-9.8: close_notify before the end, and no end without it":     "TestVectors",
	"9112-9: one request in flight":                                    "TestOneAtATime",
	"9112-9: read-ahead is bounded":                                    "TestReadAheadIsBounded",
	"9110-10.1.1: 100 comes before the body, after routing":            "TestExpect",
	"9110-10.1.1: no 100 for what is answered without its body":        "TestExpectIsNotEncouraged",
	"A7: an answer before the request is complete ends both":           "TestEarlyAnswers",
	"A11: a tunnel begins with a 101 that echoes, and nothing else":    "TestUpgradeAnswers",
	"A11: what a client sends early is held back until then":           "TestTunnelHoldsBack",
	"A15: what comes on an idle connection answers nothing":            "TestUnsolicitedAnswer",
	"B1: what trusted peers say is believed":                           "TestTrustedPeers",
	"B2: kept underscores spell no forwarded field":                    "TestUnderscoreSpoof",
	"limits: bodies that become too large":                             "TestBodyLimits",
	"R: what a refused client still sends is drained, up to a measure": "TestRefusalIsRead",
}

func TestVectorsAreComplete(t *testing.T) {
	rows, own, ruled := map[string]int{}, 0, map[string]int{}
	seen := map[string]bool{}
	total := 0
	for _, scheme := range []string{"http", "https"} {
		all, err := Over(scheme)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range all {
			if seen[scheme+v.ID] {
				t.Errorf("%s comes twice", v.ID)
			}
			seen[scheme+v.ID] = true
			if strings.ContainsAny(v.Input, "§⏎⟨⟩■¤") || v.Input == "" && !v.HalfClose || len(v.Rules) == 0 {
				t.Errorf("%s: input %.60q, rules %q", v.ID, v.Input, v.Rules)
			}
			if seen["http"+v.ID] && scheme == "https" {
				continue
			}
			total++
			row, _, _ := strings.Cut(v.ID, "-")
			if rows[row]++; !isContract(row) {
				own++
			}
			for _, r := range v.Rules {
				ruled[r]++
			}
		}
	}
	for letter, n := range contract {
		for i := range n {
			if id := fmt.Sprint(letter, i+1); rows[id] == 0 {
				t.Errorf("row %s of the contract is missing", id)
			}
		}
	}
	answers, err := PodAnswers()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range answers {
		if seen[a.ID] {
			t.Errorf("%s comes twice", a.ID)
		}
		seen[a.ID] = true
		if strings.ContainsAny(a.Raw, "§⏎⟨⟩■✕") || len(a.Rules) == 0 {
			t.Errorf("%s: %.60q, rules %q", a.ID, a.Raw, a.Rules)
		}
		for _, r := range a.Rules {
			ruled[r]++
		}
	}
	for _, r := range rules {
		if ruled[r] == 0 {
			t.Errorf("no example shows %s", r)
		}
	}
	for r := range ruled {
		if !slices.Contains(rules, r) {
			t.Errorf("%s is not in the list of rules", r)
		}
	}
	if own < total-own {
		t.Errorf("%d examples for rules without a row in the contract, fewer than the other %d", own, total-own)
	}
	t.Logf("%d examples of clients, %d of them for rules without a row in the contract, and %d of Pods", total, own, len(answers))
}

// isContract reports whether a row is the contract's own.
func isContract(row string) bool {
	n := 0
	_, err := fmt.Sscanf(row[1:], "%d", &n)
	return err == nil && n <= contract[row[:1]]
}

// TestRulesElsewhere: the tests to which the list points are there.
func TestRulesElsewhere(t *testing.T) {
	files, err := filepath.Glob("../../proxy/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var source strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	for rule, test := range elsewhere {
		if !regexp.MustCompile(`(?m)^func ` + test + `\(t \*testing\.T\)`).MatchString(source.String()) {
			t.Errorf("%s: package proxy has no %s", rule, test)
		}
	}
}

func TestNotation(t *testing.T) {
	for in, want := range map[string]string{
		`a⏎␊␍␀→␠b`:   "a\r\n\n\r\x00\t b",
		`\xe9\xC3`:   "\xe9\xc3",
		`\w\xzz\`:    `\w\xzz\`,
		`⟨ab×3⟩c`:    "abababc",
		`⟨x#,×3⟩`:    "x1,x2,x3,",
		`⟨⏎×2⟩`:      "\r\n\r\n",
		`⟨\xff×2⟩`:   "\xff\xff",
		`¤://§/§`:    "https://https/https",
		`⟨x×y⟩ \x4`:  `⟨x×y⟩ \x4`,
		`a\x00\x0Ab`: "a\x00\nb",
	} {
		if got := (decoder{"¤", "https"}).text(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string][]string{
		"00":       {`\x00`},
		"09-0b 7f": {`\x09`, `\x0a`, `\x0b`, `\x7f`},
		"fe-ff":    {`\xfe`, `\xff`},
		"2-1":      nil,
		"x":        nil,
		"100":      nil,
	} {
		if got, err := octets(in); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
		}
	}
}

// TestBrokenFiles: what is not in the notation is an error, and no example that tests nothing.
func TestBrokenFiles(t *testing.T) {
	for _, in := range []string{"X", "X 20", "X 200?", "X 200\n% y", "X 200\n+ y", "X 200\n! maybe", "X 200\n§§ zz", "X -x"} {
		if err := blocks("", in, func(b block) error {
			_, _, err := b.vector()
			return err
		}); err == nil {
			t.Errorf("%q is an example", in)
		}
	}
	for _, in := range []string{"X", "X 20x", "X 200\n% y", "X 200\n! maybe", "X 200\n: x"} {
		if err := blocks("", in, func(b block) error {
			_, err := b.podAnswer(b.rest)
			return err
		}); err == nil {
			t.Errorf("%q is an answer", in)
		}
	}
}
