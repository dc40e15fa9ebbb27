package planner_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/planner"
)

// troubled is a project in which everything happens that can happen to a job.
const troubled = `
version: '5.0'
actions:
  extract:
    run: ehrql:v1 generate-dataset d.py --output output/d.csv
    outputs: {highly_sensitive: {d: output/d.csv}}
  flaky:
    run: python:v2 flaky.py
    needs: [extract]
    outputs: {highly_sensitive: {d: output/flaky.csv}}
  wrong:
    run: python:v2 wrong.py
    needs: [extract]
    outputs: {highly_sensitive: {d: output/wrong.csv}}
  after_wrong:
    run: python:v2 after.py
    needs: [wrong, flaky]
    outputs: {highly_sensitive: {d: output/after.csv}}
  after_after:
    run: python:v2 after_after.py
    needs: [after_wrong]
    outputs: {highly_sensitive: {d: output/after_after.csv}}
  vanishing:
    run: python:v2 vanishing.py
    outputs: {highly_sensitive: {d: output/vanishing.csv}}
  broken:
    run: python:v2 broken.py
    outputs: {highly_sensitive: {d: output/broken.csv}}
  refused:
    run: nothere:v2 refused.py
    outputs: {highly_sensitive: {d: output/refused.csv}}
  endless:
    run: python:v2 endless.py
    outputs: {highly_sensitive: {d: output/endless.csv}}
  after_endless:
    run: python:v2 after_endless.py
    needs: [endless]
    outputs: {highly_sensitive: {d: output/after_endless.csv}}
`

// An end is all that a job server or an operator could compare afterwards.
type end struct {
	Jobs     map[string]string
	Latest   map[string][]messages.JobID
	Plans    map[string]string
	Commits  map[string]string
	Leases   []messages.LeaseState
	Queued   []string
	Told     []string // at least once
	Unsolved int
	Dead     []string
}

// A life is a project and what is asked of it, ten minutes apart.
type life struct {
	project string
	ask     [][]messages.Request
}

// live runs a project to its end with a planner that crashes at its n-th write,
// and another one after it.
func live(t *testing.T, l life, n int, after bool, fail func() (bool, bool)) (end, int) {
	f := newFleet()
	f.Study(commit, l.project)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	run := func(conn *Conn, ctx context.Context) {
		log := zerolog.New(strict{t}).Level(zerolog.ErrorLevel)
		cfg := planner.DefaultConfig()
		cfg.LeaderTTL, cfg.LeaderRenew, cfg.Reconcile = time.Minute, 20*time.Second, time.Minute // fewer steps that nothing depends on
		p, err := planner.New(cfg, conn.Ports(), log)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	first, crash := context.WithCancel(ctx)
	conn := f.Connect(n, after, crash)
	conn.Flaky(fail)
	run(conn, first)

	w := f.Worker(t, "w1", "tpp", map[string]float64{"default": 4, "db": 1})
	wg.Go(func() { w.Serve(ctx, 8, func(a *messages.Action) { perform(ctx, t, f, w, a) }) })
	for i, requests := range l.ask {
		for _, r := range requests {
			r.Backend, r.Workspace = "tpp", "ws"
			r.Source = messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: commit}
			f.Send(t, r.Subject(), &r)
		}
		if i == 0 {
			<-time.After(2 * time.Minute) // more than the leader key lives
			run(f.Connect(0, false, nil), ctx)
		}
		<-time.After(10 * time.Minute)
	}
	synctest.Wait()
	e := look(f)
	stop()
	wg.Wait()
	crash()
	return e, conn.Writes()
}

// A strict log takes no other error than the crash.
type strict struct{ t *testing.T }

func (s strict) Write(line []byte) (int, error) {
	if !strings.Contains(string(line), ErrCrashed.Error()) && !strings.Contains(string(line), ErrFlaky.Error()) {
		s.t.Errorf("a planner logs: %s", line)
	}
	return len(line), nil
}

// perform is what the worker does with an action.
func perform(ctx context.Context, t *testing.T, f *Fleet, w *Worker, a *messages.Action) {
	w.Say(a, messages.StagePreparing, "")
	w.Say(a, messages.StageExecuting, "")
	switch {
	case a.Name == "flaky" && a.Attempt == 1, a.Name == "broken":
		w.Say(a, messages.StageErrored, "the disk is full")
		w.Lease(a, messages.LeaseReleased)
	case a.Name == "wrong":
		w.Persist(a, messages.Result{ExitCode: 3})
	case a.Name == "vanishing" && a.Attempt == 1:
		// nobody hears of it again
	case a.Name == "refused":
		w.Say(a, messages.StageRefused, "there is no such image")
		w.Lease(a, messages.LeaseReleased)
	case a.Name == "endless" && a.Request == "r1":
		c := &messages.Cancel{Request: a.Request, Backend: "tpp", Workspace: "ws", Actions: []string{"endless", "after_endless"}}
		f.Send(t, c.Subject(), c)
		w.UntilStopped(ctx, a)
		w.Say(a, messages.StageStopped, "")
		w.Lease(a, messages.LeaseReleased)
	default:
		w.Persist(a, ok)
	}
}

func look(f *Fleet) end {
	e := end{Jobs: map[string]string{}, Latest: map[string][]messages.JobID{}, Plans: map[string]string{}, Commits: map[string]string{}, Queued: f.Queued(), Unsolved: f.Waiting()}
	for _, j := range All[messages.Job](f, "jobs", "*.*.*") {
		var lost []string
		for _, l := range j.Lost {
			lost = append(lost, fmt.Sprint(l.Attempt, l.Worker, l.Reason))
		}
		e.Jobs[string(j.Request)+" "+j.Action] = fmt.Sprint(j.Code, j.Message, j.Wanted, j.Attempt, lost, j.Manifest, len(j.Inputs))
	}
	for key, l := range All[messages.Latest](f, "jobs", "*.*.latest.*") {
		e.Latest[key] = l.Jobs
	}
	for key, p := range All[messages.Plan](f, "jobs", "*.*.request.*") {
		e.Plans[key] = fmt.Sprint(p.Code, p.Reasons, len(p.Jobs), p.Done, p.Finished)
	}
	for key, c := range All[messages.Commit](f, "commits", ">") {
		e.Commits[key] = fmt.Sprint(c.Attempt, c.Code)
	}
	for _, l := range All[messages.Lease](f, "leases", ">") {
		e.Leases = append(e.Leases, l.State)
	}
	slices.Sort(e.Leases)
	for _, o := range f.Outcomes() {
		line := string(o.Request) + " " + string(o.Kind)
		if o.Job != nil {
			if !o.Job.State.Final() {
				continue // may be left out: the next one says more
			}
			line += " " + o.Job.Action + " " + string(o.Job.Code)
		}
		e.Told = append(e.Told, line)
	}
	slices.Sort(e.Told)
	e.Told = slices.Compact(e.Told)
	for _, l := range f.Dead() {
		e.Dead = append(e.Dead, l.Subject+" "+l.Reason)
	}
	slices.Sort(e.Dead)
	e.Dead = slices.Compact(e.Dead)
	return e
}

// TestCrashAnywhere: whatever write a planner dies at, before or after it takes
// effect, the one after it brings everything to the same end (I2, I4).
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	want := crashes(t, troubledLife())
	for action, code := range map[string]string{
		"extract": "succeeded", "flaky": "succeeded", "wrong": "nonzero_exit", "after_wrong": "dependency_failed", "after_after": "dependency_failed",
		"vanishing": "succeeded", "broken": "internal_error", "refused": "job_error", "endless": "cancelled_by_user", "after_endless": "cancelled_by_user",
	} {
		if got := want.Jobs["r1 "+action]; !strings.HasPrefix(got, code) {
			t.Errorf("without a crash %s ended as %s, want %s", action, got, code)
		}
	}
	if len(want.Queued) != 0 || want.Unsolved != 0 || len(want.Dead) != 1 {
		t.Errorf("without a crash: queued %v, unsolved %d, dead %v", want.Queued, want.Unsolved, want.Dead)
	}
}

func troubledLife() life {
	return life{troubled, [][]messages.Request{
		{{ID: "r1", Actions: []string{"run_all"}}, {ID: "r2", Actions: []string{"nope"}}, {ID: "r1", Actions: []string{"run_all"}}},
		{{ID: "r3", Actions: []string{"flaky", "after_endless"}}},
	}}
}

// TestFlakyServer: one write in ten fails, before or after it takes effect, and
// one read in twenty, and the end is the same.
func TestFlakyServer(t *testing.T) {
	t.Parallel()
	var want end
	synctest.Test(t, func(t *testing.T) { want, _ = live(t, troubledLife(), 0, false, nil) })
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			failed := 0
			got, _ := live(t, troubledLife(), 0, false, func() (before, after bool) {
				n := r.IntN(20)
				if n < 2 {
					failed++
				}
				return n == 0, n == 1
			})
			if failed < 10 {
				t.Errorf("seed %d: only %d calls have failed", seed, failed)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("seed %d: the end is another (-want +got):\n%s", seed, diff)
			}
		})
	}
}

// TestCrashWithNothingToDo is the same for a request that makes no job.
func TestCrashWithNothingToDo(t *testing.T) {
	t.Parallel()
	want := crashes(t, life{diamond, [][]messages.Request{
		{{ID: "r1", Actions: []string{"left"}}},
		{{ID: "r2", Actions: []string{"run_all"}}},
		{{ID: "r3", Actions: []string{"run_all"}}},
	}})
	if got := want.Plans["tpp.ws.request.r3"]; !strings.HasPrefix(got, "nothing_to_do") {
		t.Errorf("last plan: got %s", got)
	}
}

// crashes lives a life once to its natural end, and then once for each of its
// writes and each way to die at it.
func crashes(t *testing.T, l life) (want end) {
	t.Helper()
	writes := 0
	synctest.Test(t, func(t *testing.T) { want, writes = live(t, l, 0, false, nil) })
	if writes < 40 {
		t.Fatalf("only %d writes were made; the test does not see them all", writes)
	}
	t.Logf("%d writes", writes)
	for n := 1; n <= writes; n++ {
		for _, after := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				got, _ := live(t, l, n, after, nil)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("crash at write %d (after it took effect: %v): the end is another (-want +got):\n%s", n, after, diff)
				}
			})
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	return want
}
