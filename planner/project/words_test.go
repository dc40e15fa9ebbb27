package project_test

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sluice/planner/project"
)

// readLines calls each for every line of a table of JSON objects.
func readLines(t *testing.T, file string, each func(line []byte)) {
	t.Helper()
	table, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	lines := bufio.NewScanner(table)
	count := 0
	for lines.Scan() {
		each(lines.Bytes())
		count++
	}
	if err := lines.Err(); err != nil || count == 0 {
		t.Fatalf("%s: %d lines read, %v", file, count, err)
	}
}

// TestSplitAsPython: every line of the table, made by Python's shlex, splits
// and joins as it does there.
func TestSplitAsPython(t *testing.T) {
	t.Parallel()

	readLines(t, "testdata/words.jsonl", func(line []byte) {
		var want struct {
			Line  string
			Value []string
			Error string
			Join  string
		}
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		words, err := project.Split(want.Line)
		if want.Error != "" {
			if err == nil || err.Error() != want.Error {
				t.Errorf("Split(%q) = %q, %v, want the error %q", want.Line, words, err, want.Error)
			}
			return
		}
		if diff := cmp.Diff(want.Value, words, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("Split(%q): %v, mismatch (-want +got):\n%s", want.Line, err, diff)
		}
		if joined := project.Join(words); joined != want.Join {
			t.Errorf("Join(%q) = %q, want %q", words, joined, want.Join)
		}
	})
}

// TestJoinThenSplit: whatever the words, Split takes apart what Join made.
func TestJoinThenSplit(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.OneOf(rapid.String(), rapid.StringMatching(`[a'"\\ #\n]*`))).Draw(t, "words")
		got, err := project.Split(project.Join(words))
		if diff := cmp.Diff(words, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("Split(Join(%q)): %v, mismatch (-want +got):\n%s", words, err, diff)
		}
	})
}

func FuzzSplit(f *testing.F) {
	for _, line := range []string{"", "a b", `python:v2 'a b' "c\"d" e\ f`, `'`, `"\`, "a''b"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := project.Split(line)
		if err != nil {
			return
		}
		again, err := project.Split(project.Join(words))
		if err != nil || !slices.Equal(words, again) {
			t.Errorf("Split(Join(%q)) = %q, %v", words, again, err)
		}
		if n := len(strings.Join(words, "")); n > len(line) {
			t.Errorf("Split(%q) has %d bytes, more than the line", line, n)
		}
		if utf8.ValidString(line) && !utf8.ValidString(strings.Join(words, "")) {
			t.Errorf("Split(%q) = %q, which is no longer text", line, words)
		}
	})
}
