package arch

import (
	"go/ast"
	"go/token"
)

// The limits. Product files and functions are what a reader has to hold in mind; tests are read one at a time, and tables of
// cases are long by nature.
const (
	maxFileLines     = 400
	maxTestFileLines = 800
	maxFuncLines     = 60
	maxParams        = 4
)

var sizeRules = []rule{
	{"file-length", "a file is one idea; one that is longer holds two", checkFileLength},
	{"function-length", "a function that does not fit a screen is not understood whole", checkFuncLength},
	{"parameters", "more than four, or one that is true or false, cannot be read where the function is called: use a struct, or two functions", checkParams},
}

func checkFileLength(t *tree, found reporter) {
	for _, f := range t.files {
		limit := maxFileLines
		if f.test {
			limit = maxTestFileLines
		}
		if f.lines > limit {
			found(f.path, f.ast.Package, "%s has %d lines, at most %d", f.path, f.lines, limit)
		}
	}
}

// checkFuncLength counts the lines of a body that hold code: comments that say why must not cost anything.
func checkFuncLength(t *tree, found reporter) {
	for _, f := range t.files {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			lines := 0
			for line := t.fset.Position(fn.Body.Lbrace).Line + 1; line < t.fset.Position(fn.Body.Rbrace).Line; line++ {
				if f.code[line] {
					lines++
				}
			}
			if lines > maxFuncLines {
				found(f.dir+"."+funcName(fn), fn.Pos(), "%s has %d lines, at most %d", funcName(fn), lines, maxFuncLines)
			}
		}
	}
}

// funcName is Name, or Type.Name for a method.
func funcName(fn *ast.FuncDecl) string {
	if receiver := receiverType(fn); receiver != "" {
		return receiver + "." + fn.Name.Name
	}
	return fn.Name.Name
}

// receiverType is the name of a method's type, or "".
func receiverType(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return ""
	}
	expr := fn.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

func checkParams(t *tree, found reporter) {
	for _, f := range t.product() {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			count := 0
			for _, field := range fn.Type.Params.List {
				if !isContext(field.Type) {
					count += max(1, len(field.Names))
				}
				// A method may implement another package's interface, and a setter's only parameter speaks for itself.
				if id, ok := field.Type.(*ast.Ident); ok && id.Name == "bool" && ast.IsExported(fn.Name.Name) && !setter(fn) {
					found(f.dir+"."+funcName(fn)+" bool", fn.Pos(), "%s has a bool parameter", funcName(fn))
				}
			}
			if count > maxParams {
				found(f.dir+"."+funcName(fn), fn.Pos(), "%s has %d parameters, at most %d", funcName(fn), count, maxParams)
			}
		}
	}
}

// isContext reports whether a parameter is a context.Context, which every function that waits has first, and which is not
// counted.
func isContext(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Context"
}

// setter reports whether a function is called SetX(bool).
func setter(fn *ast.FuncDecl) bool {
	name := fn.Name.Name
	return len(name) > 3 && name[:3] == "Set" && token.IsExported(name[3:]) && fn.Type.Params.NumFields() == 1
}
