package planner_test

import (
	"testing"
	"testing/synctest"

	"sluice/messages"
	"sluice/planner"
)

// TestTerms: what is set for a backend goes into the jobs that are planned from
// then on, before what the planner was started with.
func TestTerms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) {
			c.JobLimits = map[string]messages.Limits{"tpp": {CPUs: 2, Memory: 1 << 30}, "emis": {CPUs: 9}}
			c.Weights = []planner.Weight{{Backend: "tpp", Workspace: "ws", Pattern: "alone", Slots: 2}, {Workspace: "ws", Pattern: "gen", Slots: 3}}
		})
		b.ask("r1", "alone", "gen")
		if j := b.job("r1", "alone"); j.Limits != (messages.Limits{CPUs: 2, Memory: 1 << 30}) || j.Weight != 2 {
			t.Errorf("before: limits %+v, weight %v", j.Limits, j.Weight)
		}
		b.set(&messages.Setting{
			JobLimits: messages.Limits{Memory: 8 << 30}, Weights: []messages.Weight{{Workspace: "ws", Pattern: "al.*", Slots: 4}},
		})
		b.request(&messages.Request{ID: "r2", Workspace: "ws", Actions: []string{"left"}})
		b.request(&messages.Request{ID: "r3", Workspace: "two", Actions: []string{"alone"}})
		if j := b.job("r1", "alone"); j.Weight != 2 {
			t.Errorf("a job that was planned has changed: %+v", j)
		}
		b.cancel(&messages.Cancel{Request: "r1"})
		b.ask("r4", "alone", "gen")
		j := b.job("r4", "alone")
		if j.Limits != (messages.Limits{CPUs: 2, Memory: 8 << 30}) || j.Weight != 4 {
			t.Errorf("after: limits %+v, weight %v", j.Limits, j.Weight)
		}
	})
}

// TestBackendLimits: a pool's limit of one backend comes before that of all,
// and its setting before both.
func TestBackendLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) {
			c.PoolLimits = map[string]float64{"default": 100}
			c.BackendLimits = map[string]map[string]float64{"tpp": {"default": 1}}
		})
		b.worker("w1", 10)
		for _, ws := range []string{"one", "two", "three"} {
			b.request(&messages.Request{ID: messages.RequestID(ws), Workspace: ws, Actions: []string{"alone"}})
		}
		if n := len(b.Queued()); n != 1 {
			t.Errorf("with the backend's limit %d are queued, want 1", n)
		}
		b.set(&messages.Setting{Limits: map[string]float64{"default": 2}})
		if n := len(b.Queued()); n != 2 {
			t.Errorf("with the setting's limit %d are queued, want 2", n)
		}
	})
}

// TestDrainSetting: a worker that is drained counts for nothing, is told, and
// is told again when it comes back without having heard it.
func TestDrainSetting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		b.set(&messages.Setting{Drain: []string{"w1"}})
		b.ask("r1", "alone")
		b.wantMessage("r1", "alone", "there is no live worker in pool default")
		w.Announce(0) // as one does that has started anew
		synctest.Wait()
		var drains, opens int
		count := func() {
			drains, opens = 0, 0
			for _, c := range b.Controls() {
				switch c.Kind {
				case messages.ControlDrain:
					drains++
				case messages.ControlOpen:
					opens++
				}
			}
		}
		if count(); drains < 2 || opens != 0 {
			t.Errorf("told to drain %d times, to open %d times; want 2 or more, and none", drains, opens)
		}
		b.set(&messages.Setting{})
		b.wantCode("r1", "alone", messages.Initiated)
		if count(); opens != 1 {
			t.Errorf("told to open %d times, want once", opens)
		}
	})
}

// TestDisclosure: an outcome tells what the setting lists, from the moment it
// is set, and nothing before.
func TestDisclosure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		w := b.worker("w1", 1)
		bad := messages.Result{ExitCode: 3, Metrics: &messages.Metrics{CPUPeak: 50}}
		b.ask("r1", "gen")
		w.Persist(b.take(w), bad)
		if o := b.last("r1", messages.OutcomeFinished); o.Jobs[0].Disclosed != nil {
			t.Errorf("told without a setting: %+v", o.Jobs[0].Disclosed)
		}
		b.set(&messages.Setting{Disclosure: []string{messages.DiscloseExitCode, messages.DiscloseMetrics}})
		b.ask("r2", "gen")
		w.Persist(b.take(w), bad)
		for _, kind := range []messages.OutcomeKind{messages.OutcomeJob, messages.OutcomeFinished} {
			o := b.last("r2", kind)
			j := o.Job
			if j == nil {
				j = &o.Jobs[0]
			}
			d := j.Disclosed
			if d == nil || d.ExitCode == nil || *d.ExitCode != 3 || d.Metrics == nil || d.Metrics.CPUPeak != 50 || d.Message != "Job exited with an error: A transient database error occurred, your job may run if you try it again, if it keeps failing then contact tech support" {
				t.Errorf("outcome %s: %+v", kind, d)
			}
		}
	})
}
