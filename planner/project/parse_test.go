package project_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sluice/planner/project"
)

// TestParse: what the planner reads from a project.
func TestParse(t *testing.T) {
	t.Parallel()

	p, problems := project.Parse([]byte(`version: 4
actions:
  extract:
    run: ehrql:v1 generate-dataset analysis/d.py --output output/d.csv.gz
    dummy_data_file: dummy/d.csv.gz
    outputs:
      highly_sensitive:
        dataset: output/d.csv.gz
  report: &report
    run: python:latest python report.py 'two words'
    needs: [extract]
    config: {title: "it's", sizes: [1, 2.50]}
    outputs:
      moderately_sensitive: {table: output/*.csv, picture: output/p.png}
      highly_sensitive: {model: output/m.pickle}
  again:
    <<: *report
    run: python:v2 again.py
    config: null
    outputs: {highly_sensitive: {t: output/again.csv}}
`))
	if problems != nil {
		t.Fatal(problems)
	}
	want := []*project.Action{
		{
			Name: "extract", Line: 3,
			Run:   "ehrql:v1 generate-dataset analysis/d.py --output output/d.csv.gz",
			Image: "ehrql:v1", Args: []string{"generate-dataset", "analysis/d.py", "--output", "output/d.csv.gz"},
			ImageName: "ehrql", ImageVersion: "v1", DummyDataFile: "dummy/d.csv.gz", IsDatabase: true,
			Outputs: []project.Output{{Level: project.HighlySensitive, Name: "dataset", Pattern: "output/d.csv.gz", Line: 8}},
		},
		{
			Name: "report", Line: 9,
			Run:   "python:latest python report.py 'two words'",
			Image: "python:latest", Args: []string{"python", "report.py", "two words"},
			ImageName: "python", ImageVersion: "latest", Needs: []string{"extract"},
			Config: json.RawMessage(`{"title": "it's", "sizes": [1, 2.5]}`),
			Outputs: []project.Output{
				{Level: project.HighlySensitive, Name: "model", Pattern: "output/m.pickle", Line: 15},
				{Level: project.ModeratelySensitive, Name: "table", Pattern: "output/*.csv", Line: 14},
				{Level: project.ModeratelySensitive, Name: "picture", Pattern: "output/p.png", Line: 14},
			},
		},
		{
			Name: "again", Line: 16,
			Run:   "python:v2 again.py",
			Image: "python:v2", Args: []string{"again.py"}, ImageName: "python", ImageVersion: "v2", Needs: []string{"extract"},
			Outputs: []project.Output{{Level: project.HighlySensitive, Name: "t", Pattern: "output/again.csv", Line: 20}},
		},
	}
	if diff := cmp.Diff(want, p.Actions, cmp.FilterPath(unexported, cmp.Ignore())); diff != "" {
		t.Errorf("actions mismatch (-want +got):\n%s", diff)
	}
	if got := p.Version.String(); got != "4.0" {
		t.Errorf("version = %s, want 4.0", got)
	}
	if diff := cmp.Diff([]string{"ehrql:v1", "python:v1", "python:v2"}, p.Images()); diff != "" {
		t.Errorf("images mismatch (-want +got):\n%s", diff)
	}
	if p.Action("report") != p.Actions[1] || p.Action("nothing") != nil {
		t.Error("Action does not find actions by name")
	}

	command, err := p.Action("report").RunCommand()
	if want := `python:latest python report.py 'two words' --config '{"title": "it\u0027s", "sizes": [1, 2.5]}'`; command != want || err != nil {
		t.Errorf("RunCommand = %s, %v, want %s", command, err, want)
	}
}

// unexported selects fields that only the package knows.
func unexported(p cmp.Path) bool {
	field, ok := p.Index(-1).(cmp.StructField)
	return ok && field.Name() != "" && field.Name()[0] >= 'a'
}

// TestCommandThatCannotBe: a file whose config has a date is valid, as it always
// was, but the action cannot be run, and says why.
func TestCommandThatCannotBe(t *testing.T) {
	t.Parallel()

	p, problems := project.Parse([]byte("version: 5\nactions:\n" + action("a", "config: {from: 2020-01-01}")))
	if problems != nil {
		t.Fatal(problems)
	}
	words, err := p.Action("a").Command()
	const want = "`config` section for action a has a date in line 6, which JSON cannot hold: put it in quotes"
	if err == nil || err.Error() != want || words != nil {
		t.Errorf("Command = %q, %v, want %q", words, err, want)
	}
	if !slices.Contains(p.Warnings, "ProjectWarning: "+want) {
		t.Errorf("warnings = %q, want the reason among them", p.Warnings)
	}
}

// FuzzParse: no file makes Parse panic, and what it says holds together.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/rules/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, problems := project.Parse(data)
		if (p == nil) == (problems == nil) {
			t.Fatalf("Parse = %v, %v: want one of the two", p, problems)
		}
		for _, problem := range problems {
			if problem.Message == "" || problem.Hint == "" || !slices.Contains(project.Rules(), problem.Rule) {
				t.Errorf("a problem without message, hint or rule: %+v", problem)
			}
		}
		if p != nil {
			checkProject(t, p)
		}
		report := project.Check("project.yaml", data)
		if report.Valid != (p != nil) {
			t.Errorf("Check says valid = %v, Parse does not", report.Valid)
		}
		if text, err := json.Marshal(report); err != nil || !json.Valid(text) {
			t.Errorf("the report is no JSON: %v", err)
		}
		if text := report.Text(); !utf8.ValidString(text) || slices.ContainsFunc([]rune(text), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
			t.Errorf("the text can steer a terminal: %q", text)
		}
	})
}

// checkProject checks what holds for every valid project.
func checkProject(t *testing.T, p *project.Project) {
	t.Helper()
	place := map[string]int{}
	for i, name := range p.CreationOrder() {
		place[name] = i + 1
	}
	for _, a := range p.Actions {
		if p.Action(a.Name) != a {
			t.Errorf("action %q is not found by its name", a.Name)
		}
		for _, need := range a.Needs {
			if p.Action(need) == nil || place[a.Name] > 0 && (place[need] == 0 || place[need] > place[a.Name]) {
				t.Errorf("action %q comes before %q, which it needs", a.Name, need)
			}
		}
		words, err := a.Command()
		if err != nil {
			continue
		}
		line, err := a.RunCommand()
		if err != nil {
			t.Errorf("RunCommand of %q: %v", a.Name, err)
		}
		if again, err := project.Split(line); err != nil || !slices.Equal(words, again) {
			t.Errorf("Split(%q) = %q, %v, want %q", line, again, err, words)
		}
	}
	for _, draw := range []func(*project.Project, map[string]string) string{project.GraphText, project.GraphMermaid, project.GraphSVG} {
		if draw(p, nil) == "" && len(p.AllActions()) > 0 {
			t.Error("a project with actions is drawn as nothing")
		}
	}
}
