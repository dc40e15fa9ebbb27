package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/jetstream"
	"sluice/messages"
)

// A desk is the job server of a run: it submits, cancels, and hears outcomes.
type desk struct {
	fleet *fleet
	repos map[string]messages.Source // by workspace
	limit time.Duration              // of one request

	mu       sync.Mutex
	changed  chan struct{}
	accepted map[messages.RequestID]*messages.Outcome
	finished map[messages.RequestID]*messages.Outcome
	rejected map[messages.RequestID]*messages.Outcome
	ends     map[messages.JobID][]told // every final outcome that was told
}

// A told outcome is a final one, and the id of its message.
type told struct {
	messages.JobOutcome
	id string
}

func newDesk(f *fleet, repos map[string]messages.Source, limit time.Duration) *desk {
	type heard = map[messages.RequestID]*messages.Outcome
	return &desk{fleet: f, repos: repos, limit: limit, changed: make(chan struct{}), accepted: heard{}, finished: heard{}, rejected: heard{}, ends: map[messages.JobID][]told{}}
}

// hear follows the outcomes until ctx ends.
func (d *desk) hear(ctx context.Context) error {
	return d.fleet.conn.Follow(ctx, jetstream.Outcomes, "sluice.outcome."+backend+".>", jetstream.Start{}, func(m jetstream.Followed) bool {
		var o messages.Outcome
		if err := messages.Decode(m.Data, &o); err != nil {
			d.fleet.log.say("an outcome cannot be read: %v", err)
			return true
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		switch o.Kind {
		case messages.OutcomeAccepted:
			d.accepted[o.Request] = &o
		case messages.OutcomeFinished:
			d.finished[o.Request] = &o
		case messages.OutcomeRejected:
			d.rejected[o.Request] = &o
		case messages.OutcomeJob:
			if o.Job.State.Final() {
				d.ends[o.Job.Job] = append(d.ends[o.Job.Job], told{*o.Job, m.ID()})
			}
		}
		close(d.changed)
		d.changed = make(chan struct{})
		return true
	})
}

// until waits for a word on a request.
func (d *desk) until(ctx context.Context, id messages.RequestID, heard map[messages.RequestID]*messages.Outcome, what string) error {
	late := time.NewTimer(d.limit)
	defer late.Stop()
	for {
		d.mu.Lock()
		o, no, changed := heard[id], d.rejected[id], d.changed
		d.mu.Unlock()
		switch {
		case o != nil:
			return nil
		case no != nil:
			return fmt.Errorf("request %s was rejected: %v", id, no.Reasons)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return fmt.Errorf("request %s was not %s within %v", id, what, d.limit)
		case <-changed:
		}
	}
}

// publish insists: a job server keeps what the server has not acknowledged.
func (d *desk) publish(ctx context.Context, subject string, m messages.Message, id string) error {
	return await(ctx, d.limit, func() error { return d.fleet.conn.Publish(ctx, subject, m, id) })
}

// drive submits all waves of all studies, each at its part of a time, and
// returns when all have finished.
func (d *desk) drive(ctx context.Context, studies []*study, spread time.Duration) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hearing := make(chan error, 1)
	go func() { hearing <- d.hear(ctx) }()
	var all errgroup.Group // each to its end: what else is wrong is worth knowing
	var errs []error
	var mu sync.Mutex
	for _, s := range studies {
		all.Go(func() error {
			if err := d.study(ctx, s, spread); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
			return nil
		})
	}
	_ = all.Wait()
	stop()
	return errors.Join(append(errs, <-hearing)...)
}

func (d *desk) study(ctx context.Context, s *study, spread time.Duration) error {
	if !pause(ctx, time.Duration(s.delay*float64(spread))) {
		return ctx.Err()
	}
	for _, wave := range s.waves {
		var cancels errgroup.Group
		for _, q := range wave {
			if err := d.submit(ctx, s, q); err != nil {
				return err
			}
			for _, a := range q.actions {
				if a.kind == gate && a.ends == messages.CancelledByUser || a.racy {
					cancels.Go(func() error { return d.cancel(ctx, s, q, a) })
				}
			}
		}
		if err := cancels.Wait(); err != nil {
			return err
		}
		for _, q := range wave {
			if err := d.until(ctx, q.id, d.finished, "finished"); err != nil {
				return err
			}
		}
		d.fleet.log.say("%s: %d requests have finished", s.workspace, len(wave))
	}
	return nil
}

// submit returns when the request was accepted, so that those of a workspace
// are planned in their order.
func (d *desk) submit(ctx context.Context, s *study, q *request) error {
	r := &messages.Request{ID: q.id, Backend: backend, Workspace: s.workspace, Source: d.repos[s.workspace], CreatedBy: "chaos"}
	for _, a := range q.actions {
		r.Actions = append(r.Actions, a.name)
	}
	if err := d.publish(ctx, r.Subject(), r, "request/"+string(q.id)); err != nil {
		return fmt.Errorf("submit %s: %w", q.id, err)
	}
	return d.until(ctx, q.id, d.accepted, "accepted")
}

func (d *desk) cancel(ctx context.Context, s *study, q *request, a *action) error {
	if !pause(ctx, time.Duration(a.cancel*float64(time.Second))) {
		return ctx.Err()
	}
	c := &messages.Cancel{Request: q.id, Backend: backend, Workspace: s.workspace, Actions: []string{a.name}, By: "chaos"}
	if err := d.publish(ctx, c.Subject(), c, ""); err != nil {
		return fmt.Errorf("cancel %s of %s: %w", a.name, q.id, err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
