package planner

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"sluice/messages"
)

// TestTogether: whatever is told at once, what is told of a job keeps its order,
// and what is told of a request stays behind what came before and before what
// came after.
func TestTogether(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		line := make([]telling, rapid.IntRange(0, 200).Draw(t, "length"))
		round := make([]int, len(line)) // in which each was told
		n := 0
		for i := range line {
			line[i] = telling{
				request: requestKey{"test", messages.RequestID(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "request"))},
				job:     messages.JobID(rapid.SampledFrom([]string{"", "j1", "j2", "j3"}).Draw(t, "job")),
				tell:    func(context.Context) error { round[i] = n; return nil },
			}
		}
		for rest := line; len(rest) > 0; {
			var now []telling
			if now, rest = together(rest); len(now) == 0 {
				t.Fatalf("nothing of %d can be told", len(rest))
			}
			n++
			for _, what := range now {
				_ = what.tell(t.Context())
			}
		}
		for i, later := range line {
			for k, earlier := range line[:i] {
				if later.request == earlier.request && (later.job == earlier.job || later.job == "" || earlier.job == "") && round[k] >= round[i] {
					t.Fatalf("%d (request %s, job %q) is told in round %d, and %d (job %q), before it in the line, in round %d",
						i, later.request.id, later.job, round[i], k, earlier.job, round[k])
				}
			}
		}
	})
}
