package planner_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/needs"
	"sluice/messages"
	"sluice/planner"
)

type loopJob struct {
	Name      string
	Workspace string
	Created   int `json:"created_at"`
	State     messages.State
	Cancelled bool
	WaitFor   []string `json:"wait_for"`
	DB        bool     `json:"requires_db"`
	Action    string
	Run       string `json:"run_command"`
}

func (j loopJob) request() messages.RequestID { return messages.RequestID("rap-" + j.Name) }
func (j loopJob) id() messages.JobID          { return messages.NewJobID(j.request(), j.Name) }

// TestLoopCases: which job starts when, as the reference has it. Its limit of
// workers for each pool is a worker with that many slots here, and nothing is
// dispatched ahead of a free slot. Each case is run by the whole service.
func TestLoopCases(t *testing.T) {
	t.Parallel()
	type loopCase struct {
		ID, Note string
		Workers  float64                       `json:"max_workers"`
		DB       float64                       `json:"max_db_workers"`
		Flags    map[string]string             `json:"flags"`
		Weights  map[string]map[string]float64 `json:"resource_weights"`
		Jobs     []loopJob
		Ticks    [][]struct {
			Job     string
			Code    messages.Code `json:"status_code"`
			Message string        `json:"status_message"`
		}
	}
	for _, c := range needs.Cases[loopCase](t, "loop.jsonl") {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &bench{Fleet: newFleet(), t: t, cfg: planner.DefaultConfig()}
				b.cfg.Window = 1
				for workspace, rules := range c.Weights {
					for pattern, slots := range rules {
						b.cfg.Weights = append(b.cfg.Weights, planner.Weight{Workspace: workspace, Pattern: pattern, Slots: slots})
					}
				}
				b.Worker(t, "w", "test", map[string]float64{"default": c.Workers, "db": c.DB})
				s := &messages.Setting{}
				if c.Flags["paused"] == "true" {
					s.Paused = &messages.Switch{Since: time.Now()}
				}
				if c.Flags["mode"] == "db-maintenance" {
					s.Maintenance = &messages.Switch{Since: time.Now()}
				}
				b.Setting(t, "test", s)
				byName := map[string]loopJob{}
				for _, j := range c.Jobs {
					byName[j.Name] = j
				}
				for _, j := range c.Jobs {
					b.plant(j, byName, planner.WeightOf(b.cfg, "test", j.Workspace, j.action(), j.Run))
				}
				for _, j := range c.Jobs { // the reference looks at cancellations first
					if j.Cancelled {
						c := &messages.Cancel{Request: j.request(), Backend: "test", Workspace: j.Workspace}
						b.Send(t, c.Subject(), c)
					}
				}
				b.start()
				t.Cleanup(func() { b.stop() })
				synctest.Wait()

				var wantStart, gotStart []string
				want, got := map[string]messages.Code{}, map[string]messages.Code{}
				for _, tick := range c.Ticks {
					for _, j := range tick {
						want[j.Job] = j.Code
						r := b.Job(t, "test", byName[j.Job].Workspace, byName[j.Job].id())
						got[j.Job] = r.Code
						if j.Code == messages.Initiated && !slices.Contains(wantStart, j.Job) {
							wantStart = append(wantStart, j.Job)
						}
						if r.Code == j.Code && !strings.HasPrefix(r.Message, j.Message) {
							t.Errorf("message of %s: got %q, want %q first", j.Job, r.Message, j.Message)
						}
					}
				}
				for _, a := range b.Started() {
					gotStart = append(gotStart, strings.TrimPrefix(string(a.Request), "rap-"))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: codes (-want +got):\n%s", c.Note, diff)
				}
				if diff := cmp.Diff(wantStart, gotStart); diff != "" {
					t.Errorf("%s: started (-want +got):\n%s", c.Note, diff)
				}
			})
		})
	}
}

func (j loopJob) action() string {
	if j.Action != "" {
		return j.Action
	}
	return j.Name
}

// plant writes a job, and the plan of a request of its own.
func (b *bench) plant(j loopJob, all map[string]loopJob, weight float64) {
	b.t.Helper()
	created := time.Now().Add(time.Duration(j.Created) * time.Second)
	r := &messages.Job{
		ID: j.id(), Request: j.request(), Backend: "test", Workspace: j.Workspace, Action: j.Name, Pool: "default", Weight: weight, Database: j.DB,
		Source: messages.Source{Repo: "https://github.com/opensafely/study", Commit: commit}, Run: j.Run, Image: "r:v1",
		State: messages.Pending, Code: messages.Created, Message: "Created", Created: created, Updated: created,
	}
	if j.DB {
		r.Pool = "db"
	}
	for _, name := range j.WaitFor {
		r.WaitFor = append(r.WaitFor, all[name].id())
	}
	switch j.State {
	case messages.Running:
		r.State, r.Code, r.Attempt = messages.Running, messages.Executing, 1
		l := &messages.Lease{State: messages.LeaseHeld, Owner: "w", Nonce: "n", Weight: weight, Pool: r.Pool}
		Set(b.t, b.Fleet, "leases", messages.LeaseKey("test", r.ID, 1), l, time.Minute)
	case messages.Failed:
		r.State, r.Code = messages.Failed, messages.NonzeroExit
	case messages.Succeeded:
		r.State, r.Code = messages.Succeeded, messages.Success
	}
	Set(b.t, b.Fleet, "jobs", messages.JobKey("test", j.Workspace, r.ID), r, 0)
	p := &messages.Plan{
		Request: messages.Request{ID: j.request(), Backend: "test", Workspace: j.Workspace, Source: r.Source, Actions: []string{j.Name}},
		Jobs:    []messages.Planned{{Action: j.Name, Job: r.ID, Why: messages.WhyAsked}}, Done: true, Created: created,
	}
	Set(b.t, b.Fleet, "jobs", messages.PlanKey("test", j.Workspace, j.request()), p, 0)
}

// TestResultCases: how a job's record says that it ended.
func TestResultCases(t *testing.T) {
	t.Parallel()
	type resultCase struct {
		ID        string
		Exit      int           `json:"exit_code"`
		DB        bool          `json:"requires_db"`
		Agent     string        `json:"agent_message"`
		Unmatched bool          `json:"has_unmatched_patterns"`
		Excluded  bool          `json:"has_level4_excluded_files"`
		Code      messages.Code `json:"status_code"`
		Message   string        `json:"status_message"`
	}
	for _, c := range needs.Cases[resultCase](t, "results.jsonl") {
		if c.Agent != "" {
			continue // no other program's words are in our records
		}
		r := &messages.Result{ExitCode: c.Exit}
		if c.Unmatched {
			r.Unmatched = []messages.Unmatched{{Pattern: "x"}}
		}
		if c.Excluded {
			r.Withhelds = 1
		}
		if got, want := fmt.Sprint(r.Code(), planner.Describe(r, c.DB)), fmt.Sprint(c.Code, c.Message); got != want {
			t.Errorf("%s: got %s, want %s", c.ID, got, want)
		}
	}
}
