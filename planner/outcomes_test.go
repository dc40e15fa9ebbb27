package planner_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/planner"
)

// TestClosedLips: whatever a study's code and our own machines say, outcomes
// carry none of it (I7).
func TestClosedLips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const secret = "patient-17"
		b := setup(t, diamond)
		w := b.worker("w1", 4)
		b.ask("r1", "run_all")
		leaky := messages.Result{
			ExitCode: 1, Files: 3,
			Unmatched: []messages.Unmatched{{Pattern: secret, Nearest: []messages.Path{secret}}}, Leftover: []messages.Path{secret},
			Withheld: []messages.FileProblem{{Path: secret, Reason: secret}}, Withhelds: 1, Refused: []messages.FileProblem{{Path: secret, Reason: secret}},
		}
		for range 2 {
			a := b.take(w)
			w.Say(a, messages.StageExecuting, secret)
			if a.Name == "gen" {
				w.Persist(a, leaky)
			} else {
				w.Say(a, messages.StageErrored, secret)
				w.Lease(a, messages.LeaseReleased)
			}
		}
		b.wantCode("r1", "gen", messages.NonzeroExit)
		b.wantCode("r1", "alone", messages.WaitingOnNewTask)
		b.cancel(&messages.Cancel{Request: "r1", By: secret})
		text := fmt.Sprint(b.kinds("r1"))
		for _, o := range b.Outcomes() {
			data, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			text += string(data)
		}
		if strings.Contains(text, secret) {
			t.Errorf("an outcome has it: %s", text)
		}
		for _, j := range b.last("r1", messages.OutcomeFinished).Jobs {
			if j.Action == "gen" && (j.Files != 3 || j.Unmatched != 1 || j.Withheld != 1) {
				t.Errorf("counts of gen: got %+v", j)
			}
		}
	})
}

// TestTwoBackends: the same request id on two backends makes jobs of the same
// ids, which have nothing to do with each other.
func TestTwoBackends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		other := b.Worker(t, "w2", "emis", map[string]float64{"default": 1})
		b.ask("r1", "alone")
		r := &messages.Request{
			ID: "r1", Backend: "emis", Workspace: "ws", Actions: []string{"alone"},
			Source: messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: commit},
		}
		b.Send(t, r.Subject(), r)
		first, second := b.take(w), b.take(other)
		if first.Job != second.Job || first.Backend != "tpp" || second.Backend != "emis" {
			t.Fatalf("got %+v and %+v", first, second)
		}
		other.Persist(second, messages.Result{ExitCode: 1})
		w.Persist(first, ok)
		b.wantCode("r1", "alone", messages.Success)
		if got := b.Job(t, "emis", "ws", second.Job).Code; got != messages.NonzeroExit {
			t.Errorf("on the other backend: got %s, want nonzero_exit", got)
		}
	})
}

// TestWorkingFolder: `sluice run` has the patterns of the whole project staged
// apart, after a restart, too.
func TestWorkingFolder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) { c.WorkingFolder = true })
		b.Study(messages.WorkingFolder, diamond)
		r := &messages.Request{
			ID: "r1", Backend: "tpp", Workspace: "ws", Actions: []string{"alone"},
			Source: messages.Source{Repo: "https://github.com/opensafely/study", Commit: messages.WorkingFolder},
		}
		b.Send(t, r.Subject(), r)
		synctest.Wait()
		b.stop()
		b.start()
		b.sleep(2 * time.Second) // the leader key is given back
		a := b.take(b.worker("w1", 1))
		if len(a.Patterns) != 5 {
			t.Errorf("patterns: got %q, want 5", a.Patterns)
		}
	})
}
