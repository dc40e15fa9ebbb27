package planner_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/planner"
)

func TestCancelWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		b.ask("r1", "run_all")
		b.cancel(&messages.Cancel{Request: "r1", By: "ada"})
		for _, action := range []string{"gen", "left", "right", "end", "alone"} {
			b.wantCode("r1", action, messages.CancelledByUser)
		}
		b.wantMessage("r1", "gen", "Cancelled by user (ada)")
		if o := b.last("r1", messages.OutcomeFinished); len(o.Jobs) != 5 || o.Jobs[0].Message != "Cancelled by user" {
			t.Errorf("finished: got %+v", o)
		}
		if len(All[messages.Commit](b.Fleet, "commits", ">")) != 0 {
			t.Error("jobs that were never dispatched have tombstones")
		}
		b.ask("r2", "left") // as if the cancelled ones had never been
		if got := b.job("r2", "left").WaitFor; len(got) != 1 || got[0] != messages.NewJobID("r2", "gen") {
			t.Errorf("left waits for %v, want the new job of gen", got)
		}
	})
}

func TestCancelQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		if len(b.Queued()) != 1 {
			t.Fatalf("queued: %v", b.Queued())
		}
		a := *b.Started()[0]
		b.cancel(&messages.Cancel{Request: "r1", Actions: []string{"alone"}})
		b.wantCode("r1", "alone", messages.CancelledByUser)
		if len(b.Queued()) != 0 {
			t.Errorf("queued: %v", b.Queued())
		}
		if l := Lookup[messages.Lease](b.Fleet, "leases", messages.LeaseKey("tpp", a.Job, 1)); l == nil || l.State != messages.LeaseFenced {
			t.Errorf("a worker that has pulled the action can still claim it: %+v", l)
		}
		b.ask("r2", "alone") // the slot is free
		if got := b.take(w); got.Request != "r2" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestCancelRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) { c.Window = 1 })
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		a := b.take(w)
		w.Say(a, messages.StageExecuting, "")
		b.cancel(&messages.Cancel{Request: "r1"})
		b.wantCode("r1", "alone", messages.CancelledByUser)
		if l := Lookup[messages.Lease](b.Fleet, "leases", messages.LeaseKey("tpp", a.Job, 1)); l.State != messages.LeaseStopping || l.Reason != "cancelled_by_user" {
			t.Errorf("lease: got %+v", l)
		}
		if len(b.Controls()) == 0 || b.Controls()[0].Job != a.Job {
			t.Errorf("control messages: got %v", b.Controls())
		}
		if c := Lookup[messages.Commit](b.Fleet, "commits", messages.CommitKey("tpp", a.Job)); c == nil || !c.Tombstone() {
			t.Errorf("commit: got %+v, want a tombstone", c)
		}

		// The slot counts until the container is gone.
		b.ask("r2", "alone")
		b.wantCode("r2", "alone", messages.WaitingOnWorkers)
		w.Say(a, messages.StageStopped, "")
		w.Lease(a, messages.LeaseReleased)
		b.wantCode("r2", "alone", messages.Initiated)

		// What it left never becomes visible.
		b.Commit(t, a, ok)
		b.wantCode("r1", "alone", messages.CancelledByUser)
	})
}

// TestCancelWorkerGone: the slot of a worker that was told to stop and died is
// given up after a while.
func TestCancelWorkerGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) { c.Window = 1; c.PoolLimits = map[string]float64{"default": 1} })
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		b.take(w)
		b.cancel(&messages.Cancel{Request: "r1"})
		w.Announce(time.Second) // and never again
		b.ask("r2", "alone")
		w2 := b.worker("w2", 1)
		b.sleep(30 * time.Second)
		b.wantCode("r2", "alone", messages.WaitingOnWorkers)
		b.wantMessage("r2", "alone", "the limit of 1 slots in pool default of backend tpp is reached; position 1 of 1")
		b.sleep(5 * time.Minute)
		if got := b.take(w2); got.Request != "r2" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestCancelEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 2)
		b.ask("r1", "alone")
		b.run(w)
		before := b.job("r1", "alone")
		b.cancel(&messages.Cancel{Request: "r1"})
		if after := b.job("r1", "alone"); after.Code != messages.Success || !after.Updated.Equal(before.Updated) {
			t.Errorf("got %+v", after)
		}
		b.ask("r2", "run_all") // and it still counts as succeeded
		if got := b.last("r2", messages.OutcomeAccepted).Jobs; got[len(got)-1].Why != messages.WhySucceeded {
			t.Errorf("got %+v", got)
		}
	})
}

// TestCancelLoses: the files were committed, and the planner has not heard.
func TestCancelLoses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 2)
		b.ask("r1", "alone")
		a := b.take(w)
		c := &messages.Commit{Job: a.Job, Attempt: 1, Manifest: digest, Result: &messages.Result{Files: 3}}
		Set(t, b.Fleet, "commits", messages.CommitKey("tpp", a.Job), c, 0)
		b.cancel(&messages.Cancel{Request: "r1"})
		b.wantCode("r1", "alone", messages.Success)
		if got := b.job("r1", "alone"); got.Manifest != digest || got.Wanted != "" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestKill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 2)
		b.ask("r1", "left")
		b.take(w)
		b.cancel(&messages.Cancel{Request: "r1", Actions: []string{"gen"}, Kill: true, By: "ops"})
		b.wantCode("r1", "gen", messages.KilledByAdmin)
		b.wantCode("r1", "left", messages.DependencyFailed)
		b.wantMessage("r1", "left", `Not starting as dependency failed: "gen" did not succeed`)
		if kinds := b.kinds("r1"); kinds[len(kinds)-1] != "finished" {
			t.Errorf("outcomes: %q", kinds)
		}
	})
}

// TestCancelDependency: what another request waits for is cancelled.
func TestCancelDependency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		b.ask("r1", "gen")
		b.ask("r2", "left")
		if got := b.last("r2", messages.OutcomeAccepted).Jobs; len(got) != 2 || !got[0].Reused || got[0].Why != messages.WhyActive {
			t.Fatalf("r2: got %+v", got)
		}
		b.cancel(&messages.Cancel{Request: "r2", Actions: []string{"gen"}}) // not its own: stays
		b.wantCode("r1", "gen", messages.WaitingOnDBWorkers)
		b.cancel(&messages.Cancel{Request: "r1"})
		b.wantCode("r2", "left", messages.DependencyFailed)
	})
}

// TestCancelUnplanned: a cancellation of a request of which a planner that died
// has written some jobs, and whose project file is away, holds up nobody: it is
// obeyed when the rest is written, also when a planner dies meanwhile.
func TestCancelUnplanned(t *testing.T) {
	t.Parallel()
	for crash := range 12 { // at none, and at each write after the project file is back
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, diamond)
			b.ask("r1", "run_all")
			b.stop()
			b.mutate("jobs", messages.JobKey("tpp", "ws", messages.NewJobID("r1", "right")), nil)
			plan := Lookup[messages.Plan](b.Fleet, "jobs", messages.PlanKey("tpp", "ws", "r1"))
			plan.Done = false
			Set(t, b.Fleet, "jobs", messages.PlanKey("tpp", "ws", "r1"), plan, 0)
			b.Cut(errors.New("the repository is away"))
			b.start()
			b.sleep(10 * time.Second) // the planner before it has the leader key for a moment yet
			b.cancel(&messages.Cancel{Request: "r1", Actions: []string{"gen", "nothing"}, By: "ada"})
			b.cancel(&messages.Cancel{Request: "r1", Actions: []string{"right"}})
			b.cancel(&messages.Cancel{Request: "none"})
			if dead := b.Dead(); len(dead) != 1 || !strings.Contains(dead[0].Reason, "there is no request none") || b.Waiting() != 0 {
				t.Fatalf("%d wait, dead letters: %v; want the cancellation of nothing, which came last", b.Waiting(), dead)
			}
			b.Cut(nil)
			if crash > 0 {
				b.stop()
				conn := b.Connect(crash, crash%2 == 0, func() {})
				b.serve(conn.Ports())
				b.sleep(time.Hour)
				b.stop()
				b.start()
			}
			b.sleep(time.Hour)
			b.wantCode("r1", "gen", messages.CancelledByUser)
			b.wantCode("r1", "right", messages.CancelledByUser)
			b.wantCode("r1", "left", messages.DependencyFailed)
			b.wantCode("r1", "alone", messages.WaitingOnWorkers)
			if started := b.Started(); len(started) != 0 {
				t.Errorf("started %v", started)
			}
			b.cancel(&messages.Cancel{Request: "r1", Kill: true})
			b.wantCode("r1", "alone", messages.KilledByAdmin)
			if kinds := b.kinds("r1"); kinds[len(kinds)-1] != "finished" {
				t.Errorf("outcomes: %q", kinds)
			}
		})
	}
}
