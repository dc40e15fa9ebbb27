package planner_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
)

// TestLargeRequest: ten thousand actions in one request, a chain in the middle,
// while everybody else goes on; then all of it is cancelled.
func TestLargeRequest(t *testing.T) {
	t.Parallel()
	const many = 10_000
	var file strings.Builder
	file.WriteString("version: '5.0'\nactions:\n")
	for i := range many {
		fmt.Fprintf(&file, "  a%d: {run: 'python:v2 a.py %d', outputs: {highly_sensitive: {d: 'o%d.csv'}}", i, i, i)
		if i%10 == 9 {
			fmt.Fprintf(&file, ", needs: [a%d]", i-1)
		}
		file.WriteString("}\n")
	}
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, file.String())
		w := b.worker("w1", 2)
		b.ask("r1", "run_all")
		plan := Lookup[messages.Plan](b.Fleet, "jobs", messages.PlanKey("tpp", "ws", "r1"))
		if plan == nil || !plan.Done || len(plan.Jobs) != many {
			t.Fatalf("plan: got %+v", plan)
		}
		accepted := 0
		for _, o := range b.Outcomes() {
			if o.Kind == messages.OutcomeAccepted {
				accepted += len(o.Jobs)
			} else if o.Job != nil && o.Job.Why != "" {
				accepted++
			}
		}
		if accepted != many {
			t.Errorf("the job server was told of %d jobs, want %d", accepted, many)
		}
		b.wantCode("r1", "a9", messages.WaitingOnDependencies)
		b.wantCode("r1", fmt.Sprint("a", many-2), messages.WaitingOnWorkers)
		for range 50 {
			w.Persist(b.take(w), ok)
		}
		b.cancel(&messages.Cancel{Request: "r1"})
		codes := map[messages.Code]int{}
		for _, j := range All[messages.Job](b.Fleet, "jobs", "*.*.*") {
			codes[j.Code]++
		}
		if codes[messages.Success] != 50 || codes[messages.CancelledByUser] != many-50 {
			t.Errorf("codes: got %v", codes)
		}
		b.last("r1", messages.OutcomeFinished)
	})
	t.Logf("took %v", time.Since(began))
}
