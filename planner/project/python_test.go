package project

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestAsPython: the functions of python.go and fnmatch.go answer as Python did
// when it wrote the table (testdata/generate.py).
func TestAsPython(t *testing.T) {
	t.Parallel()

	file, err := os.Open("testdata/python.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	count := 0
	for lines := bufio.NewScanner(file); lines.Scan(); count++ {
		var want struct {
			Call, In, Error string
			Value           any
			Texts           []string
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		got, fault := callPython(want.Call, want.In, want.Texts)
		if fault != (want.Error != "") {
			t.Errorf("%s(%q) fails: %v, want %q", want.Call, want.In, fault, want.Error)
		}
		if diff := cmp.Diff(want.Value, got, cmpopts.EquateEmpty()); diff != "" && want.Error == "" {
			t.Errorf("%s(%q) mismatch (-want +got):\n%s", want.Call, want.In, diff)
		}
	}
	if count == 0 {
		t.Fatal("the table is empty")
	}
}

// callPython answers one line of the table, in the types JSON has.
func callPython(call, in string, texts []string) (got any, fault bool) {
	switch call {
	case "float":
		f, ok := parsePythonFloat(in)
		return pythonFloat(f), !ok
	case "int":
		digits, ok := parsePythonInt(in)
		return digits, !ok
	case "path":
		return []any{purePath(in), pureName(in), pureParent(in), pureSuffix(in), normPath(in)}, false
	case "fnmatch":
		matched := []any{}
		for _, text := range texts {
			if newFnmatch(in).match(text) {
				matched = append(matched, text)
			}
		}
		return matched, false
	}
	return "unknown call", true
}
