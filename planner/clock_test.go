package planner_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/planner"
)

// TestClockJumps: the planner's clock is set forward or back while all kinds of
// jobs are on their way, one of them with a worker that is silent: they end as
// they would have. (An attempt that is silent just then may be given up before
// the grace is over: that costs an attempt, and no more.)
func TestClockJumps(t *testing.T) {
	t.Parallel()
	var want map[string]string
	for _, jump := range []time.Duration{0, time.Hour, -time.Hour, 40 * 24 * time.Hour, -40 * 24 * time.Hour} {
		for _, at := range []time.Duration{10 * time.Millisecond, 65 * time.Second, 3 * time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				got := jumping(t, jump, at)
				if want == nil {
					want = got
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("after a jump of %v at %v jobs end otherwise (-want +got):\n%s", jump, at, diff)
				}
			})
		}
	}
}

// jumping runs the troubled project with a clock that jumps once, and returns
// how its jobs ended.
func jumping(t *testing.T, jump, at time.Duration) map[string]string {
	f := newFleet()
	f.Study(commit, troubled)
	var offset atomic.Int64
	ports := f.Connect(0, false, nil).Ports()
	ports.Now = func() time.Time { return time.Now().UTC().Add(time.Duration(offset.Load())) }
	p, err := planner.New(planner.DefaultConfig(), ports, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	w := f.Worker(t, "w1", "tpp", map[string]float64{"default": 4, "db": 1})
	wg.Go(func() { w.Serve(ctx, 8, func(a *messages.Action) { perform(ctx, t, f, w, a) }) })
	r := messages.Request{ID: "r1", Backend: "tpp", Workspace: "ws", Actions: []string{"run_all"},
		Source: messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: commit}}
	f.Send(t, r.Subject(), &r)
	<-time.After(at)
	offset.Store(int64(jump))
	<-time.After(20 * time.Minute)
	synctest.Wait()
	ends := map[string]string{}
	for _, j := range All[messages.Job](f, "jobs", "*.*.*") {
		ends[j.Action] = fmt.Sprint(j.Code, j.Attempt, len(j.Lost))
	}
	told := map[messages.JobID]time.Time{}
	for _, o := range f.Outcomes() {
		if o.Job == nil {
			continue
		}
		if o.Job.Updated.Before(told[o.Job.Job]) || !o.Job.Completed.IsZero() && o.Job.Completed.Before(o.Job.Started) {
			t.Errorf("after a jump of %v the job server is told that %s became %s at %v (began %v, ended %v), and was told of %v before",
				jump, o.Job.Action, o.Job.Code, o.Job.Updated, o.Job.Started, o.Job.Completed, told[o.Job.Job])
		}
		told[o.Job.Job] = o.Job.Updated
	}
	if left := f.Waiting(); left != 0 {
		t.Errorf("%d messages are left", left)
	}
	stop()
	wg.Wait()
	return ends
}
