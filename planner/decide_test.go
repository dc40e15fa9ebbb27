package planner_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/needs"
	"sluice/messages"
	"sluice/planner"
	"sluice/planner/project"
)

func parse(t testing.TB, file string) *project.Project {
	t.Helper()
	p, problems := project.Parse([]byte(file))
	if len(problems) > 0 {
		t.Fatalf("parse project: %v", problems)
	}
	return p
}

// diamond is a project: gen, then left and right, then end; alone is alone.
const diamond = `
version: '5.0'
actions:
  gen:
    run: ehrql:v1 generate-dataset d.py --output output/d.csv
    outputs: {highly_sensitive: {d: output/d.csv}}
  left:
    run: python:v2 left.py
    needs: [gen]
    outputs: {highly_sensitive: {d: output/left.csv}}
  right:
    run: python:v2 right.py
    needs: [gen]
    outputs: {highly_sensitive: {d: output/right.csv}}
  end:
    run: r:v2 end.R
    needs: [left, right]
    outputs: {moderately_sensitive: {d: output/end.csv}}
  alone:
    run: python:v2 alone.py
    outputs: {moderately_sensitive: {d: output/alone.csv}}
`

func TestDecide(t *testing.T) {
	t.Parallel()
	no := false
	old := func(action string, state messages.State) planner.Standing {
		return planner.Standing{Job: messages.NewJobID("old", action), State: state}
	}
	for _, c := range []struct {
		name   string
		req    messages.Request
		latest map[string]planner.Standing
		want   []string // action:why[:wait,…]
		err    string
	}{
		{
			name: "needs first, each once",
			req:  messages.Request{Actions: []string{"end"}},
			want: []string{"gen:needed", "left:needed:gen", "right:needed:gen", "end:asked:left,right"},
		},
		{
			name: "named twice",
			req:  messages.Request{Actions: []string{"alone", "alone"}},
			want: []string{"alone:asked"},
		},
		{
			name:   "what has succeeded is not looked below",
			req:    messages.Request{Actions: []string{"end"}},
			latest: map[string]planner.Standing{"left": old("left", messages.Succeeded), "right": old("right", messages.Succeeded)},
			want:   []string{"left:succeeded", "right:succeeded", "end:asked"},
		},
		{
			name:   "what has failed runs again",
			req:    messages.Request{Actions: []string{"left"}},
			latest: map[string]planner.Standing{"gen": old("gen", messages.Failed)},
			want:   []string{"gen:failed", "left:asked:gen"},
		},
		{
			name:   "what runs is waited for",
			req:    messages.Request{Actions: []string{"left"}, ForceRunDependencies: true},
			latest: map[string]planner.Standing{"gen": old("gen", messages.Running)},
			want:   []string{"gen:in_progress", "left:asked:gen@old"},
		},
		{
			name:   "forced",
			req:    messages.Request{Actions: []string{"left"}, ForceRunDependencies: true},
			latest: map[string]planner.Standing{"gen": old("gen", messages.Succeeded)},
			want:   []string{"gen:forced", "left:asked:gen"},
		},
		{
			name:   "an output is gone",
			req:    messages.Request{Actions: []string{"left"}},
			latest: map[string]planner.Standing{"gen": {Job: "x", State: messages.Succeeded, Gone: true}},
			want:   []string{"gen:missing", "left:asked:gen"},
		},
		{
			name:   "written in another way",
			req:    messages.Request{Actions: []string{"run_all"}},
			latest: map[string]planner.Standing{"gen": old("gen", messages.Succeeded), "left": {Job: "x", State: messages.Succeeded, Changed: true}, "right": old("right", messages.Succeeded), "end": old("end", messages.Succeeded), "alone": old("alone", messages.Succeeded)},
			want:   []string{"gen:succeeded", "left:changed", "right:succeeded", "end:succeeded", "alone:succeeded"},
		},
		{
			name:   "run_all is not asking by name",
			req:    messages.Request{Actions: []string{"run_all", "left"}},
			latest: map[string]planner.Standing{"gen": old("gen", messages.Succeeded), "left": old("left", messages.Succeeded), "right": old("right", messages.Succeeded)},
			want:   []string{"gen:succeeded", "left:asked", "right:succeeded", "end:needed:left", "alone:needed"},
		},
		{
			name:   "nothing is left",
			req:    messages.Request{Actions: []string{"alone"}},
			latest: map[string]planner.Standing{"alone": old("alone", messages.Pending)},
			want:   []string{"alone:in_progress"},
			err:    "nothing_to_do: All requested actions were already scheduled to run",
		},
		{
			name: "unknown actions, all of them",
			req:  messages.Request{Actions: []string{"no", "alone", "never"}},
			err:  "invalid_request: Action 'no' not found in project.yaml; Action 'never' not found in project.yaml",
		},
		{
			name: "stale codelists",
			req:  messages.Request{Actions: []string{"end"}, CodelistsOK: &no},
			want: []string{"gen:needed", "left:needed:gen", "right:needed:gen", "end:asked:left,right"},
			err:  "stale_codelists: Codelists are out of date (required by action gen)",
		},
		{
			name:   "stale codelists of what does not run again",
			req:    messages.Request{Actions: []string{"left"}, CodelistsOK: &no},
			latest: map[string]planner.Standing{"gen": old("gen", messages.Succeeded)},
			want:   []string{"gen:succeeded", "left:asked"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.req.ID = "r"
			list, err := planner.Decide(&c.req, parse(t, diamond), c.latest)
			if got := text(err); got != c.err {
				t.Errorf("error: got %q, want %q", got, c.err)
			}
			var got []string
			for _, p := range list {
				line := p.Action + ":" + string(p.Why)
				var waits []string
				for _, w := range p.Wait {
					waits = append(waits, nameOf(w))
				}
				if len(waits) > 0 {
					line += ":" + strings.Join(waits, ",")
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func nameOf(job messages.JobID) string {
	for _, action := range []string{"gen", "left", "right", "end", "alone"} {
		switch job {
		case messages.NewJobID("r", action):
			return action
		case messages.NewJobID("old", action):
			return action + "@old"
		}
	}
	return string(job)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestCreateCases: requests against existing jobs, as the reference decides.
func TestCreateCases(t *testing.T) {
	t.Parallel()
	type createCase struct {
		ID       string
		Note     string
		Project  string
		Existing []struct {
			Action    string
			State     messages.State
			Created   float64 `json:"created_at"`
			Cancelled bool
		} `json:"existing_jobs"`
		Request struct {
			RapID       messages.RequestID `json:"rap_id"`
			Actions     []string           `json:"requested_actions"`
			Force       bool               `json:"force_run_dependencies"`
			CodelistsOK bool               `json:"codelists_ok"`
			Workspace   string
			Backend     string
			Database    string `json:"database_name"`
		}
		Expected struct {
			Result  string
			Message string
			Raw     string `json:"raw_message"`
			Jobs    []struct {
				Action  string
				WaitFor []string       `json:"wait_for"`
				Needs   []string       `json:"requires_outputs_from"`
				DB      bool           `json:"requires_db"`
				Run     string         `json:"run_command"`
				Job     messages.JobID `json:"job_id"`
			}
		}
	}
	for _, c := range needs.Cases[createCase](t, "create.jsonl") {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			req := &messages.Request{
				ID: c.Request.RapID, Backend: c.Request.Backend, Workspace: c.Request.Workspace, Actions: c.Request.Actions, CodelistsOK: &c.Request.CodelistsOK,
				ForceRunDependencies: c.Request.Force, Database: c.Request.Database,
			}
			if name, ok := strings.CutPrefix(c.Expected.Message, "Invalid database name '"); ok && req.Database == "" {
				req.Database, _, _ = strings.Cut(name, "'") // the case names it only there
			}
			p, problems := project.Parse([]byte(c.Project))
			names, latest := map[messages.JobID]string{}, map[string]planner.Standing{}
			slices.SortStableFunc(c.Existing, func(a, b struct {
				Action    string
				State     messages.State
				Created   float64 `json:"created_at"`
				Cancelled bool
			}) int {
				return int(a.Created - b.Created)
			})
			for i, j := range c.Existing {
				if !j.Cancelled {
					job := messages.NewJobID("existing", fmt.Sprint(i))
					names[job] = "existing:" + j.Action
					latest[j.Action] = planner.Standing{Job: job, State: j.State}
				}
			}
			var list []messages.Planned
			err := planner.CheckRequest(planner.DefaultConfig(), req)
			if err == nil && len(problems) > 0 {
				err = problems
			}
			if err == nil {
				list, err = planner.Decide(req, p, latest)
			}
			if c.Expected.Result != "created" {
				checkRefusal(t, err, c.Expected.Message, c.Expected.Raw)
				return
			}
			if err != nil {
				t.Fatalf("got error %v, want jobs", err)
			}
			got, want := map[string]string{}, map[string]string{}
			for _, planned := range list {
				names[planned.Job] = "new:" + planned.Action
				if planned.Reused {
					names[planned.Job] = "existing:" + planned.Action
					continue
				}
				a := p.Action(planned.Action)
				run, err := a.RunCommand()
				if err != nil {
					t.Fatal(err)
				}
				var waits []string
				for _, w := range planned.Wait {
					waits = append(waits, names[w])
				}
				got[planned.Action] = fmt.Sprint(planned.Job, waits, planned.Needs, a.IsDatabase, run)
			}
			for _, j := range c.Expected.Jobs {
				var waits []string
				for _, w := range j.WaitFor {
					name, _, _ := strings.Cut(w, "@")
					waits = append(waits, name)
				}
				want[j.Action] = fmt.Sprint(j.Job, waits, j.Needs, j.DB, j.Run)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: jobs (-want +got):\n%s", c.Note, diff)
			}
		})
	}
}

// checkRefusal compares what makes no job with the reference's sentences. Where
// the reference says "Unknown error" ours says what is wrong (the row "cycles,
// bad quoting, future versions" of the differences on purpose).
func checkRefusal(t *testing.T, err error, message, raw string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got jobs, want %q", message)
	}
	if message == "Unknown error" {
		return
	}
	var failure *messages.Failure
	sentences := messages.Sentences(err)
	if errors.As(err, &failure) {
		sentences = []string{failure.Detail}
	}
	var problems project.Problems
	if errors.As(err, &problems) {
		sentences = nil
		for _, p := range problems {
			sentences = append(sentences, p.Message)
		}
	}
	for _, s := range sentences {
		if s == message || s == raw || strings.HasSuffix(message, "\n"+s) {
			return
		}
	}
	t.Errorf("got %q, want %q", sentences, message)
}

// TestDecideInOrder: whatever the graph and the past, what a job waits for
// comes before it, and no action has two jobs.
func TestDecideInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(rt, "actions")
		var file strings.Builder
		file.WriteString("version: '5.0'\nactions:\n")
		latest := map[string]planner.Standing{}
		for i := range n {
			fmt.Fprintf(&file, "  a%d:\n    run: python:v2 a%d.py\n    outputs: {highly_sensitive: {d: a%d.csv}}\n", i, i, i)
			var needs []string
			for j := range i {
				if rapid.Bool().Draw(rt, "needs") {
					needs = append(needs, fmt.Sprintf("a%d", j))
				}
			}
			if len(needs) > 0 {
				fmt.Fprintf(&file, "    needs: [%s]\n", strings.Join(needs, ", "))
			}
			if state := rapid.SampledFrom([]messages.State{"", messages.Pending, messages.Running, messages.Succeeded, messages.Failed}).Draw(rt, "state"); state != "" {
				name := fmt.Sprintf("a%d", i)
				latest[name] = planner.Standing{Job: messages.NewJobID("old", name), State: state}
			}
		}
		p, problems := project.Parse([]byte(file.String()))
		if len(problems) > 0 {
			rt.Fatalf("parse: %v", problems)
		}
		req := &messages.Request{ID: "r", Actions: []string{fmt.Sprintf("a%d", rapid.IntRange(0, n-1).Draw(rt, "asked"))}, ForceRunDependencies: rapid.Bool().Draw(rt, "force")}
		list, err := planner.Decide(req, p, latest)
		if err != nil && !errors.Is(err, messages.NothingToDo) {
			rt.Fatalf("decide: %v", err)
		}
		seen := map[messages.JobID]bool{}
		for _, planned := range list {
			if seen[planned.Job] {
				rt.Fatalf("%s is there twice", planned.Action)
			}
			seen[planned.Job] = true
			for _, w := range planned.Wait {
				if !seen[w] {
					rt.Fatalf("%s waits for a job that comes after it", planned.Action)
				}
			}
		}
	})
}

// wide returns a project of n actions, each of which needs the one before and
// the first.
func wide(n int) string {
	var b strings.Builder
	b.WriteString("version: '5.0'\nactions:\n")
	for i := range n {
		fmt.Fprintf(&b, "  action_%05d:\n    run: python:v2 step.py --n %d\n    outputs: {highly_sensitive: {d: output/%d.csv}}\n", i, i, i)
		if i > 0 {
			fmt.Fprintf(&b, "    needs: [action_%05d, action_00000]\n", i-1)
		}
	}
	return b.String()
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := parse(b, wide(n))
			req := &messages.Request{ID: "r", Actions: []string{messages.RunAll}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := planner.Decide(req, p, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
