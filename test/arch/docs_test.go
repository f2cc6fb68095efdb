package arch

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

var docRules = []rule{
	{"package-comment", "every package says, in one place, what it owns and what it must not do", checkPackageComment},
	{"exported-comment", "what others may use is a promise, and a promise is written down", checkExported},
	{"no-todo", "what is missing is an issue, and what is half done is not merged", checkTodo},
}

func checkPackageComment(t *tree, found reporter) {
	for dir, files := range t.packages() {
		// A folder of tests alone is a package too; the tests beside a package are none.
		if slices.ContainsFunc(files, func(f *file) bool { return !f.test }) {
			files = slices.DeleteFunc(files, func(f *file) bool { return f.test })
		}
		count := 0
		for _, f := range files {
			if f.ast.Doc == nil {
				continue
			}
			count++
			want := "Package " + f.ast.Name.Name + " "
			if f.ast.Name.Name == "main" {
				want = "Command "
			}
			if !strings.HasPrefix(f.ast.Doc.Text(), want) {
				found(dir, f.ast.Doc.Pos(), "the package comment of %s does not begin with %q", dir, want)
			}
		}
		if count != 1 {
			found(dir, files[0].ast.Package, "%s has %d package comments", dir, count)
		}
	}
}

func checkExported(t *tree, found reporter) {
	for _, f := range t.files {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			for _, name := range undocumented(d) {
				found(f.dir+"."+name, d.Pos(), "%s has no doc comment", name)
			}
		}
	}
}

// undocumented returns the exported names of a declaration that no comment documents. In a group the group's comment counts
// for constants and variables; every type has its own.
func undocumented(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		receiver := receiverType(d)
		exported := ast.IsExported(d.Name.Name) && (receiver == "" || ast.IsExported(receiver))
		// What an error's two methods promise is said by package errors.
		known := receiver != "" && (d.Name.Name == "Error" || d.Name.Name == "Unwrap")
		if exported && !known && d.Doc == nil {
			return []string{funcName(d)}
		}
	case *ast.GenDecl:
		if d.Tok == token.IMPORT {
			return nil
		}
		var names []string
		for _, spec := range d.Specs {
			names = append(names, undocumentedSpec(d, spec)...)
		}
		return names
	}
	return nil
}

func undocumentedSpec(d *ast.GenDecl, spec ast.Spec) []string {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if ast.IsExported(spec.Name.Name) && spec.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
			return []string{spec.Name.Name}
		}
	case *ast.ValueSpec:
		if spec.Doc != nil || spec.Comment != nil || d.Doc != nil {
			return nil
		}
		var names []string
		for _, name := range spec.Names {
			if ast.IsExported(name.Name) {
				names = append(names, name.Name)
			}
		}
		return names
	}
	return nil
}

func checkTodo(t *tree, found reporter) {
	for _, f := range t.files {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				for _, word := range []string{"TODO", "FIXME", "XXX", "HACK"} {
					// A word of a longer one, or quoted as a word, is not a note to oneself.
					rest, ok := strings.CutPrefix(strings.TrimLeft(c.Text, "/* \t"), word)
					if ok && (rest == "" || strings.ContainsRune(":( ", rune(rest[0]))) {
						found(f.path, c.Pos(), "%s: %s", word, c.Text)
					}
				}
			}
		}
	}
}
