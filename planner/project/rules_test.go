package project_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/planner/project"
)

// TestRules: each file in testdata/rules breaks the rule that it is called
// after (or none, if its name begins with valid), and is told so in the words
// of the file beside it. UPDATE=1 writes those.
func TestRules(t *testing.T) {
	t.Parallel()

	files, err := filepath.Glob("testdata/rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	broken := map[project.Rule]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		report := project.Check(name+".yaml", data)
		switch {
		case strings.HasPrefix(name, "valid"):
			if !report.Valid {
				t.Errorf("%s is not valid:\n%s", name, report.Text())
			}
		case report.Valid:
			t.Errorf("%s is valid, want it to break its rule", name)
		case !strings.HasPrefix(name, string(report.Errors[0].Rule)):
			t.Errorf("%s breaks %s first, want the rule of its name", name, report.Errors[0].Rule)
		}
		for _, problem := range report.Errors {
			broken[problem.Rule] = true
		}
		golden(t, strings.TrimSuffix(file, ".yaml")+".golden", report.Text())
	}
	for _, rule := range project.Rules() {
		if !broken[rule] && !onlyByProgram[rule] {
			t.Errorf("no file breaks the rule %s", rule)
		}
	}
}

// onlyByProgram are rules that take a large file to break; hostile_test.go has
// them.
var onlyByProgram = map[project.Rule]bool{
	project.RuleSize: true, project.RuleDepth: true, project.RuleTooManyActions: true,
	project.RuleConfig: true, project.RuleTooMany: true,
}

// golden compares text with what the file has, or writes the file.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s mismatch (-want +got), UPDATE=1 writes it:\n%s", file, diff)
	}
}
