package planner

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/messages"
)

// A session is one reign of the planner. Its state belongs to the goroutine of
// loop; others send that goroutine what they have, by do.
type session struct {
	*Planner
	ctx       context.Context // of the session, for what goes on when a message has been handled
	reigned   *reign
	calls     chan call
	ended     <-chan struct{}
	group     *errgroup.Group
	planning  sync.Mutex // held from the look at the newest jobs until a plan's jobs are known
	pursued   sync.Map   // by key, plans that a goroutine works on: a channel that is closed at the end
	sources   *sources
	teller    *teller
	began     time.Time         // of the session
	explained time.Time         // when why jobs wait was last written
	sweeping  atomic.Bool       // the queues are looked through
	looking   atomic.Bool       // it is looked how full the streams are
	crowded   map[string]string // what was then; of who is looking
	garbled   sync.Map          // by leaseKey, the revisions of leases that cannot be read and were logged
	disclose  sync.Map          // by backend, what outcomes may tell: the teller reads it

	state
}

// reign runs a session until ctx ends, the leader key is lost, or a port fails
// in a way that leaves the state in doubt.
func (p *Planner) reign(ctx context.Context, r *reign) error {
	group, ctx := errgroup.WithContext(ctx)
	s := &session{
		Planner: p, ctx: ctx, reigned: r, calls: make(chan call, mostCalls), ended: ctx.Done(), group: group,
		sources: newSources(), teller: newTeller(), began: p.Now(), state: newState(p.Now()),
	}
	group.Go(func() error { return p.renew(ctx, r) })
	group.Go(func() error {
		if err := s.load(ctx); err != nil {
			return fmt.Errorf("read the registers: %w", err)
		}
		group.Go(func() error { return s.watch(ctx) })
		group.Go(func() error { return s.teller.run(ctx, s.bear) })
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
			backend, id, _, _ := messages.ParseLeaseKey(e.Key)
			s.post(ctx, jobKey{backend, id}, func(ctx context.Context) (*step, error) { return nil, s.heardLease(ctx, e) })
		})
	})
	hear("workers", func() error {
		return s.Workers.Watch(ctx, "worker.>", func(e messages.Entry[messages.Presence]) {
			s.post(ctx, noJob, func(context.Context) (*step, error) { s.heardWorker(e); return nil, nil })
		})
	})
	hear("settings", func() error {
		return s.Settings.Watch(ctx, "setting.*", func(e messages.Entry[messages.Setting]) {
			_ = s.do(ctx, func(ctx context.Context) error { return s.heardSetting(ctx, e) })
		})
	})
	return g.Wait()
}

// loop owns the state. After whatever happened it does what that made possible.
func (s *session) loop(ctx context.Context) error {
	again, hangUp := s.Line.Reconnected()
	defer hangUp()
	reconcile := time.NewTicker(s.cfg.Reconcile)
	defer reconcile.Stop()
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	s.lookAtRoom()
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
			err = s.answer(ctx, c)
		case <-alarm.C:
			err = s.ring(ctx)
		case <-reconcile.C:
			err = s.reconcile(ctx)
		case <-again:
			s.since = s.Now()
			err = s.reconcile(ctx)
		}
		if err != nil {
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
	}
	// Why a job waits can itself wait while there are jobs to move, but not for ever.
	if now := s.Now(); len(s.calls) == 0 || now.Sub(s.explained) >= explainLatest {
		s.explained = now
		for _, b := range s.backends {
			if err := s.explain(ctx, b); err != nil {
				return false, err
			}
		}
	}
	for _, b := range s.backends {
		more = more || len(b.labels) > 0
	}
	return more || len(s.doomed) > 0, nil
}

// explainLatest is how long a busy planner puts off writing why jobs wait.
const explainLatest = time.Second

// each runs f for every item, some at once.
func each[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	return eachOf(ctx, len(items), func(ctx context.Context, i int) error { return f(ctx, items[i]) })
}

// eachOf runs f for every number below n, some at once.
func eachOf(ctx context.Context, n int, f func(context.Context, int) error) error {
	if n == 1 {
		return f(ctx, 0)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}
