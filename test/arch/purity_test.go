package arch

import (
	"go/ast"
	"go/token"
	"slices"
)

var purityRules = []rule{
	{"no-init", "an init function runs in an order that nobody sees, for everybody who imports the package: registries start that way", checkInit},
	{"forbidden-calls", "each of these has, where it is forbidden, an effect that its caller cannot see or control", checkForbidden},
	{"no-goroutines-in-pure-code", "Build is a function of its arguments: its result must not depend on scheduling", checkGoroutines},
	{"package-variables", "package-level state is shared by everything in the process, tests in parallel included", checkVariables},
}

func checkInit(t *tree, found reporter) {
	for _, f := range t.files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				found(f.path, fn.Pos(), "%s has an init function", f.path)
			}
		}
	}
}

// A use forbids identifiers of a package to some folders of the product.
type use struct {
	pkg     string
	names   []string
	folders []string
	why     string
}

// pure are the folders whose results depend on nothing but their arguments.
var pure = []string{"router"}

var forbidden = []use{
	{"net/http", []string{"DefaultTransport", "DefaultClient", "DefaultServeMux", "Get", "Head", "Post", "PostForm", "Handle", "HandleFunc", "ListenAndServe", "ListenAndServeTLS"}, product, "it is process-wide, and has no timeouts"},
	{"context", []string{"Background"}, core, "a context comes from the caller, down from main, so that everything ends when the process is asked to"},
	{"context", []string{"TODO"}, product, "a context comes from the caller"},
	{"time", []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, pure, "Build and Lookup are pure: equal input gives equal output, at any time"},
	{"time", []string{"Tick"}, product, "the ticker can never be stopped"},
	{"os", []string{"Exit"}, core, "only main ends the process, after everything has been shut down"},
	{"os", []string{"Getenv", "LookupEnv", "Environ"}, core, "options come from flags, where --help shows them"},
	{"fmt", []string{"Print", "Printf", "Println"}, core, "standard output belongs to the access log"},
	{"log", []string{"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln"}, product, "it ends the process without shutting anything down"},
	{"runtime", []string{"SetFinalizer"}, product, "what is opened is closed by its owner"},
}

func checkForbidden(t *tree, found reporter) {
	for _, f := range t.product() {
		imports := f.imports()
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, u := range forbidden {
				if imports[x.Name] == u.pkg && slices.Contains(u.names, sel.Sel.Name) && withinAny(f.dir, u.folders) {
					found(f.path+" "+u.pkg+"."+sel.Sel.Name, sel.Pos(), "%s.%s: %s", x.Name, sel.Sel.Name, u.why)
				}
			}
			return true
		})
	}
}

func checkGoroutines(t *tree, found reporter) {
	for _, f := range t.product() {
		if !withinAny(f.dir, pure) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				found(f.path, g.Pos(), "%s starts a goroutine", f.path)
			}
			return true
		})
	}
}

// checkVariables finds package-level variables that some function of their package writes, or that exist to be written.
// Tables that Go cannot make constants of (arrays, maps, errors) are fine as long as nothing writes them.
func checkVariables(t *tree, found reporter) {
	for dir, files := range t.packages() {
		if within(dir, "test") {
			continue
		}
		files = slices.DeleteFunc(files, func(f *file) bool { return f.test })
		vars := map[string]*ast.ValueSpec{}
		for _, f := range files {
			for _, spec := range packageVars(f.ast) {
				for _, name := range spec.Names {
					if name.Name != "_" {
						vars[name.Name] = spec
					}
				}
				if spec.Names[0].Name != "_" && mutable(f, spec) {
					found(dir+"."+spec.Names[0].Name, spec.Pos(), "the variable %s is made to be written", spec.Names[0].Name)
				}
			}
		}
		for _, f := range files {
			checkWrites(f, vars, func(name string, at token.Pos) {
				found(dir+"."+name, at, "the package-level variable %s is written", name)
			})
		}
	}
}

func packageVars(f *ast.File) []*ast.ValueSpec {
	var specs []*ast.ValueSpec
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			for _, s := range g.Specs {
				if v, ok := s.(*ast.ValueSpec); ok {
					specs = append(specs, v)
				}
			}
		}
	}
	return specs
}

// unobservable are what package sync has for state that nobody can tell from none: memory that is used again, and constants
// that are computed late.
var unobservable = []string{"Pool", "OnceValue", "OnceValues"}

// mutable reports whether a variable's type or value is of package sync or sync/atomic, or a channel.
func mutable(f *file, spec *ast.ValueSpec) bool {
	imports, is := f.imports(), false
	look := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false // what a function's body does is not what the variable holds
		case *ast.ChanType:
			is = true
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && (imports[x.Name] == "sync" && !slices.Contains(unobservable, n.Sel.Name) || imports[x.Name] == "sync/atomic") {
				is = true
			}
		}
		return true
	}
	if spec.Type != nil {
		ast.Inspect(spec.Type, look)
	}
	for _, v := range spec.Values {
		ast.Inspect(v, look)
	}
	return is
}

// checkWrites reports assignments to package-level variables, and to their elements and fields, inside functions. A local
// variable that shadows one is told by its declaration earlier in the same function.
func checkWrites(f *file, vars map[string]*ast.ValueSpec, report func(name string, at token.Pos)) {
	for _, d := range f.ast.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		local := locals(fn)
		written := func(e ast.Expr) {
			if name := root(e); vars[name] != nil && !local[name] {
				report(name, e.Pos())
			}
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, e := range n.Lhs {
						written(e)
					}
				}
			case *ast.IncDecStmt:
				written(n.X)
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					if id, ok := n.X.(*ast.Ident); ok {
						written(id)
					}
				}
			}
			return true
		})
	}
}

// root is the variable that an expression such as x.f[i] is part of.
func root(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return root(e.X)
	case *ast.IndexExpr:
		return root(e.X)
	case *ast.StarExpr:
		return root(e.X)
	case *ast.ParenExpr:
		return root(e.X)
	}
	return ""
}

// locals are the names that a function declares itself: parameters, results, := and var.
func locals(fn *ast.FuncDecl) map[string]bool {
	names := map[string]bool{}
	fields := func(list *ast.FieldList) {
		if list != nil {
			for _, field := range list.List {
				for _, name := range field.Names {
					names[name.Name] = true
				}
			}
		}
	}
	fields(fn.Recv)
	fields(fn.Type.Params)
	fields(fn.Type.Results)
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			fields(n.Type.Params)
			fields(n.Type.Results)
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, e := range n.Lhs {
					if id, ok := e.(*ast.Ident); ok {
						names[id.Name] = true
					}
				}
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				names[name.Name] = true
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if id, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					names[id.Name] = true
				}
			}
		}
		return true
	})
	return names
}
