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
	"podlane.dev/podlane/proxy/expr"
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
	fmt.Fprintf(&b, `# Annotations and settings

<!-- Generated from proxy/filters: go test ./test/arch -run TestAnnotationReference -update -->

An annotation is written on an Ingress, as %[1]s/NAME or as %[2]s/NAME. Both mean the same; where both are set,
the first wins. Values are always text: write %[3]s, not %[4]s. A setting is a key of the ConfigMap that --configmap names: it
holds for every Ingress that does not say otherwise, or for the whole proxy, and is followed live. What is not listed
here, or misspelt, is never ignored in silence: it raises a Problem, as an Event on the object, in the metrics and on the page
/debug/problems.

Values that do not parse raise a Problem too. What becomes of the route then is part of each family below: either the
annotation is ignored, or, where that could open what is meant to be closed, the route answers 503. Other routes are never
touched. A setting that does not parse is ignored, unless it keeps strangers out: then every route is closed.

"As ingress-nginx" is the default where an Ingress is read as ingress-nginx reads it, see --compat. [COMPATIBILITY.md](COMPATIBILITY.md)
lists what differs from ingress-nginx. The families are in the order in which they work on a request.
`, "`"+config.AnnotationPrefix+"`", "`"+config.CompatPrefix+"`", "`\"true\"`", "`true`")
	for _, p := range policies {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", p.FamilyName(), p.FamilyDoc())
		if !p.IsGlobal() {
			fmt.Fprintf(&b, "An invalid value: %s.\n\n", effects[p.InvalidEffect()])
		}
		b.WriteString("| name | where | kind | default | example | |\n|---|---|---|---|---|---|\n")
		for _, k := range p.FamilyKeys() {
			writeKey(&b, &k)
		}
	}
	b.WriteString("\n## Variables\n\nValues that \"may hold variables\", as nginx has them: $NAME, or ${NAME} where text follows. A value that is missing is empty; in lines of a log it is -.\n\n" +
		"| variable | |\n|---|---|\n")
	for _, v := range expr.Variables() {
		fmt.Fprintf(&b, "| `$%s` | %s |\n", v.Name, strings.ReplaceAll(v.Doc, "|", "\\|"))
	}
	return b.String()
}

// writeKey writes the line of a key.
func writeKey(b *strings.Builder, k *policy.Key) {
	name, where, def := "`"+k.Name+"`", "annotation", "`"+k.Default+"`"
	switch {
	case !k.InAnnotations():
		name, where = "`"+k.SettingName()+"`", "setting"
	case k.InConfigMap() && k.SettingName() != k.Name:
		where = "annotation, and setting `" + k.SettingName() + "`"
	case k.InConfigMap():
		where = "both"
	}
	if k.Alias != "" {
		name += ", `" + k.Alias + "`"
	}
	if k.Compat != "" {
		def += ", as ingress-nginx `" + k.Compat + "`"
	}
	doc := k.Doc
	if difference := k.Difference(); difference != "" {
		doc += " Differs from ingress-nginx: " + difference + "."
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | `%s` | %s |\n", name, where, k.Kind, def, k.Example, strings.ReplaceAll(strings.ReplaceAll(doc, "|", "\\|"), "\n", " "))
}
