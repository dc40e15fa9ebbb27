package planner_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/planner"
)

// TestErrored: three attempts, pauses between them, then a dead letter.
func TestErrored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "left")
		for attempt, pause := range []time.Duration{0, 5 * time.Second, 10 * time.Second} {
			if pause > 0 {
				b.sleep(pause - time.Second)
				b.wantCode("r1", "gen", messages.WaitingOnNewTask)
				b.wantMessage("r1", "gen", fmt.Sprintf("Attempt %d failed: no space on /staging.", attempt))
				b.sleep(time.Second)
			}
			a := b.take(w)
			if a.Attempt != attempt+1 {
				t.Fatalf("got attempt %d, want %d", a.Attempt, attempt+1)
			}
			w.Say(a, messages.StageErrored, "no space on /staging")
			w.Lease(a, messages.LeaseReleased)
		}
		b.wantCode("r1", "gen", messages.InternalError)
		b.wantMessage("r1", "gen", "The last of 3 attempts: no space on /staging.")
		b.wantCode("r1", "left", messages.DependencyFailed)
		gen := b.job("r1", "gen")
		if len(gen.Lost) != 3 || gen.Lost[2].Worker != "w1" || gen.Lost[2].Attempt != 3 {
			t.Errorf("lost: got %+v", gen.Lost)
		}
		if len(b.Dead()) != 1 || b.Dead()[0].Reason != "no space on /staging" || !strings.HasPrefix(b.Dead()[0].Subject, "sluice.action.tpp.db.ws.") {
			t.Errorf("dead letters: got %v", b.Dead())
		}
		if o := b.last("r1", messages.OutcomeFinished); strings.Contains(fmt.Sprint(o.Jobs), "staging") {
			t.Errorf("an outcome tells of our insides: %+v", o)
		}
	})
}

func TestRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		w.Say(b.take(w), messages.StageRefused, "there is no image python:v2")
		b.wantCode("r1", "alone", messages.JobError)
		b.wantMessage("r1", "alone", "The job cannot be run as it is written: there is no image python:v2")
	})
}

// TestLost: the worker is never heard of again.
func TestLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) { c.Window = 1; c.PoolLimits = map[string]float64{"default": 1} })
		w, w2 := b.worker("w1", 1), b.worker("w2", 1)
		b.ask("r1", "alone")
		a := b.take(w)
		b.ask("r2", "alone") // waits for the slot
		b.sleep(2*time.Minute + 50*time.Second)
		b.wantCode("r1", "alone", messages.Initiated) // expired a minute after, and the grace is not over
		b.sleep(20 * time.Second)
		if l := Lookup[messages.Lease](b.Fleet, "leases", messages.LeaseKey("tpp", a.Job, 1)); l == nil || l.State != messages.LeaseFenced || l.Owner != "w1" {
			t.Errorf("lease: got %+v", l)
		}
		lost := b.job("r1", "alone").Lost
		if len(lost) != 1 || lost[0].Reason != "worker w1 did not renew its lease" {
			t.Errorf("lost: got %+v", lost)
		}

		// The dead one's files come late, and first: they win legitimately.
		b.sleep(10 * time.Second)
		second := b.take(w2)
		b.Commit(t, a, ok)
		b.wantCode("r1", "alone", messages.Success)
		if second.Job == a.Job {
			if l := Lookup[messages.Lease](b.Fleet, "leases", messages.LeaseKey("tpp", a.Job, 2)); l.State != messages.LeaseStopping {
				t.Errorf("the second attempt goes on: %+v", l)
			}
		}
	})
}

// TestBackInTime: an expired lease is revived within the grace.
func TestBackInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		a := b.take(w)
		b.sleep(2 * time.Minute)
		for range 10 {
			w.Lease(a, messages.LeaseHeld)
			b.sleep(50 * time.Second)
		}
		w.Persist(a, ok)
		b.wantCode("r1", "alone", messages.Success)
		if got := b.job("r1", "alone"); got.Attempt != 1 || len(got.Lost) != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// TestUnusable: the persister cannot use the files.
func TestUnusable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		a := b.take(w)
		w.Say(a, messages.StageFinalizing, "")
		w.Lease(a, messages.LeaseReleased)
		b.Verdict(t, a, messages.Unusable)
		b.wantCode("r1", "alone", messages.WaitingOnNewTask)
		b.Verdict(t, a, messages.Unusable) // twice
		b.sleep(10 * time.Second)
		second := b.take(w)
		b.Verdict(t, a, messages.Unusable) // late
		b.wantCode("r1", "alone", messages.Initiated)
		w.Persist(second, ok)
		b.wantCode("r1", "alone", messages.Success)
		if lost := b.job("r1", "alone").Lost; len(lost) != 1 {
			t.Errorf("lost: got %+v", lost)
		}
	})
}

// TestFilesDied: the files message of an attempt is in the dead letters, and its
// job does not wait for it for ever. One that still waits for its persister has
// all the time in the world.
func TestFilesDied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		a := b.take(w)
		w.Say(a, messages.StageFinalizing, "")
		w.Lease(a, messages.LeaseReleased)
		b.sleep(12 * time.Hour)
		b.wantCode("r1", "alone", messages.Finalizing)
		b.Die(a)
		b.sleep(time.Minute)
		lost := b.job("r1", "alone").Lost
		if len(lost) != 1 || !strings.Contains(lost[0].Reason, "files message was given up") {
			t.Fatalf("lost: got %+v", lost)
		}
		second := b.take(w)
		if second.Attempt != 2 {
			t.Errorf("attempt %d was dispatched, want 2", second.Attempt)
		}
		w.Persist(second, ok)
		b.wantCode("r1", "alone", messages.Success)
	})
}

// TestForged: events that are not backed by the registers change nothing.
func TestForged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w, evil := b.worker("w1", 1), b.worker("evil", 0)
		b.ask("r1", "alone")
		a := b.take(w)
		w.Say(a, messages.StageExecuting, "")
		other := *a
		other.Attempt = 7
		for _, stage := range []messages.Stage{messages.StageErrored, messages.StageRefused, messages.StageStopped, messages.StageFinalizing} {
			evil.Say(a, stage, "ha")
			evil.Say(&other, stage, "ha")
		}
		b.Verdict(t, a, messages.Persisted)
		b.Verdict(t, &other, messages.Unusable)
		unknown := *a
		unknown.Job = messages.NewJobID("no", "such")
		evil.Say(&unknown, messages.StageErrored, "ha")
		b.Verdict(t, &unknown, messages.Persisted)
		wrong := &messages.WorkerEvent{Job: a.Job, Attempt: 1, Backend: "tpp", Workspace: "ws", Worker: "w1", Stage: messages.StageErrored}
		b.Send(t, strings.Replace(wrong.Subject(), ".tpp.", ".emis.", 1), wrong)
		b.wantCode("r1", "alone", messages.Executing)
		if got := b.job("r1", "alone"); got.Worker != "w1" || len(got.Lost) != 0 {
			t.Errorf("got %+v", got)
		}
		reasons := map[string]int{}
		for _, l := range b.Dead() {
			for _, r := range []string{"was never dispatched", "nobody planned it", "belongs on"} {
				if strings.Contains(l.Reason, r) {
					reasons[r]++
				}
			}
		}
		want := map[string]int{"was never dispatched": 5, "nobody planned it": 2, "belongs on": 1}
		if b.Waiting() != 0 || len(b.Dead()) != 8 || !maps.Equal(reasons, want) {
			t.Errorf("waiting %d, dead letters %v, want %v", b.Waiting(), reasons, want)
		}
		w.Persist(a, ok)
		b.wantCode("r1", "alone", messages.Success)
		b.Verdict(t, a, messages.Unusable)
		w.Say(a, messages.StageErrored, "late")
		b.wantCode("r1", "alone", messages.Success)
	})
}

// TestLostEvents: no event arrives; the reconcile pass finds the commit.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		a := b.take(w)
		w.Lease(a, messages.LeaseReleased)
		c := &messages.Commit{Job: a.Job, Attempt: 1, Manifest: digest, Result: &messages.Result{ExitCode: 2}}
		Set(t, b.Fleet, "commits", messages.CommitKey("tpp", a.Job), c, 0)
		b.sleep(31 * time.Second)
		b.wantCode("r1", "alone", messages.NonzeroExit)
	})
}

// TestLostAction: an action that has gone from its queue is published again.
func TestLostAction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		if err := b.Connect(0, false, nil).PurgeAction(t.Context(), b.Queued()[0]); err != nil {
			t.Fatal(err)
		}
		b.sleep(4 * time.Minute) // until the server has forgotten its id, too
		if a := b.take(w); a.Attempt != 1 {
			t.Errorf("got attempt %d, want 1", a.Attempt)
		}
	})
}

// TestUnreadableAction: an action that whoever takes it parks is not parked for
// ever: its job ends, and the job server is told.
func TestUnreadableAction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		b.worker("w1", 1)
		b.ask("r1", "alone")
		parked := b.unreadable(func() bool { return false })
		b.wantCode("r1", "alone", messages.InternalError)
		b.wantMessage("r1", "alone", "The last of 3 attempts: its action was taken 2 times and claimed by no worker; the dead letters may say why.")
		if parked < 6 || parked > 9 {
			t.Errorf("the action was parked %d times, want 6 to 9", parked)
		}
		if o := b.last("r1", messages.OutcomeFinished); len(o.Jobs) != 1 || o.Jobs[0].Code != messages.InternalError {
			t.Errorf("the job server was told %+v", o)
		}
		if len(b.Dead()) != 1 {
			t.Errorf("dead letters of the planner: %v, want one", b.Dead())
		}
	})
}

// unreadable has whoever takes an action park it, for an hour or until look says
// that it is enough. It returns how many were parked.
func (b *bench) unreadable(look func() bool) (parked int) {
	b.t.Helper()
	for range 120 { // an hour
		for _, subject := range b.Queued() {
			parked++
			if err := b.Connect(0, false, nil).PurgeAction(b.t.Context(), subject); err != nil {
				b.t.Fatal(err)
			}
		}
		b.sleep(30 * time.Second)
		if look() {
			break
		}
	}
	return parked
}

// TestUnreadableActionCrash: a planner that dies at any write while it gives an
// action back that nobody claims, such as behind the fence of its attempt, makes
// nothing wait for ever, nor end otherwise.
func TestUnreadableActionCrash(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		late := false // all is over before it would die
		for n := 1; !late; n++ {
			crashed := false
			synctest.Test(t, func(t *testing.T) {
				b := &bench{Fleet: newFleet(), t: t, cfg: planner.DefaultConfig()}
				b.Study(commit, diamond)
				b.serve(b.Connect(n, after, func() { crashed = true }).Ports())
				t.Cleanup(func() { b.stop() })
				b.worker("w1", 1)
				b.ask("r1", "alone")
				again := false
				parked := b.unreadable(func() bool {
					synctest.Wait()
					j := Lookup[messages.Job](b.Fleet, "jobs", messages.JobKey("tpp", "ws", messages.NewJobID("r1", "alone")))
					ended := j != nil && j.State.Final()
					switch {
					case ended && !crashed: // the write is one that is never made
						late = true
					case crashed && !again:
						again = true
						b.stop()
						b.start()
						return false
					}
					return ended
				})
				j := b.job("r1", "alone")
				if j.Code != messages.InternalError || len(j.Lost) != 3 || j.Attempt > 4 {
					t.Errorf("crash %d (%t): ended as %s after %d attempts, of which %d were lost", n, after, j.Code, j.Attempt, len(j.Lost))
				}
				if parked < 6 || parked > 12 {
					t.Errorf("crash %d (%t): the action was parked %d times, want 6 to 12", n, after, parked)
				}
				for _, o := range b.Outcomes() {
					if o.Kind == messages.OutcomeFinished && o.Jobs[0].Code != messages.InternalError {
						t.Errorf("crash %d (%t): the job server was told %+v", n, after, o)
					}
				}
			})
		}
	}
}

// TestActionKept: an action that the server takes for settled, and keeps, does
// not keep itself out of its queue for ever.
func TestActionKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		b.Keep(b.Queued()[0])
		b.sleep(4 * time.Minute)
		if a := b.take(w); a.Attempt != 1 {
			t.Errorf("got attempt %d, want 1", a.Attempt)
		}
	})
}

// TestActionWaits: an action that waits in its queue for long has lost nothing.
func TestActionWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		b.sleep(time.Hour)
		if a := b.take(w); a.Attempt != 1 || len(b.Started()) != 1 {
			t.Errorf("got attempt %d, published %d times; want one of each", a.Attempt, len(b.Started()))
		}
	})
}

// TestGivenUpRequest: a request that cannot be processed, try after try, is
// parked, and the job server is told that it will not run.
func TestGivenUpRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.stop()
		b.broken = messages.PlanKey("tpp", "ws", "r1")
		b.start()
		b.ask("r1", "alone")
		b.ask("r2", "alone")
		b.sleep(time.Hour)
		if o := b.last("r1", messages.OutcomeRejected); o.Code != messages.InternalError || strings.Contains(fmt.Sprint(o.Reasons), errBroken.Error()) {
			t.Errorf("the job server was told %+v, want internal_error and nothing of our insides", o)
		}
		if dead := b.Dead(); len(dead) != 1 || !strings.Contains(dead[0].Reason, "given up after 100 tries") || !strings.Contains(dead[0].Reason, errBroken.Error()) {
			t.Errorf("dead letters: got %v", dead)
		}
		if got := b.run(w); !slices.Equal(got, []string{"alone"}) {
			t.Errorf("ran %v, want what comes behind it", got)
		}
	})
}

// A brokenPlans register cannot create one plan.
type brokenPlans struct {
	planner.Register[messages.Plan]
	key string
}

var errBroken = errors.New("the register has no room for this one")

func (r brokenPlans) Create(ctx context.Context, key string, p *messages.Plan) (messages.Revision, error) {
	if key == r.key {
		return 0, errBroken
	}
	return r.Register.Create(ctx, key, p)
}

// TestSourceDown: a request whose project file cannot be had holds up nobody,
// and is planned when it can.
func TestSourceDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r0", "alone")
		b.Cut(errors.New("could not resolve host"))
		b.ask("r1", "alone")
		b.ask("r2", "alone", "gen")
		b.ask("r3", "alone")
		b.cancel(&messages.Cancel{Request: "r0"})
		b.wantCode("r0", "alone", messages.CancelledByUser)
		if b.Waiting() != 0 {
			t.Fatalf("%d messages are held up", b.Waiting())
		}
		b.cancel(&messages.Cancel{Request: "r1"})
		if o := b.last("r1", messages.OutcomeRejected); o.Code != messages.CancelledByUser {
			t.Errorf("a request that was cancelled before it was planned: got %+v", o)
		}
		b.cancel(&messages.Cancel{Request: "r2", Actions: []string{"gen"}})
		b.sleep(time.Minute)
		b.stop() // and another planner goes on with it
		b.start()
		b.ask("r3", "alone") // published again meanwhile
		b.Cut(nil)
		b.sleep(10 * time.Minute)
		if got := b.run(w); !slices.Equal(got, []string{"alone", "alone"}) && !slices.Equal(got, []string{"alone"}) {
			t.Errorf("ran %v", got)
		}
		for _, r := range []messages.RequestID{"r2", "r3"} {
			b.last(r, messages.OutcomeAccepted)
			b.last(r, messages.OutcomeFinished)
		}
		if jobs := b.last("r2", messages.OutcomeAccepted).Jobs; len(jobs) != 1 {
			t.Errorf("r2: got %+v, want alone only", jobs)
		}
	})
}

func TestSourceGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		b.Cut(errors.New("permission denied: token=abc"))
		b.ask("r1", "alone")
		b.sleep(2 * time.Hour)
		o := b.last("r1", messages.OutcomeRejected)
		if o.Code != messages.InternalError || strings.Contains(fmt.Sprint(o.Reasons), "token") {
			t.Errorf("got %+v", o)
		}
		if len(b.Dead()) != 1 || b.Dead()[0].Subject != "sluice.request.tpp.ws" {
			t.Errorf("dead letters: %v", b.Dead())
		}
	})
}

// TestWorkerKeepsSilent: an attempt is over, and no event says how.
func TestWorkerKeepsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 2)
		b.ask("r1", "alone")
		first := b.take(w)
		w.Lease(first, messages.LeaseReleased)
		b.Verdict(t, first, messages.Discarded)
		b.wantCode("r1", "alone", messages.Initiated)
		b.sleep(2 * time.Minute)
		second := b.take(w)
		w.Say(second, messages.StageExecuting, "")
		w.Lease(second, messages.LeaseReleased)
		b.sleep(10 * time.Minute)
		b.wantCode("r1", "alone", messages.Executing)
		b.sleep(15 * time.Minute)
		w.Persist(b.take(w), ok)
		b.wantCode("r1", "alone", messages.Success)
		if lost := b.job("r1", "alone").Lost; len(lost) != 2 {
			t.Errorf("lost: got %+v", lost)
		}

		// A refusal that comes after the verdict still counts.
		b.ask("r2", "alone")
		a := b.take(w)
		w.Lease(a, messages.LeaseReleased)
		b.Verdict(t, a, messages.Discarded)
		b.sleep(time.Second)
		w.Say(a, messages.StageRefused, "it is not a program")
		b.wantCode("r2", "alone", messages.JobError)
	})
}
