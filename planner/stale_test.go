package planner_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"sluice/messages"
	"sluice/planner"
)

// A repository says which files are others than at another commit.
type repository struct {
	planner.Source
	differs map[string][]string // by the other commit
}

func (r *repository) Differ(_ context.Context, _ messages.Source, commit string, paths []string) (list []string, err error) {
	known, ok := r.differs[commit]
	if !ok {
		return nil, errors.New("not fetched")
	}
	for _, p := range paths {
		if slices.Contains(known, p) {
			list = append(list, p)
		}
	}
	return list, nil
}

// TestStale: a request that goes on from outputs whose action has changed since
// makes the jobs that it would make otherwise, and says so.
func TestStale(t *testing.T) {
	t.Parallel()
	const first, second = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"
	for _, tc := range []struct {
		name    string
		before  func(string) string // the project file
		differs map[string][]string
		commit  string
		ask     []string
		want    []string // actions that are told
	}{
		{name: "the same commit", commit: first, ask: []string{"end"}},
		{name: "nothing that matters", commit: second, differs: map[string][]string{first: {"README.md", "end.R"}}, ask: []string{"end"}},
		{name: "a file of the run line", commit: second, differs: map[string][]string{first: {"left.py", "alone.py"}}, ask: []string{"end"}, want: []string{"left"}},
		{name: "a run line", commit: second, before: func(s string) string { return strings.Replace(s, "right.py", "right.py --old", 1) }, ask: []string{"end"}, want: []string{"right"}},
		{name: "asked for, so that it runs", commit: second, differs: map[string][]string{first: {"left.py"}}, ask: []string{"end", "left"}},
		{name: "a commit that is not here", commit: second, ask: []string{"end"}},
		{name: "with nothing to do", commit: second, differs: map[string][]string{first: {"left.py", "right.py"}}, ask: []string{"run_all"}, want: []string{"left", "right"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &bench{Fleet: newFleet(), t: t, cfg: planner.DefaultConfig()}
				old := diamond
				if tc.before != nil {
					old = tc.before(old)
				}
				b.Study(second, diamond)
				b.Study(first, old)
				ports := b.Connect(0, false, nil).Ports()
				ports.Source = &repository{ports.Source, tc.differs}
				b.serve(ports)
				defer b.stop()
				ask := func(id messages.RequestID, commit string, actions ...string) {
					r := &messages.Request{ID: id, Backend: "tpp", Workspace: "ws", Actions: actions}
					r.Source = messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: commit}
					b.Send(b.t, r.Subject(), r)
					synctest.Wait()
				}
				w := b.worker("w1", 1)
				ask("r1", first, "run_all")
				for range 5 {
					w.Persist(b.take(w), ok)
				}
				synctest.Wait()
				ask("r2", tc.commit, tc.ask...)
				plan := Lookup[messages.Plan](b.Fleet, "jobs", messages.PlanKey("tpp", "ws", "r2"))
				var told []string
				for _, warning := range plan.Warnings {
					if _, rest, found := strings.Cut(warning, "Action '"); found && strings.Contains(warning, "has changed since it last ran") {
						name, _, _ := strings.Cut(rest, "'")
						told = append(told, name)
					}
				}
				slices.Sort(told)
				if !slices.Equal(told, tc.want) {
					t.Errorf("told of %q, want %q (%q)", told, tc.want, plan.Warnings)
				}
				for _, j := range plan.Jobs {
					if slices.Contains(tc.want, j.Action) && !j.Reused {
						t.Errorf("%s runs again", j.Action)
					}
				}
			})
		})
	}
}
