package vectors

import (
	"fmt"
	"strings"
	"testing"
)

func TestVectorsAreComplete(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	own := 0
	rows := map[string]bool{}
	for _, v := range all {
		if seen[v.ID] {
			t.Errorf("%s comes twice", v.ID)
		}
		seen[v.ID] = true
		row, _, _ := strings.Cut(v.ID, "-")
		rows[row] = true
		if strings.Contains("TKEUPQX", v.ID[:1]) {
			own++
		}
		if strings.ContainsAny(v.Input, "§⏎⟨⟩■") || v.Input == "" {
			t.Errorf("%s: input %.60q", v.ID, v.Input)
		}
	}
	for kind, n := range map[string]int{"L": 10, "R": 20, "F": 13, "H": 7, "C": 12, "N": 8} {
		for i := range n {
			if id := fmt.Sprint(kind, i+1); !rows[id] {
				t.Errorf("row %s of the contract is missing", id)
			}
		}
	}
	t.Logf("%d examples, %d of them for rules without a row in the contract", len(all), own)
}

func TestNotation(t *testing.T) {
	for in, want := range map[string]string{
		`a⏎␊␍␀→␠b`: "a\r\n\n\r\x00\t b",
		`\xe9\xC3`: "\xe9\xc3",
		`\w\xzz\`:  `\w\xzz\`,
		`⟨ab×3⟩c`:  "abababc",
		`⟨x#,×3⟩`:  "x1,x2,x3,",
		`⟨⏎×2⟩`:    "\r\n\r\n",
	} {
		if got := unescape(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
