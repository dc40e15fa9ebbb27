package planner_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/messages"
)

// leaseTTL and leaseKeep are what workers write their leases with.
const (
	leaseTTL  = time.Minute
	leaseKeep = 7 * 24 * time.Hour
)

// Job returns the record of a job.
func (f *Fleet) Job(t testing.TB, backend, workspace string, id messages.JobID) *messages.Job {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	it := f.buckets["jobs"][messages.JobKey(backend, workspace, id)]
	if it == nil {
		t.Fatalf("there is no record of job %s", id)
	}
	e, err := entry[messages.Job, *messages.Job]("", it)
	if err != nil {
		t.Fatalf("record of job %s: %v", id, err)
	}
	return e.Value
}

// Lookup returns a value of any bucket ("jobs", "leases", "commits", "fleet"),
// or nil.
func Lookup[T any, P value[T]](f *Fleet, bucket, key string) *T {
	f.mu.Lock()
	defer f.mu.Unlock()
	it := f.buckets[bucket][key]
	if it == nil || it.data == nil {
		return nil
	}
	e, err := entry[T, P](key, it)
	if err != nil {
		return nil
	}
	return e.Value
}

// All returns every value whose key matches.
func All[T any, P value[T]](f *Fleet, bucket, filter string) map[string]*T {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]*T{}
	for key, it := range f.buckets[bucket] {
		if matches(filter, key) && it.data != nil {
			if e, err := entry[T, P](key, it); err == nil {
				out[key] = e.Value
			}
		}
	}
	return out
}

// Set writes a value, whatever stood there. A zero ttl means for ever.
func Set[T any, P value[T]](t testing.TB, f *Fleet, bucket, key string, v *T, ttl time.Duration) {
	t.Helper()
	data, err := messages.Encode(P(v))
	if err != nil {
		t.Fatalf("encode %s: %v", key, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(bucket, key, data, ttl)
}

// Setting sets a backend's setting.
func (f *Fleet) Setting(t testing.TB, backend string, s *messages.Setting) {
	t.Helper()
	Set(t, f, "fleet", messages.SettingKey(backend), s, 0)
}

// Queued returns the subjects of the actions that wait for a worker.
func (f *Fleet) Queued() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.order...)
}

// A Worker takes actions, and does with them what a test says.
type Worker struct {
	f       *Fleet
	t       testing.TB
	Name    string
	Backend string
	Pools   map[string]float64 // slots
}

// Worker announces a worker for as long as time is.
func (f *Fleet) Worker(t testing.TB, name, backend string, pools map[string]float64) *Worker {
	w := &Worker{f: f, t: t, Name: name, Backend: backend, Pools: pools}
	w.Announce(0)
	return w
}

// Announce writes the worker's presence.
func (w *Worker) Announce(ttl time.Duration) {
	w.t.Helper()
	p := &messages.Presence{Worker: w.Name, Backend: w.Backend, Pools: map[string]messages.Slots{}}
	for pool, total := range w.Pools {
		p.Pools[pool] = messages.Slots{Total: total}
	}
	Set(w.t, w.f, "fleet", messages.PresenceKey(w.Backend, w.Name), p, ttl)
}

// Take waits for an action of the worker's pools, claims its lease and takes
// it out of the queue. It returns nil when ctx ends. An action whose lease
// cannot be claimed is forgotten.
func (w *Worker) Take(ctx context.Context) *messages.Action {
	for {
		a, more := w.next()
		if a != nil {
			return a
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		}
	}
}

// next takes the first action that can be claimed, or returns a channel that is
// closed when there is another.
func (w *Worker) next() (*messages.Action, <-chan struct{}) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for _, subject := range slices.Clone(w.f.order) {
		a := w.f.actions[subject]
		if _, mine := w.Pools[a.Pool]; !mine || a.Backend != w.Backend || w.f.kept[subject] {
			continue
		}
		w.f.drop(subject)
		if w.claim(a) {
			return a, nil
		}
	}
	return nil, w.f.more
}

func (w *Worker) claim(a *messages.Action) bool {
	key := messages.LeaseKey(a.Backend, a.Job, a.Attempt)
	if w.f.buckets["leases"][key] != nil {
		return false
	}
	data, err := messages.Encode(&messages.Lease{State: messages.LeaseHeld, Owner: w.Name, Nonce: "n", Weight: a.Weight, Pool: a.Pool, At: time.Now()})
	if err != nil {
		return false
	}
	w.f.set("leases", key, data, leaseTTL)
	return true
}

// Lease writes the lease of an attempt, whatever its state is.
func (w *Worker) Lease(a *messages.Action, state messages.LeaseState) {
	w.t.Helper()
	ttl := leaseTTL
	if state != messages.LeaseHeld {
		ttl = leaseKeep
	}
	l := &messages.Lease{State: state, Owner: w.Name, Nonce: "n", Weight: a.Weight, Pool: a.Pool, At: time.Now()}
	Set(w.t, w.f, "leases", messages.LeaseKey(a.Backend, a.Job, a.Attempt), l, ttl)
}

// UntilStopped waits until the planner wants an attempt stopped, or ctx ends.
func (w *Worker) UntilStopped(ctx context.Context, a *messages.Action) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := register[messages.Lease, *messages.Lease]{&Conn{f: w.f}, "leases"}
	// The connection of a worker never crashes, so this ends only with ctx.
	_ = r.Watch(ctx, messages.LeaseKey(a.Backend, a.Job, a.Attempt), func(e messages.Entry[messages.Lease]) {
		if e.Value != nil && e.Value.State != messages.LeaseHeld {
			cancel()
		}
	})
}

// Say publishes an event of an attempt.
func (w *Worker) Say(a *messages.Action, stage messages.Stage, reason string) {
	w.t.Helper()
	e := &messages.WorkerEvent{Job: a.Job, Attempt: a.Attempt, Backend: a.Backend, Workspace: a.Workspace, Worker: w.Name, Stage: stage, Reason: reason, At: time.Now()}
	if stage == messages.StageRefused {
		e.Code = messages.JobError
	}
	w.f.Send(w.t, e.Subject(), e)
}

// Persist does what worker and persister do at the end of an attempt: the lease
// is released, the commit created if there is none, the verdict published.
func (w *Worker) Persist(a *messages.Action, r messages.Result) {
	w.t.Helper()
	w.Say(a, messages.StageFinalizing, "")
	w.Lease(a, messages.LeaseReleased)
	r.Worker = w.Name
	w.f.Commit(w.t, a, r)
}

// Commit is the persister's part.
func (f *Fleet) Commit(t testing.TB, a *messages.Action, r messages.Result) {
	t.Helper()
	c := &messages.Commit{Job: a.Job, Attempt: a.Attempt, Manifest: fmt.Sprintf("sha256:%064d", a.Attempt), Result: &r, At: time.Now()}
	data, err := messages.Encode(c)
	if err != nil {
		t.Fatalf("encode commit: %v", err)
	}
	verdict := messages.Persisted
	if _, err := f.put("commits", messages.CommitKey(a.Backend, a.Job), data, 0, 0); err != nil {
		verdict = messages.Discarded
	}
	f.Verdict(t, a, verdict)
}

// Verdict publishes a persister's event.
func (f *Fleet) Verdict(t testing.TB, a *messages.Action, v messages.Verdict) {
	t.Helper()
	e := &messages.PersisterEvent{Job: a.Job, Attempt: a.Attempt, Backend: a.Backend, Workspace: a.Workspace, Verdict: v, At: time.Now()}
	f.Send(t, e.Subject(), e)
}

// Serve takes actions on as many slots as given and runs each by do until ctx
// ends.
func (w *Worker) Serve(ctx context.Context, slots int, do func(*messages.Action)) {
	var wg sync.WaitGroup
	for range slots {
		wg.Go(func() {
			for a := w.Take(ctx); a != nil; a = w.Take(ctx) {
				do(a)
			}
		})
	}
	wg.Wait()
}
