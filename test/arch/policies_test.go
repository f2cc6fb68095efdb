package arch

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
)

var update = flag.Bool("update", false, "write the golden files and ANNOTATIONS.md from what the code does now")

// constructors are the exported functions of proxy/filters that make a Policy: one for each family.
func constructors(files []*file) map[string]bool {
	names := map[string]bool{}
	for _, f := range files {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.test || f.dir != "proxy/filters" || fn.Recv != nil || !fn.Name.IsExported() {
				continue
			}
			results := fn.Type.Results
			if results.NumFields() != 1 {
				continue
			}
			if id, ok := results.List[0].Type.(*ast.Ident); ok && id.Name == "Policy" {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

// listed counts the calls of functions of package filters in config/policies.go.
func listed(files []*file) map[string]int {
	calls := map[string]int{}
	for _, f := range files {
		if f.path != "config/policies.go" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "filters" {
					calls[sel.Sel.Name]++
				}
			}
			return true
		})
	}
	return calls
}

// TestEveryPolicyIsListed: a family that nobody lists is an annotation that is ignored in silence.
func TestEveryPolicyIsListed(t *testing.T) {
	t.Parallel()
	source, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	made, calls := constructors(source.files), listed(source.files)
	if len(made) < 2 || len(made) != len(config.Policies()) {
		t.Errorf("proxy/filters makes %d families, config.Policies lists %d", len(made), len(config.Policies()))
	}
	for name := range made {
		if calls[name] != 1 {
			t.Errorf("filters.%s is %d times in config/policies.go, want once", name, calls[name])
		}
	}
}

// TestEveryPolicyIsDocumented: names, keys, docs, defaults, examples that parse, and what an invalid value does.
func TestEveryPolicyIsDocumented(t *testing.T) {
	t.Parallel()
	if err := policy.Validate(filters.Families(config.Policies())); err != nil {
		t.Error(err)
	}
}

// TestEveryMistakeIsExplained: testdata/policies/FAMILY.txtar shows, for each key of a family, values that are refused
// ("-- key=value --") with what the user is told. A key that takes every text is there alone ("-- key --"), and why.
func TestEveryMistakeIsExplained(t *testing.T) {
	t.Parallel()
	goldens, err := filepath.Glob("testdata/policies/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range config.Policies() {
		name := filepath.Join("testdata", "policies", family.FamilyName()+".txtar")
		goldens = slices.DeleteFunc(goldens, func(g string) bool { return g == name })
		t.Run(family.FamilyName(), func(t *testing.T) {
			t.Parallel()
			checkMistakes(t, family, name)
		})
	}
	for _, g := range goldens {
		t.Errorf("%s is of no family", g)
	}
}

func checkMistakes(t *testing.T, family policy.Family, name string) {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for i := range archive.Files {
		section := &archive.Files[i]
		key, value, mistake := strings.Cut(section.Name, "=")
		shown[key] = true
		if !mistake {
			continue
		}
		_, err := family.ParseValues(policy.Values{key: value}, nil)
		if err == nil {
			t.Errorf("%s: %q is accepted", key, value)
			continue
		}
		said := []byte(effects[family.InvalidEffect()] + ": " + err.Error() + "\n")
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %q: the message does not name the key: %v", key, value, err)
		}
		if !bytes.Equal(section.Data, said) && !*update {
			t.Errorf("%s: %q: says\n%swant\n%s", key, value, said, section.Data)
		}
		section.Data = said
	}
	for _, k := range family.FamilyKeys() {
		if !shown[k.Name] {
			t.Errorf("%s: no mistake in %s is shown", name, k.Name)
		}
		delete(shown, k.Name)
	}
	for key := range shown {
		t.Errorf("%s: the family has no key %s", name, key)
	}
	if *update {
		if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// effects say what an invalid value does to its route.
var effects = map[policy.Effect]string{policy.Ignore: "ignored", policy.Deny: "the route answers 503"}

// TestAnnotationReference keeps ANNOTATIONS.md equal to what the families say of themselves.
func TestAnnotationReference(t *testing.T) {
	t.Parallel()
	const name = "../../ANNOTATIONS.md"
	want := reference(config.Policies())
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("ANNOTATIONS.md is old: run go test ./test/arch -run TestAnnotationReference -update")
	}
}

func reference(policies []filters.Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Annotations

<!-- Generated from proxy/filters: go test ./test/arch -run TestAnnotationReference -update -->

Each annotation is written on an Ingress, as %[1]s/NAME or as %[2]s/NAME. Both mean the same; where both are set,
the first wins. Values are always text: write %[3]s, not %[4]s. An annotation under one of these prefixes that is not listed
here, or that is misspelt, is never ignored in silence: it raises a Problem, as an Event on the Ingress, in the metrics and on
the page /debug/problems.

Values that do not parse raise a Problem too. What becomes of the route then is part of each family below: either the
value is ignored, or, where that could open what is meant to be closed, the route answers 503. Other routes are never touched.

The families are in the order in which they work on a request.
`, "`"+config.AnnotationPrefix+"`", "`"+config.CompatPrefix+"`", "`\"true\"`", "`true`")
	for _, p := range policies {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\nAn invalid value: %s.\n\n| annotation | kind | default | example | |\n|---|---|---|---|---|\n",
			p.FamilyName(), p.FamilyDoc(), effects[p.InvalidEffect()])
		for _, k := range p.FamilyKeys() {
			fmt.Fprintf(&b, "| `%s` | %s | `%s` | `%s` | %s |\n", k.Name, k.Kind, k.Default, k.Example, strings.ReplaceAll(k.Doc, "|", "\\|"))
		}
	}
	return b.String()
}
