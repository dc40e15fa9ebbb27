package fault_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sluice/internal/fault"
)

// TestPoints: each point of the table is where the table says, and nowhere
// else, and there are no others.
func TestPoints(t *testing.T) {
	t.Parallel()
	found := map[string][]string{} // functions by point
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "tools" || d.Name() == "fault" || len(d.Name()) > 2 && d.Name()[0] == '.'):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
				collect(t, found, dir+"."+receiver(f)+f.Name.Name, f.Body)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range fault.Points {
		if got := slices.Compact(found[p.Name]); !slices.Equal(got, []string{p.In}) {
			t.Errorf("%s is in %v; the table says %s", p.Name, got, p.In)
		}
		delete(found, p.Name)
	}
	for name, where := range found {
		t.Errorf("%s, in %v, is not in the table (points.go)", name, where)
	}
}

// collect finds calls of fault.At, and of the method that persister/disk has
// for it.
func collect(t *testing.T, found map[string][]string, in string, body ast.Node) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of, _ := f.X.(*ast.Ident)
		at := of != nil && of.Name == "fault" && f.Sel.Name == "At"
		disk := strings.HasPrefix(in, "persister/disk.") && f.Sel.Name == "fault"
		if !at && !disk || in == "persister/disk.Store.fault" {
			return true
		}
		literal, ok := call.Args[0].(*ast.BasicLit)
		if !ok {
			t.Errorf("%s: a fault point's name must be a literal", in)
			return true
		}
		name, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Error(err)
		}
		found[name] = append(found[name], in)
		return true
	})
}

func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	typ := f.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	switch typ := typ.(type) {
	case *ast.Ident:
		return typ.Name + "."
	case *ast.IndexExpr:
		return typ.X.(*ast.Ident).Name + "."
	case *ast.IndexListExpr:
		return typ.X.(*ast.Ident).Name + "."
	}
	return "?."
}

// TestTable: names follow one pattern, and each point has a full sentence.
func TestTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range fault.Points {
		service, when, ok := strings.Cut(p.Name, ".")
		if !ok || when == "" || strings.Trim(service+when, "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("%q is not service.when", p.Name)
		}
		if seen[p.Name] {
			t.Errorf("%s is there twice", p.Name)
		}
		seen[p.Name] = true
		if !strings.HasSuffix(p.Lost, ".") || strings.ContainsAny(p.Lost, "|\n") {
			t.Errorf("%s: %q is not a sentence for a table", p.Name, p.Lost)
		}
	}
}

// TestDocument: the list in docs/reliability.md is that of the table.
func TestDocument(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := fault.Insert(string(data))
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != want {
		t.Error("the list of fault points is not that of points.go: run `make docs`")
	}
}
