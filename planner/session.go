package planner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/messages"
)

// A session is one reign of the planner. Its state belongs to the goroutine of
// loop; others send that goroutine what they have, by do.
type session struct {
	*Planner
	ctx      context.Context // of the session, for what goes on when a message has been handled
	reigned  *reign
	calls    chan call
	ended    <-chan struct{}
	group    *errgroup.Group
	planning sync.Mutex // held from the look at the newest jobs until a plan's jobs are known
	pursued  sync.Map   // by key, plans that a goroutine works on: a channel that is closed at the end
	sources  *sources
	teller   *teller

	state
}

type call struct {
	run  func(context.Context) error
	done chan error
}

// reign runs a session until ctx ends, the leader key is lost, or a port fails
// in a way that leaves the state in doubt.
func (p *Planner) reign(ctx context.Context, r *reign) error {
	group, ctx := errgroup.WithContext(ctx)
	s := &session{
		Planner: p, ctx: ctx, reigned: r, calls: make(chan call), ended: ctx.Done(), group: group,
		sources: newSources(), teller: newTeller(), state: newState(p.Now()),
	}
	group.Go(func() error { return p.renew(ctx, r) })
	group.Go(func() error {
		if err := s.load(ctx); err != nil {
			return fmt.Errorf("read the registers: %w", err)
		}
		group.Go(func() error { return s.watch(ctx) })
		group.Go(func() error { return s.teller.run(ctx) })
		group.Go(func() error { return s.receive(ctx, "requests", p.Requests, s.request) })
		group.Go(func() error { return s.receive(ctx, "events", p.Events, s.event) })
		return s.loop(ctx)
	})
	return group.Wait()
}

// receive hands over messages until the session ends, at once: what is in hand
// then is given back.
func (s *session) receive(ctx context.Context, what string, q Queue, handle func(context.Context, *messages.Delivery) error) error {
	err := q.Receive(ctx, func(own context.Context, d *messages.Delivery) error {
		own, cancel := context.WithCancel(own)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return handle(own, d)
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("receive %s: %w", what, err)
	}
	return nil
}

// watch hears of leases, workers and settings. It lasts as long as the session.
func (s *session) watch(ctx context.Context) error {
	var g errgroup.Group
	hear := func(what string, watch func() error) {
		g.Go(func() error {
			if err := watch(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("watch %s: %w", what, err)
			}
			return nil
		})
	}
	hear("leases", func() error {
		return s.Leases.Watch(ctx, ">", func(e messages.Entry[messages.Lease]) {
			_ = s.do(ctx, func(ctx context.Context) error { return s.heardLease(ctx, e) }) // a fault ends the session
		})
	})
	hear("workers", func() error {
		return s.Workers.Watch(ctx, "worker.>", func(e messages.Entry[messages.Presence]) {
			_ = s.do(ctx, func(context.Context) error { s.heardWorker(e); return nil })
		})
	})
	hear("settings", func() error {
		return s.Settings.Watch(ctx, "setting.*", func(e messages.Entry[messages.Setting]) {
			_ = s.do(ctx, func(ctx context.Context) error { return s.heardSetting(ctx, e) })
		})
	})
	return g.Wait()
}

// do has the owner of the state run a function, and returns its error. An error
// that is not about the message in hand ends the session: what was written and
// what is known may differ.
func (s *session) do(ctx context.Context, run func(context.Context) error) error {
	c := call{run: run, done: make(chan error, 1)}
	select {
	case s.calls <- c:
	case <-s.ended:
		return errSessionEnded
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.done:
		return err
	case <-s.ended:
		return errSessionEnded
	}
}

var errSessionEnded = errors.New("this planner has stopped being the active one")

// loop owns the state. After whatever happened it does what that made possible.
func (s *session) loop(ctx context.Context) error {
	again, hangUp := s.Line.Reconnected()
	defer hangUp()
	reconcile := time.NewTicker(s.cfg.Reconcile)
	defer reconcile.Stop()
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		more, err := s.work(ctx)
		if err != nil {
			return err
		}
		alarm.Reset(s.untilAlarm(more))
		select {
		case <-ctx.Done():
			return nil
		case c := <-s.calls:
			err = c.run(ctx)
			c.done <- err
		case <-alarm.C:
			err = s.ring(ctx)
		case <-reconcile.C:
			err = s.reconcile(ctx)
		case <-again:
			s.since = s.Now()
			err = s.reconcile(ctx)
		}
		var parked *messages.Parked
		if err != nil && !errors.As(err, &parked) {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// work does what has become possible, in bounded pieces, and reports whether
// there is more of it.
func (s *session) work(ctx context.Context) (more bool, err error) {
	if err := s.cascade(ctx); err != nil {
		return false, err
	}
	for _, b := range s.backends {
		if err := s.admit(ctx, b); err != nil {
			return false, err
		}
		left, err := s.explain(ctx, b)
		if err != nil {
			return false, err
		}
		more = more || left
	}
	return more || len(s.doomed) > 0, nil
}

// each runs f for every item, some at once.
func each[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	if len(items) == 1 {
		return f(ctx, items[0])
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for _, item := range items {
		group.Go(func() error { return f(ctx, item) })
	}
	return group.Wait()
}
