package reliability

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocument: each promise of docs/reliability.md names tests, and they exist.
func TestDocument(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	promises, _, found := strings.Cut(string(data), "\n## What is not promised")
	if !found {
		t.Fatal("the document has no part that says what is not promised")
	}
	name := regexp.MustCompile("`([a-z0-9/]+)\\.(Test[A-Za-z0-9]+)`|`(e2e/testdata/[a-z_]+\\.txtar)`")
	count := 0
	for line := range strings.Lines(promises) {
		if !strings.HasPrefix(line, "- ") {
			continue
		}
		count++
		tests := name.FindAllStringSubmatch(line, -1)
		if len(tests) == 0 {
			t.Errorf("no test is named: %s", line)
		}
		for _, m := range tests {
			switch folder, test, script := m[1], m[2], m[3]; {
			case script != "":
				if _, err := os.Stat(filepath.Join("../..", script)); err != nil {
					t.Errorf("%v: %s", err, line)
				}
			case !hasTest(t, folder, test):
				t.Errorf("%s has no test %s: %s", folder, test, line)
			}
		}
	}
	if count < 20 {
		t.Errorf("%d promises were found; the test looks in the wrong place", count)
	}
}

// hasTest reports whether a package has a test of a name.
func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
