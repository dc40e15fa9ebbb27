package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sluice/jetstream"
	"sluice/messages"
)

// An activity is what is going on at a backend: the jobs that have not ended,
// and the leases by which workers still have containers, of whichever jobs.
type activity struct {
	keep   func(*messages.Job) bool
	jobs   map[messages.JobID]*messages.Job
	leases map[string]messages.JobID // by key, of those that count
}

// readActivity reads it from the registers. A nil keep is for all jobs.
func readActivity(ctx context.Context, c *jetstream.Conn, backend string, keep func(*messages.Job) bool) (*activity, error) {
	if keep == nil {
		keep = func(*messages.Job) bool { return true }
	}
	act := &activity{keep: keep, jobs: map[messages.JobID]*messages.Job{}, leases: map[string]messages.JobID{}}
	err := c.JobsRegister().All(ctx, messages.Token(backend)+".*.*", func(e messages.Entry[messages.Job]) { act.job(e.Value) })
	if err != nil {
		return nil, err
	}
	err = c.LeasesRegister().All(ctx, messages.Token(backend)+".>", act.lease)
	return act, err
}

func (act *activity) job(j *messages.Job) {
	if j == nil || !act.keep(j) {
		return
	}
	act.jobs[j.ID] = j // ended ones, too: a container may outlive its job
}

func (act *activity) lease(e messages.Entry[messages.Lease]) {
	_, job, _, err := messages.ParseLeaseKey(e.Key)
	switch {
	case err != nil:
	case e.Value != nil && e.Value.Counts():
		act.leases[e.Key] = job
	default:
		delete(act.leases, e.Key)
	}
}

// running lists the jobs that run, or whose containers are still there.
func (act *activity) running() (list []*messages.Job) {
	held := map[messages.JobID]bool{}
	for _, job := range act.leases {
		held[job] = true
	}
	for id, j := range act.jobs {
		if j.State == messages.Running || held[id] {
			list = append(list, j)
		}
	}
	slices.SortFunc(list, func(x, y *messages.Job) int { return x.Created.Compare(y.Created) })
	return list
}

func (act *activity) waiting() (n int) {
	for _, j := range act.jobs {
		if j.State == messages.Pending {
			n++
		}
	}
	return n
}

// awaitIdle waits until no job that keep admits runs at a backend, and no
// worker has a container of one.
func awaitIdle(ctx context.Context, c *jetstream.Conn, backend string, keep func(*messages.Job) bool) (*activity, error) {
	act, err := readActivity(ctx, c, backend, keep)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	changes, ended := make(chan func()), make(chan error, 2)
	change := func(f func()) {
		select {
		case changes <- f:
		case <-watch.Done():
		}
	}
	go func() {
		ended <- c.JobsRegister().Watch(watch, messages.Token(backend)+".*.*", func(e messages.Entry[messages.Job]) { change(func() { act.job(e.Value) }) })
	}()
	go func() {
		ended <- c.LeasesRegister().Watch(watch, messages.Token(backend)+".>", func(e messages.Entry[messages.Lease]) { change(func() { act.lease(e) }) })
	}()
	for {
		running := act.running()
		if len(running) == 0 {
			return act, nil
		}
		select {
		case f := <-changes:
			f()
		case err := <-ended:
			return act, errors.Join(err, context.Cause(ctx))
		case <-ctx.Done():
			err := context.Cause(ctx)
			var coded *exitError
			if errors.As(err, &coded) {
				err = exit(coded.code, fmt.Errorf("%d jobs still run at %s, the oldest %s (%s); it goes on: see `sluice ps`", len(running), backend, running[0].ID, running[0].Code))
			}
			return act, err
		}
	}
}
