package project_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/planner/project"
)

// TestReuse: an action runs what a reusable action's file says, with its own
// arguments and config behind it; what is wrong with the file is said in the
// reference's words.
func TestReuse(t *testing.T) {
	const study = "version: 5\nactions:\n  a: {run: 'cox-ipw:v0.0.1 --df=x.csv \"two words\"', config: {n: 1}, outputs: {highly_sensitive: {o: o.csv}}}\n"
	for _, tc := range []struct {
		file string
		want []string
		err  string
	}{
		{file: "run: r:v2 analysis/cox.R --quiet\nother: [1]\n", want: []string{"r:v2", "analysis/cox.R", "--quiet", "--df=x.csv", "two words", "--config", `{"n": 1}`}},
		{file: "run: ehrql:v1 generate-dataset d.py\n", err: "Re-usable actions cannot run commands which access the database"},
		{file: "run: other:v1 x\n", err: "Unrecognised runtime: other:v1"},
		{file: "run: r x\n", err: "Unrecognised runtime: r"},
		{file: "run: r:v2 'x\n", err: "is no command line"},
		{file: "run: |\n  r:v2 'x\n", err: "is no command line"},
		{file: "runs: r:v2 x\n", err: "Missing `run` key in 'action.yaml'"},
		{file: "run: [r:v2]\n", err: "Missing `run` key"},
		{file: "", err: "Missing `run` key"},
		{file: "- run\n", err: "Missing `run` key"},
		{file: "run: &a *a\n", err: "Missing `run` key"},
		{file: "run: x" + strings.Repeat("x", 70<<10), err: "too large"},
	} {
		p, problems := project.Parse([]byte(study))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		a := p.Action("a")
		run, err := project.ParseReusable([]byte(tc.file))
		if err == nil {
			err = a.Reuse(run, "https://github.com/opensafely-actions/cox-ipw", "c", func(name string) bool { return name == "r" || name == "ehrql" })
		}
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%.40q: got %v, want %s", tc.file, err, tc.err)
			}
			continue
		}
		got, cmdErr := a.Command()
		if diff := cmp.Diff(tc.want, got); err != nil || cmdErr != nil || diff != "" || a.Commit != "c" {
			t.Errorf("%q: %v, %v, command (-want +got):\n%s", tc.file, err, cmdErr, diff)
		}
	}
}
