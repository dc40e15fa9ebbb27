// Package needs is for tests that need something which may not be there: the
// reference's cases, a program, a right. Elsewhere such a test is skipped and
// says why; under CI it fails, as a skip that nobody sees is a fault.
package needs

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Missing ends a test that cannot run here, and says why.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// CaseDir returns the folder of the reference's cases, which lie beside the
// repository and are not part of it.
func CaseDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("SLUICE_CASES")
	if dir == "" {
		dir = filepath.Join(root(t), "..", "shared", "cases")
	}
	if _, err := os.Stat(dir); err != nil {
		Missing(t, "the conformance cases are not there (set SLUICE_CASES to their folder): %v", err)
	}
	return dir
}

// Cases reads a file of cases, one JSON object a line.
func Cases[T any](t testing.TB, name string) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(CaseDir(t), name))
	if err != nil {
		t.Fatal(err)
	}
	var list []T
	for line := range bytes.Lines(data) {
		var c T
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatalf("%s, case %d: %v", name, len(list)+1, err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		t.Fatalf("%s has no cases", name)
	}
	return list
}

// root returns the folder of go.mod; tests run in that of their package.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			t.Fatal("these tests run outside of the repository")
		}
		dir = above
	}
}
