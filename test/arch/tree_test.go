package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// modulePath is the prefix of every import of ours.
const modulePath = "podlane.dev/podlane"

// A file is one parsed Go file of the main module.
type file struct {
	// path is relative to the module's root, with slashes; dir is its folder.
	path, dir string
	// test says that the file is compiled for tests only.
	test bool
	// lines is the number of lines, as wc counts them.
	lines int
	ast   *ast.File
	// code is the set of lines that hold more than a comment.
	code map[int]bool
}

// A tree is the source of the main module: nested modules, testdata and hidden folders are left out.
type tree struct {
	fset  *token.FileSet
	files []*file
	// folders are the names at the top level, and others the files there.
	folders, others []string
}

// load parses every Go file below root. Files are read through fsys, so that `go test` knows when to run anew.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // another process took it away between the listing and now
			}
			return err
		}
		if name == "." {
			return nil
		}
		t.note(name, d)
		if d.IsDir() {
			if skipped(fsys, name) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		return t.parse(fsys, name)
	})
	return t, err
}

// note remembers what is at the top level.
func (t *tree) note(name string, d fs.DirEntry) {
	switch {
	case strings.Contains(name, "/"):
	case d.IsDir():
		t.folders = append(t.folders, name)
	default:
		t.others = append(t.others, name)
	}
}

// skipped reports whether a folder is none of the module's packages: what the go command skips, and nested modules.
func skipped(fsys fs.FS, dir string) bool {
	base := path.Base(dir)
	if base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_' {
		return true
	}
	_, err := fs.Stat(fsys, path.Join(dir, "go.mod"))
	return err == nil
}

func (t *tree) parse(fsys fs.FS, name string) error {
	src, err := fs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(t.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	t.files = append(t.files, &file{
		path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		lines: strings.Count(string(src), "\n"), ast: parsed, code: codeLines(t.fset, parsed, src),
	})
	return nil
}

// codeLines are the lines of a file that are neither blank nor only a comment.
func codeLines(fset *token.FileSet, parsed *ast.File, src []byte) map[int]bool {
	commented := map[int]bool{}
	for _, group := range parsed.Comments {
		for _, c := range group.List {
			for line := fset.Position(c.Pos()).Line; line <= fset.Position(c.End()).Line; line++ {
				commented[line] = true
			}
		}
	}
	code := map[int]bool{}
	for i, text := range strings.Split(string(src), "\n") {
		text = strings.TrimSpace(text)
		starts := strings.HasPrefix(text, "//") || strings.HasPrefix(text, "/*")
		if text != "" && !(commented[i+1] && (starts || !strings.Contains(text, "//"))) {
			code[i+1] = true
		}
	}
	return code
}

// product returns the files that end up in the binary: none of test/, and no tests.
func (t *tree) product() []*file {
	return slices.DeleteFunc(slices.Clone(t.files), func(f *file) bool { return f.test || within(f.dir, "test") })
}

// packages groups the files by folder.
func (t *tree) packages() map[string][]*file {
	m := map[string][]*file{}
	for _, f := range t.files {
		m[f.dir] = append(m[f.dir], f)
	}
	return m
}

// line says where something is, for people.
func (t *tree) line(at token.Pos) string {
	p := t.fset.Position(at)
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// imports maps the name by which a file refers to a package to the package's path. A package that is imported without a
// name goes by the last element of its path, which is right for everything that the rules ask about.
func (f *file) imports() map[string]string {
	m := map[string]string{}
	for _, spec := range f.ast.Imports {
		p := importPath(spec)
		if spec.Name != nil {
			m[spec.Name.Name] = p
			continue
		}
		base := path.Base(p)
		if _, err := strconv.Atoi(strings.TrimPrefix(base, "v")); err == nil && base[0] == 'v' {
			base = path.Base(path.Dir(p))
		}
		m[base] = p
	}
	return m
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value
	}
	return p
}

// within reports whether a folder or import path is dir or below it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, dir+"/")
}

// withinAny reports whether a folder or import path is one of dirs or below one.
func withinAny(name string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return within(name, dir) })
}

// standard reports whether an import path is of the standard library: its first element has no dot.
func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".")
}
