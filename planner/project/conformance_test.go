package project_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/needs"
	"sluice/planner/project"
)

// An expectation is the reference's verdict on one project file.
type expectation struct {
	Valid              bool            `json:"valid"`
	ErrorKind          string          `json:"error_kind"`
	ErrorDetail        string          `json:"error_detail"`
	Nondeterministic   json.RawMessage `json:"error_nondeterministic"`
	Warnings           []string        `json:"warnings"`
	Version            *float64        `json:"version"`
	Actions            json.RawMessage `json:"actions"`
	AllActions         []string        `json:"all_actions"`
	Levels             [][]string      `json:"levels"`
	Order              []string        `json:"order"`
	JobCreationOrder   []string        `json:"job_creation_order"`
	ActionImages       []string        `json:"action_images"`
	Cycle              []string        `json:"cycle"`
	ParsersDisagree    json.RawMessage `json:"parsers_disagree"`
	NonStringActionIDs json.RawMessage `json:"non_string_action_ids"`
}

// TestConformance: on every project file of the collection, real studies among
// them, the verdict, the understanding and the words agree with the reference's.
func TestConformance(t *testing.T) {
	t.Parallel()

	files, err := filepath.Glob(filepath.Join(needs.CaseDir(t), "projects", "*", "expected.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in projects: %v", err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()

			var want expectation
			readJSON(t, file, &want)
			data, err := os.ReadFile(filepath.Join(dir, "project.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, want, project.Check("project.yaml", data))
		})
	}
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func compare(t *testing.T, want expectation, got project.Report) {
	t.Helper()
	if row := onPurpose(want); row != "" {
		t.Logf("we differ on purpose: %s", row)
		if got.Valid {
			t.Errorf("valid = true, want false: %s", row)
		}
		return
	}
	if len(want.ParsersDisagree) > 0 {
		return // the reference's own two parsers disagree: either is right
	}
	if got.Valid != want.Valid {
		t.Fatalf("valid = %v, want %v (%s)\n%v", got.Valid, want.Valid, want.ErrorDetail, project.Problems(got.Errors))
	}
	switch {
	case want.Valid && len(want.NonStringActionIDs) > 0:
	case want.Valid:
		compareValid(t, want, got)
	case want.ErrorKind == "validation" && len(want.Nondeterministic) == 0:
		if len(got.Errors) == 0 || got.Errors[0].Message != want.ErrorDetail {
			t.Errorf("first error differs:\n got %q\nwant %q", got.Errors[0].Message, want.ErrorDetail)
		}
	}
	for _, problem := range got.Errors {
		if problem.Rule == "" || problem.Hint == "" || problem.Line < 1 || problem.Column < 1 {
			t.Errorf("a problem without rule, hint or place: %+v", problem)
		}
	}
}

// onPurpose returns the row of "Where we differ on purpose" that a case shows.
func onPurpose(want expectation) string {
	if len(want.Cycle) > 0 {
		return "cycles, bad quoting, future versions: a clear error, with line and column"
	}
	var actions map[string]struct{ Outputs map[string]map[string]string }
	if want.Valid && json.Unmarshal(want.Actions, &actions) == nil {
		for _, action := range actions {
			for _, outputs := range action.Outputs {
				for _, pattern := range outputs {
					if strings.HasPrefix(pattern, "../") {
						return "a leading `..` climbs out: refused, with the name"
					}
				}
			}
		}
	}
	return ""
}

func compareValid(t *testing.T, want expectation, got project.Report) {
	t.Helper()
	for _, warning := range want.Warnings {
		if !slices.Contains(got.Warnings, warning) {
			t.Errorf("warnings = %q, want %q among them", got.Warnings, warning)
		}
	}
	if want.Version == nil || float64(*got.Version) != *want.Version {
		t.Errorf("version = %v, want %v", *got.Version, want.Version)
	}
	for _, part := range []struct {
		name      string
		want, got any
	}{
		{"actions", plain(t, want.Actions), plain(t, got.Actions)},
		{"all_actions", want.AllActions, got.AllActions},
		{"levels", want.Levels, got.Levels},
		{"order", want.Order, got.Order},
		{"job_creation_order", want.JobCreationOrder, got.JobCreationOrder},
		{"action_images", want.ActionImages, got.ActionImages},
	} {
		if diff := cmp.Diff(part.want, part.got); diff != "" {
			t.Errorf("%s mismatch (-want +got):\n%s", part.name, diff)
		}
	}
}

// plain returns what a reader of v's JSON sees, without the reference's note
// on why it could not make a command.
func plain(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var seen map[string]any
	if err := json.Unmarshal(text, &seen); err != nil {
		t.Fatal(err)
	}
	for _, action := range seen {
		delete(action.(map[string]any), "run_command_error")
	}
	return seen
}
