package planner_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/planner"
)

// commit stands for a commit of a study.
const commit = "07d5f283bb66f52a49933b016cf8dc144cfc7180"

// digest stands for that of a manifest.
var digest = "sha256:" + strings.Repeat("0", 64)

// A bench is a fleet with a planner that runs in it.
type bench struct {
	*Fleet
	t    *testing.T
	cfg  planner.Config
	stop func() // the planner, and waits for its end

	broken string // a plan that cannot be created
}

// setup begins a bench in a bubble of synctest. The project is that of the
// commit.
func setup(t *testing.T, project string, change ...func(*planner.Config)) *bench {
	b := &bench{Fleet: newFleet(), t: t, cfg: planner.DefaultConfig()}
	b.Study(commit, project)
	for _, f := range change {
		f(&b.cfg)
	}
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

// start runs a planner on the fleet.
func (b *bench) start() {
	b.t.Helper()
	ports := b.Connect(0, false, nil).Ports()
	ports.Plans = brokenPlans{ports.Plans, b.broken}
	b.serve(ports)
}

// serve starts a planner with ports of its own; stop ends it.
func (b *bench) serve(ports planner.Ports) {
	b.t.Helper()
	p, err := planner.New(b.cfg, ports, zerolog.New(zerolog.NewTestWriter(b.t)).Level(logLevel))
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
		done <- nil
	}
	synctest.Wait()
}

const logLevel = zerolog.WarnLevel

// ask sends a request and waits until the planner has nothing left to do.
func (b *bench) ask(id messages.RequestID, actions ...string) {
	b.t.Helper()
	b.request(&messages.Request{ID: id, Workspace: "ws", Actions: actions})
}

func (b *bench) request(r *messages.Request) {
	b.t.Helper()
	r.Backend = "tpp"
	r.Source = messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: commit}
	b.Send(b.t, r.Subject(), r)
	synctest.Wait()
}

func (b *bench) cancel(c *messages.Cancel) {
	b.t.Helper()
	c.Backend = "tpp"
	if c.Workspace == "" {
		c.Workspace = "ws"
	}
	b.Send(b.t, c.Subject(), c)
	synctest.Wait()
}

// worker announces a worker with that many slots in both pools.
func (b *bench) worker(name string, slots float64) *Worker {
	b.t.Helper()
	w := b.Worker(b.t, name, "tpp", map[string]float64{"default": slots, "db": slots})
	synctest.Wait()
	return w
}

// set changes the backend's setting.
func (b *bench) set(s *messages.Setting) {
	b.t.Helper()
	b.Setting(b.t, "tpp", s)
	synctest.Wait()
}

// take has the worker take an action, which must be there.
func (b *bench) take(w *Worker) *messages.Action {
	b.t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithCancel(b.t.Context())
	cancel()
	a := w.Take(ctx)
	if a == nil {
		b.t.Fatalf("there is no action for worker %s", w.Name)
	}
	synctest.Wait()
	return a
}

// job returns the record of an action's job in the workspace ws.
func (b *bench) job(request messages.RequestID, action string) *messages.Job {
	b.t.Helper()
	synctest.Wait()
	return b.Job(b.t, "tpp", "ws", messages.NewJobID(request, action))
}

// wantCode checks the code of a job.
func (b *bench) wantCode(request messages.RequestID, action string, want messages.Code) {
	b.t.Helper()
	if got := b.job(request, action); got.Code != want {
		b.t.Errorf("job %s of %s: got %s (%s), want %s", action, request, got.Code, got.Message, want)
	}
}

// wantMessage checks a part of what a record says to people.
func (b *bench) wantMessage(request messages.RequestID, action, want string) {
	b.t.Helper()
	if got := b.job(request, action).Message; !strings.Contains(got, want) {
		b.t.Errorf("message of %s: got %q, want %q in it", action, got, want)
	}
}

// sleep lets time go by.
func (b *bench) sleep(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// kinds lists the outcomes of a request, those of jobs with action and code.
func (b *bench) kinds(request messages.RequestID) []string {
	synctest.Wait()
	var out []string
	for _, o := range b.Outcomes() {
		switch {
		case o.Request != request:
		case o.Job != nil:
			out = append(out, o.Job.Action+" "+string(o.Job.Code))
		default:
			out = append(out, string(o.Kind))
		}
	}
	return out
}

// last returns the newest outcome of a kind.
func (b *bench) last(request messages.RequestID, kind messages.OutcomeKind) *messages.Outcome {
	b.t.Helper()
	synctest.Wait()
	for _, o := range slices.Backward(b.Outcomes()) {
		if o.Request == request && o.Kind == kind {
			return o
		}
	}
	b.t.Fatalf("there is no outcome %s of request %s", kind, request)
	return nil
}

var ok = messages.Result{Files: 1}

// run has a worker run everything there is, successfully, until nothing is left.
func (b *bench) run(w *Worker) (order []string) {
	ctx, cancel := context.WithCancel(b.t.Context())
	cancel()
	for {
		synctest.Wait()
		a := w.Take(ctx)
		if a == nil {
			return order
		}
		order = append(order, a.Name)
		w.Persist(a, ok)
	}
}

func TestOneStudy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		b.ask("r1", "run_all")
		b.wantCode("r1", "gen", messages.WaitingOnDBWorkers)
		b.wantMessage("r1", "gen", "there is no live worker in pool db of backend tpp")
		b.wantCode("r1", "end", messages.WaitingOnDependencies)
		b.wantMessage("r1", "end", "Waiting on dependencies: left, right")

		w := b.worker("w1", 1)
		a := b.take(w)
		if a.Name != "gen" || a.Pool != "db" || !a.Database || a.Dataset != "default" || a.Attempt != 1 {
			t.Errorf("first action: got %+v", a)
		}
		b.wantCode("r1", "gen", messages.Initiated)
		for _, stage := range []messages.Stage{messages.StagePreparing, messages.StageExecuting, messages.StagePrepared, messages.StageExecuted} {
			w.Say(a, stage, "")
		}
		b.wantCode("r1", "gen", messages.Executed) // prepared came late
		w.Persist(a, ok)
		b.wantCode("r1", "gen", messages.Success)
		if got := b.run(w); !slices.Contains(got, "end") {
			t.Errorf("got %v, want all of them", got)
		}
		end := b.job("r1", "end")
		if end.Code != messages.Success || end.Manifest == "" || end.Result == nil {
			t.Errorf("end: got %+v", end)
		}
		if len(end.Inputs) != 2 || end.Inputs[0].Action != "left" || end.Inputs[0].Manifest == "" || end.Inputs[0].Created.IsZero() {
			t.Errorf("inputs of end: got %+v", end.Inputs)
		}
		kinds := b.kinds("r1")
		if kinds[0] != "accepted" || kinds[len(kinds)-1] != "finished" {
			t.Errorf("outcomes: got %q, want accepted first and finished last", kinds)
		}
		if n := len(b.last("r1", messages.OutcomeFinished).Jobs); n != 5 {
			t.Errorf("finished tells of %d jobs, want 5", n)
		}

		// The same again makes nothing; another request sees what has succeeded.
		before := len(b.Started())
		b.ask("r1", "run_all")
		b.ask("r2", "run_all")
		if len(b.Started()) != before {
			t.Errorf("%d more actions were started", len(b.Started())-before)
		}
		finished := b.last("r2", messages.OutcomeFinished)
		if finished.Code != messages.NothingToDo || !slices.Equal(finished.Reasons, []string{"All actions have already completed successfully"}) {
			t.Errorf("second request: got %+v", finished)
		}
		if jobs := b.last("r2", messages.OutcomeAccepted).Jobs; len(jobs) != 5 || !jobs[0].Reused || jobs[0].Why != messages.WhySucceeded || jobs[0].State != messages.Succeeded {
			t.Errorf("second request's jobs: got %+v", jobs)
		}
		if b.Waiting() != 0 || len(b.Dead()) != 0 {
			t.Errorf("%d messages are not settled, %v are dead", b.Waiting(), b.Dead())
		}
	})
}

func TestRejections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond, func(c *planner.Config) {
			c.Backends = []string{"tpp", "emis"}
			c.PoolLimits = map[string]float64{"default": 2}
			c.Weights = []planner.Weight{{Workspace: "heavy", Pattern: "al.*", Slots: 3}}
		})
		no := false
		b.Study(strings.Repeat("b", 40), "version: 6\nactions: {}\n")
		good := messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: commit}
		with := func(change func(*messages.Request)) *messages.Request {
			r := &messages.Request{Backend: "tpp", Workspace: "ws", Source: good, Actions: []string{"alone"}}
			change(r)
			return r
		}
		for name, c := range map[string]struct {
			req  *messages.Request
			code messages.Code
			want []string
		}{
			"unknown action": {with(func(r *messages.Request) { r.Actions = []string{"nope", "nor"} }), messages.InvalidRequest,
				[]string{"Action 'nope' not found in project.yaml", "Action 'nor' not found in project.yaml"}},
			"database and backend": {with(func(r *messages.Request) { r.Backend, r.Database = "ted", "full" }), messages.InvalidRequest,
				[]string{"Invalid backend 'ted', allowed are: tpp, emis", "Invalid database name 'full', allowed are: default"}},
			"taken name": {with(func(r *messages.Request) { r.Workspace = "logs" }), messages.InvalidRequest,
				[]string{`workspace name "logs" is taken: the highly sensitive tier keeps the records of jobs there`}},
			"other name": {with(func(r *messages.Request) { r.Workspace = "archives" }), messages.InvalidRequest,
				[]string{`workspace name "archives" is taken: the highly sensitive tier keeps archived workspaces there`}},
			"repository": {with(func(r *messages.Request) { r.Repo = "/etc" }), messages.InvalidRequest, []string{"Repository URL /etc does not start with https://github.com"}},
			"commit":     {with(func(r *messages.Request) { r.Commit = strings.Repeat("c", 40) }), messages.InvalidRequest, []string{"Could not find commit on branch 'main': " + strings.Repeat("c", 40)}},
			"folder":     {with(func(r *messages.Request) { r.Commit = messages.WorkingFolder }), messages.InvalidRequest, nil},
			"project":    {with(func(r *messages.Request) { r.Commit = strings.Repeat("b", 40) }), messages.InvalidProject, nil},
			"codelists":  {with(func(r *messages.Request) { r.CodelistsOK, r.Actions = &no, []string{"gen"} }), messages.StaleCodelists, []string{"Codelists are out of date (required by action gen)"}},
			"too large": {with(func(r *messages.Request) {
				r.Actions = slices.Repeat([]string{strings.Repeat("a", messages.MaxActionLength)}, 1100)
			}), messages.InvalidRequest,
				[]string{"the request is 267489 bytes long; the limit is 262144"}},
			"too heavy": {with(func(r *messages.Request) { r.Workspace = "heavy" }), messages.JobError,
				[]string{"Action 'alone' takes 3 slots, and pool default of backend tpp is limited to 2: it could never start; ask for another weight or another limit"}},
		} {
			c.req.ID = messages.RequestID("r-" + strings.ReplaceAll(name, " ", "-"))
			b.Send(t, c.req.Subject(), c.req)
			synctest.Wait()
			o := b.last(c.req.ID, messages.OutcomeRejected)
			if o.Code != c.code || c.want != nil && !slices.Equal(o.Reasons, c.want) || len(o.Reasons) == 0 {
				t.Errorf("%s: got %s %q, want %s %q", name, o.Code, o.Reasons, c.code, c.want)
			}
		}
		if len(b.Started()) != 0 || b.Waiting() != 0 || len(b.Dead()) != 0 {
			t.Errorf("started %d, waiting %d, dead %v", len(b.Started()), b.Waiting(), b.Dead())
		}
	})
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		for _, c := range []struct{ subject, data string }{
			{"sluice.request.tpp.ws", "not JSON"},
			{"sluice.request.tpp.ws", ""},
			{"sluice.request.tpp.ws", `{"schema":1,"id":"half","actions":3}`},
			{"sluice.request.tpp.ws", `{"schema":9,"id":"newer"}`},
			{"sluice.request.tpp.ws", `{"schema":1,"id":"a b*>"}`},
			{"sluice.cancel.tpp.ws", `{"schema":1,"request":"never","backend":"tpp","workspace":"ws"}`},
			{"sluice.cancel.tpp.ws", `{"schema":1,"request":"r","backend":"tpp","workspace":"other"}`},
			{"sluice.cancel.tpp.ws", `[]`},
			{"sluice.event.worker.tpp.ws.x.1.claimed", `{}`},
			{"sluice.event.persister.tpp.ws.x.persisted", `{"schema":1}`},
			{"sluice.files.tpp.ws.x", `{}`},
		} {
			b.SendRaw(c.subject, []byte(c.data))
		}
		synctest.Wait()
		if b.Waiting() != 0 {
			t.Errorf("%d messages are not settled", b.Waiting())
		}
		if len(b.Dead()) != 11 {
			t.Errorf("%d dead letters, want 11: %v", len(b.Dead()), b.Dead())
		}
		for _, id := range []messages.RequestID{"half", "newer"} {
			if o := b.last(id, messages.OutcomeRejected); o.Code != messages.InvalidRequest || len(o.Reasons) == 0 {
				t.Errorf("%s: got %+v", id, o)
			}
		}

		// Valid JSON that is no valid request is answered, not parked: all reasons at once.
		b.SendRaw("sluice.request.tpp.ws", []byte(`{"schema":1,"id":"bad","backend":"tpp","workspace":"a b","actions":[]}`))
		o := b.last("bad", messages.OutcomeRejected)
		if len(o.Reasons) < 4 || !slices.Contains(o.Reasons, "At least one action must be supplied") || len(b.Dead()) != 11 {
			t.Errorf("got %q", o.Reasons)
		}
		b.ask("r1", "alone")
		b.wantCode("r1", "alone", messages.WaitingOnWorkers)
	})
}

func TestSameIDElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		b.ask("r1", "alone")
		b.request(&messages.Request{ID: "r1", Workspace: "other", Actions: []string{"alone"}})
		if o := b.last("r1", messages.OutcomeRejected); o.Workspace != "other" || !strings.HasPrefix(o.Reasons[0], "Inconsistent request data") {
			t.Errorf("another workspace: got %+v", o)
		}
		r := &messages.Request{ID: "r1", Backend: "tpp", Workspace: "ws", Actions: []string{"alone"}, Source: messages.Source{Repo: "https://github.com/opensafely/study", Commit: strings.Repeat("a", 40)}}
		b.Send(t, r.Subject(), r)
		if o := b.last("r1", messages.OutcomeRejected); o.Workspace != "ws" || !strings.Contains(o.Reasons[0], "commit") {
			t.Errorf("another commit: got %+v", o)
		}
		if n := len(All[messages.Job](b.Fleet, "jobs", "*.*.*")); n != 1 {
			t.Errorf("there are %d jobs, want 1", n)
		}
	})
}

// TestFairness: a thousand actions of one workspace, one of another, one worker
// with two slots: the other one is among the first ten.
func TestFairness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var many strings.Builder
		many.WriteString("version: '5.0'\nactions:\n")
		for i := range 1000 {
			fmt.Fprintf(&many, "  a%d: {run: 'python:v2 a.py %d', outputs: {highly_sensitive: {d: 'o%d.csv'}}}\n", i, i, i)
		}
		b := setup(t, many.String())
		b.request(&messages.Request{ID: "many", Workspace: "many", Actions: []string{"run_all"}})
		w := b.worker("w1", 2)
		b.ask("one", "a7")
		var order []string
		for range 1001 {
			a := b.take(w)
			order = append(order, a.Workspace)
			w.Persist(a, ok)
		}
		if i := slices.Index(order, "ws"); i < 0 || i >= 10 {
			t.Errorf("the other workspace's action was started as number %d", i+1)
		}
		b.wantCode("one", "a7", messages.Success)
		if kinds := b.kinds("many"); kinds[len(kinds)-1] != "finished" {
			t.Errorf("last outcome of the large request: %s", kinds[len(kinds)-1])
		}
		var codes []messages.Code
		for _, j := range All[messages.Job](b.Fleet, "jobs", "*.*.*") {
			codes = append(codes, j.Code)
		}
		slices.Sort(codes)
		if diff := cmp.Diff([]messages.Code{messages.Success}, slices.Compact(codes)); diff != "" {
			t.Errorf("codes (-want +got):\n%s", diff)
		}
	})
}
