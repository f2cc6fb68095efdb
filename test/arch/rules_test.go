package arch

import (
	"fmt"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// A rule is one statement of ARCHITECTURE.md.
type rule struct {
	name string
	// why is the reason; it is part of every message.
	why   string
	check func(t *tree, found reporter)
}

// A violation is one breach of a rule. subject is a stable name for it ("router/ingress.Build", a path, an import), by
// which exceptions.go may list it; where is for people.
type violation struct{ subject, where, what string }

// reporter takes what a rule finds. pos may be token.NoPos.
type reporter func(subject string, pos token.Pos, format string, args ...any)

// rules are all rules that look at source text alone.
func rules() []rule {
	return slices.Concat(importRules, purityRules, sizeRules, docRules, nameRules, folderRules)
}

// apply runs one rule over a tree.
func (r rule) apply(t *tree) []violation {
	var found []violation
	r.check(t, func(subject string, pos token.Pos, format string, args ...any) {
		where := ""
		if pos.IsValid() {
			where = t.line(pos) + ": "
		}
		found = append(found, violation{subject, where, fmt.Sprintf(format, args...)})
	})
	slices.SortStableFunc(found, func(a, b violation) int { return strings.Compare(a.subject, b.subject) })
	return found
}

func TestRules(t *testing.T) {
	t.Parallel()
	source, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(source.files) < 50 {
		t.Fatalf("only %d Go files found: is this the module's root?", len(source.files))
	}
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			excepted := exceptions[r.name]
			used := map[string]bool{}
			for _, v := range r.apply(source) {
				if excepted[v.subject] != "" {
					used[v.subject] = true
					continue
				}
				t.Errorf("%s%s\n\tbecause: %s", v.where, v.what, r.why)
			}
			for subject := range excepted {
				if !used[subject] {
					t.Errorf("exceptions_test.go: %s no longer breaks this rule: remove it from the list", subject)
				}
			}
		})
	}
}

// TestExceptionsAreReasoned: an exception without a rule or without a reason is a mistake.
func TestExceptionsAreReasoned(t *testing.T) {
	t.Parallel()
	for name, list := range exceptions {
		if !slices.ContainsFunc(rules(), func(r rule) bool { return r.name == name }) {
			t.Errorf("exceptions_test.go: there is no rule %q", name)
		}
		for subject, reason := range list {
			if len(strings.Fields(reason)) < 4 {
				t.Errorf("exceptions_test.go: %s, %s: %q is no reason", name, subject, reason)
			}
		}
	}
}

// TestRulesFindWhatTheyForbid applies each rule to a small tree that breaks it in every way, and keeps to it in the ways
// that come close. testdata/NAME.txtar holds the files, and under "want" the subjects that the rule NAME has to find.
func TestRulesFindWhatTheyForbid(t *testing.T) {
	t.Parallel()
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(filepath.Join("testdata", r.name+".txtar"))
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool {
				if f.Name == "want" {
					want = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
				}
				return f.Name == "want"
			})
			fsys, err := txtar.FS(archive)
			if err != nil {
				t.Fatal(err)
			}
			source, err := load(fsys)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range r.apply(source) {
				got = append(got, v.subject)
			}
			if !slices.Equal(got, want) {
				t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
			if len(want) == 0 || len(strings.Fields(r.why)) < 4 {
				t.Error("a rule needs a reason and something that it finds")
			}
		})
	}
}
