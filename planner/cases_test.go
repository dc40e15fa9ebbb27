package planner_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// cases reads a file of conformance cases, one JSON object a line.
func cases[T any](t *testing.T, name string) []T {
	t.Helper()
	dir := os.Getenv("SLUICE_CASES")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "cases")
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the conformance cases are not there: %v", err)
		}
		t.Skipf("the conformance cases are not there (set SLUICE_CASES to their folder): %v", err)
	}
	defer f.Close()
	var list []T
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c T
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%s, case %d: %v", name, len(list)+1, err)
		}
		list = append(list, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatalf("%s has no case", name)
	}
	return list
}
