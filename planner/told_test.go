package planner_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
)

// TestTold: what is told of a request's jobs at its end is what their records
// say, whether this planner saw them end or the one before, and whatever may be
// disclosed by then.
func TestTold(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		takeOver bool
		disclose []string
	}{
		{name: "seen"},
		{name: "taken over", takeOver: true},
		{name: "disclosed later", disclose: []string{messages.DiscloseExitCode}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, diamond)
				w := b.worker("w1", 1)
				b.ask("r1", "left")
				w.Persist(b.take(w), messages.Result{Files: 2})
				b.wantCode("r1", "gen", messages.Success)
				if tc.takeOver {
					b.stop()
					b.start()
					b.sleep(time.Minute)
				}
				if tc.disclose != nil {
					b.set(&messages.Setting{Disclosure: tc.disclose})
				}
				w.Persist(b.take(w), messages.Result{Files: 1})
				b.wantCode("r1", "left", messages.Success)
				var want []messages.JobOutcome
				for _, action := range []string{"gen", "left"} {
					r := b.job("r1", action)
					o := r.Outside(tc.disclose)
					o.Run, o.Database = r.Run, r.Database
					want = append(want, o)
				}
				got := slices.Clone(b.last("r1", messages.OutcomeFinished).Jobs)
				for i := range got {
					got[i].Why = "" // of the plan
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("jobs of the finished outcome (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestStaleList: an action's list of newest jobs that somebody has changed since
// it was read is read again, not written over.
func TestStaleList(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, diamond)
			w := b.worker("w1", 1)
			if known {
				b.ask("r0", "gen")
				w.Persist(b.take(w), messages.Result{ExitCode: 1}) // to be run again
				synctest.Wait()
			}
			key := messages.LatestKey("tpp", "ws", "gen")
			other := messages.NewJobID("another", "gen")
			Set(t, b.Fleet, "jobs", key, &messages.Latest{Action: "gen", Jobs: []messages.JobID{other}}, 0)
			b.request(&messages.Request{ID: "r1", Workspace: "ws", Actions: []string{"gen"}})
			b.sleep(time.Second)
			want := []messages.JobID{messages.NewJobID("r1", "gen"), other}
			if got := All[messages.Latest](b.Fleet, "jobs", key)[key]; got == nil || !slices.Equal(got.Jobs, want) {
				t.Errorf("known %v: the list is %+v, want %v", known, got, want)
			}
		})
	}
}
