package planner_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/planner"
)

func TestPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) { c.Window = 1 })
		w := b.worker("w1", 1)
		b.ask("r1", "run_all")
		a := b.take(w) // gen
		w.Persist(b.take(w), ok)
		b.set(&messages.Setting{Paused: &messages.Switch{Since: time.Now(), By: "ops", Reason: "new disks"}})
		b.wantCode("r1", "left", messages.Paused)
		b.wantMessage("r1", "left", "Backend is currently paused for maintenance, job will start once this is completed (since 2000-01-01T00:00:00Z, by ops: new disks)")
		w.Persist(a, ok) // what runs goes on
		b.wantCode("r1", "gen", messages.Success)
		b.wantCode("r1", "right", messages.Paused)
		b.sleep(time.Second)
		b.ask("r2", "alone")
		b.wantCode("r2", "alone", messages.Paused)
		b.set(&messages.Setting{})
		b.wantCode("r1", "left", messages.Initiated)
		b.wantCode("r1", "end", messages.WaitingOnDependencies)
	})
}

func TestMaintenance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) { c.Window = 1 })
		w := b.worker("w1", 1)
		b.ask("r1", "run_all")
		gen, alone := b.take(w), b.take(w)
		if gen.Name != "gen" || alone.Name != "alone" {
			t.Fatalf("started %s and %s", gen.Name, alone.Name)
		}
		b.set(&messages.Setting{Maintenance: &messages.Switch{Since: time.Now(), Reason: "new data"}})
		b.wantCode("r1", "gen", messages.WaitingDBMaintenance)
		b.wantMessage("r1", "gen", "Waiting for database to finish maintenance (since 2000-01-01T00:00:00Z: new data)")
		b.wantCode("r1", "alone", messages.Initiated)
		if l := Lookup[messages.Lease](b.Fleet, "leases", messages.LeaseKey("tpp", gen.Job, 1)); l.State != messages.LeaseStopping {
			t.Errorf("lease of gen: got %+v", l)
		}
		b.set(&messages.Setting{}) // over, and the container is still there
		b.wantCode("r1", "gen", messages.WaitingDBMaintenance)
		w.Say(gen, messages.StageStopped, "")
		w.Lease(gen, messages.LeaseReleased)
		again := b.take(w)
		if again.Job != gen.Job || again.Attempt != 2 {
			t.Errorf("after the maintenance: got %+v", again)
		}
		if lost := b.job("r1", "gen").Lost; len(lost) != 0 {
			t.Errorf("a reset counts as a lost attempt: %v", lost)
		}
	})
}

// TestResetLoses: a job that was reset had finished.
func TestResetLoses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "gen")
		a := b.take(w)
		b.set(&messages.Setting{Maintenance: &messages.Switch{Since: time.Now()}})
		b.wantCode("r1", "gen", messages.WaitingDBMaintenance)
		w.Persist(a, ok)
		b.wantCode("r1", "gen", messages.Success)
	})
}

func TestReboot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 2)
		b.ask("r1", "left")
		b.ask("r2", "alone")
		a := b.take(w)
		b.set(&messages.Setting{Reboot: &messages.Switch{Since: time.Now()}, Paused: &messages.Switch{Since: time.Now()}})
		b.wantCode("r1", "gen", messages.WaitingOnReboot)
		b.wantCode("r2", "alone", messages.WaitingOnReboot) // it was queued
		b.wantCode("r1", "left", messages.Paused)
		w.Lease(a, messages.LeaseReleased)
		b.set(&messages.Setting{})
		if got := b.run(w); len(got) != 3 {
			t.Errorf("after the reboot %v ran, want gen, alone and left", got)
		}
	})
}

func TestPoolLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 10)
		b.set(&messages.Setting{Limits: map[string]float64{"default": 1}})
		b.ask("r1", "alone")
		b.ask("r2", "gen")
		b.request(&messages.Request{ID: "r3", Workspace: "other", Actions: []string{"alone"}})
		if len(b.Queued()) != 2 {
			t.Errorf("queued: %v, want one of each pool", b.Queued())
		}
		if !b.Started()[0].Hard {
			t.Error("a pool with a limit is not hard")
		}
		for range 3 {
			w.Persist(b.take(w), ok)
		}
		if kinds := b.kinds("r3"); kinds[len(kinds)-1] != "finished" {
			t.Errorf("outcomes: %q", kinds)
		}
	})
}

// TestDraining: a worker that takes nothing counts for nothing.
func TestDraining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		p := &messages.Presence{Worker: "w1", Backend: "tpp", Draining: true, Pools: map[string]messages.Slots{"default": {Total: 4}}}
		Set(t, b.Fleet, "fleet", messages.PresenceKey("tpp", "w1"), p, 0)
		b.ask("r1", "alone")
		b.wantMessage("r1", "alone", "there is no live worker in pool default")
		b.worker("w2", 1)
		b.wantCode("r1", "alone", messages.Initiated)
	})
}

// TestTooHeavyForNow: no worker is large enough, and lighter jobs go on.
func TestTooHeavyForNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) { c.Weights = []planner.Weight{{Workspace: "ws", Pattern: "alone", Slots: 3}} })
		w := b.worker("w1", 2)
		b.ask("r1", "alone")
		b.wantMessage("r1", "alone", "Waiting on available workers for resource intensive job: it takes 3 slots, and the largest worker in pool default of backend tpp has 2")
		b.request(&messages.Request{ID: "r2", Workspace: "light", Actions: []string{"alone"}})
		if got := b.take(w); got.Workspace != "light" {
			t.Errorf("got %+v", got)
		}
		w.Pools["default"] = 4
		w.Announce(0)
		if got := b.take(w); got.Request != "r1" {
			t.Errorf("got %+v", got)
		}
	})
}

// TestPauseQueued: what no worker has claimed is taken back, so that a pause
// takes effect at once; what runs goes on.
func TestPauseQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		b.sleep(time.Second)
		b.ask("r2", "alone")
		first := b.take(w)
		b.set(&messages.Setting{Paused: &messages.Switch{Since: time.Now()}})
		b.wantCode("r1", "alone", messages.Initiated)
		b.ask("r3", "alone") // nothing to do: r2's waits
		b.request(&messages.Request{ID: "r4", Workspace: "ws", Actions: []string{"gen"}})
		if len(b.Queued()) != 0 {
			t.Errorf("queued: %v", b.Queued())
		}
		w.Persist(first, ok)
		b.set(&messages.Setting{})
		if got := b.run(w); len(got) == 0 {
			t.Error("nothing runs after the pause")
		}
		b.wantCode("r1", "alone", messages.Success)
		b.wantCode("r4", "gen", messages.Success)
	})
}

// TestNobodyThere: the workers of a pool go away while an action is queued.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		b.wantCode("r1", "alone", messages.Initiated)
		w.Announce(time.Second) // and never again
		b.sleep(3 * time.Minute)
		b.wantCode("r1", "alone", messages.WaitingOnWorkers)
		b.wantMessage("r1", "alone", "there is no live worker in pool default")
		if len(b.Queued()) != 0 {
			t.Errorf("queued: %v", b.Queued())
		}
		w.Announce(0)
		if a := b.take(w); a.Attempt != 2 {
			t.Errorf("got attempt %d, want 2", a.Attempt)
		}
		if lost := b.job("r1", "alone").Lost; len(lost) != 0 {
			t.Errorf("lost: %v", lost)
		}
	})
}
