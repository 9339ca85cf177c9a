package clienttest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// WantFunctions sees that functions exist whose names, as a stack has them, begin like each of
// begins: a rename breaks a list of such names in silence.
func WantFunctions(t *testing.T, begins ...string) {
	t.Helper()
	declared := map[string][]string{} // by package
	for _, begin := range begins {
		slash := strings.LastIndexByte(begin, '/') + 1
		name, function, _ := strings.Cut(begin[slash:], ".")
		path := begin[:slash] + name
		if declared[path] == nil {
			declared[path] = functions(t, filepath.Join(moduleRoot(t), strings.TrimPrefix(path, "sluice/")))
		}
		if !slices.ContainsFunc(declared[path], func(f string) bool { return strings.HasPrefix(f, function) }) {
			t.Errorf("no function in %s begins with %q", path, function)
		}
	}
}

// moduleRoot returns the directory of go.mod, above that of the test.
func moduleRoot(t *testing.T) string {
	for dir := ".."; len(dir) < 32; dir = filepath.Join("..", dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the test")
	return ""
}

// functions returns the names of a directory's functions.
func functions(t *testing.T, dir string) (names []string) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.Name.Name
			if f.Recv != nil {
				switch of := f.Recv.List[0].Type.(type) {
				case *ast.StarExpr:
					name = "(*" + fmt.Sprint(of.X) + ")." + name
				case *ast.Ident:
					name = of.Name + "." + name
				}
			}
			names = append(names, name)
		}
	}
	return names
}
