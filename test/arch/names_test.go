package arch

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

var nameRules = []rule{
	{"package-names", "a package is named for what it owns, so that a reader knows where to look and a writer where to put", checkPackageNames},
	{"names", "Go names things for what they are: no Get, no Impl, no Manager", checkNames},
}

// emptyNames say nothing about what is inside.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "lib", "types", "base", "manager", "interfaces"}

func checkPackageNames(t *tree, found reporter) {
	for _, f := range t.files {
		name := strings.TrimSuffix(f.ast.Name.Name, "_test")
		switch {
		case slices.Contains(emptyNames, name), slices.Contains(emptyNames, path.Base(f.dir)):
			found(f.path, f.ast.Package, "%s is in a package %s", f.path, name)
		case name != "main" && name != path.Base(f.dir):
			found(f.path, f.ast.Package, "%s is of package %s in folder %s", f.path, name, f.dir)
		case strings.ContainsFunc(name, func(r rune) bool { return r == '_' || unicode.IsUpper(r) }):
			found(f.path, f.ast.Package, "the package name %s is not lower-case", name)
		}
	}
}

func checkNames(t *tree, found reporter) {
	for _, f := range t.product() {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if rest, ok := strings.CutPrefix(d.Name.Name, "Get"); ok && startsUpper(rest) {
					found(f.dir+"."+funcName(d), d.Pos(), "%s: call it %s", funcName(d), rest)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if typ, ok := spec.(*ast.TypeSpec); ok && emptyType(typ.Name.Name) {
						found(f.dir+"."+typ.Name.Name, typ.Pos(), "the type name %s says nothing by its end", typ.Name.Name)
					}
				}
			}
		}
	}
}

func emptyType(name string) bool {
	return slices.ContainsFunc([]string{"Impl", "Manager", "Helper", "Util", "Utils"}, func(end string) bool {
		return strings.HasSuffix(name, end)
	})
}

func startsUpper(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return unicode.IsUpper(r)
}
