package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/messages"
)

// errLeft is the cause of leaving attempts in hand to the next worker of this
// name.
var errLeft = errors.New("the worker leaves; its containers stay")

// A Worker takes actions of one backend and runs them.
type Worker struct {
	Ports
	cfg     Config
	journal journal
	rooms   map[string]*room
	since   time.Time

	mu       sync.Mutex
	attempts map[Attempt]*attempt
	draining bool
	opened   chan struct{} // closed when draining ends
	unfit    string        // why the worker cannot work
	changed  chan struct{} // presence must be announced
}

// New returns a worker; nothing runs yet.
func New(cfg Config, ports Ports) (*Worker, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	j, err := openJournal(cfg.State)
	if err != nil {
		return nil, err
	}
	w := &Worker{
		Ports: ports, cfg: cfg, journal: j, rooms: map[string]*room{}, since: time.Now().UTC(),
		attempts: map[Attempt]*attempt{}, changed: make(chan struct{}, 1), opened: make(chan struct{}),
	}
	for pool, slots := range cfg.Pools {
		if ports.Inboxes[pool] == nil {
			return nil, fmt.Errorf("pool %s has no inbox", pool)
		}
		w.rooms[pool] = newRoom(slots)
	}
	return w, nil
}

// Run works until ctx ends; then it takes nothing new and waits for what is in
// hand, as long as Config.Drain says or until leave is closed. What is still in
// hand then goes on without it, for the next worker of this name.
func (w *Worker) Run(ctx context.Context, leave <-chan struct{}) error {
	life, left := context.WithCancelCause(context.WithoutCancel(ctx))
	defer left(nil)

	entries, err := w.journal.read()
	if err != nil {
		return err
	}
	var hands sync.WaitGroup // attempts
	since, err := w.resume(life, entries, &hands)
	if err != nil {
		return err
	}

	services, stopServices := context.WithCancel(life)
	defer stopServices()
	var serving errgroup.Group
	serving.Go(func() error { return w.Verdicts.Follow(services, since, w.verdict) })
	serving.Go(func() error { return w.Controls.Listen(services, w.control) })
	serving.Go(func() error { w.announce(services); return nil })

	w.Log.Info().Str("backend", w.cfg.Backend).Str("worker", w.cfg.Name).Int("resumed", len(entries)).Msg("worker takes actions")
	taking, ctx := errgroup.WithContext(ctx)
	for pool := range w.rooms {
		taking.Go(func() error { return w.take(ctx, life, pool, &hands) })
	}
	err = taking.Wait()
	w.setDraining(true)
	w.drain(&hands, left, leave)
	stopServices()
	return errors.Join(err, serving.Wait())
}

// drain waits for the attempts in hand, or leaves them.
func (w *Worker) drain(hands *sync.WaitGroup, left context.CancelCauseFunc, leave <-chan struct{}) {
	done := make(chan struct{})
	go func() { hands.Wait(); close(done) }()
	var late <-chan time.Time
	if w.cfg.Drain > 0 {
		timer := time.NewTimer(w.cfg.Drain)
		defer timer.Stop()
		late = timer.C
	}
	if n := w.inHand(); n > 0 {
		w.Log.Info().Int("attempts", n).Msg("worker takes nothing new and waits for what is in hand")
	}
	select {
	case <-done:
		return
	case <-leave:
	case <-late:
	}
	w.Log.Warn().Int("attempts", w.inHand()).Msg("worker leaves; containers go on, for the next worker of this name")
	left(errLeft)
	<-done
}

func (w *Worker) inHand() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.attempts)
}

// take asks for actions of one pool while there is room for them.
func (w *Worker) take(ctx, life context.Context, pool string, hands *sync.WaitGroup) error {
	r := w.rooms[pool]
	for {
		if r.free.Acquire(ctx, r.pull()) != nil {
			return nil // told to stop
		}
		if w.waitUntilFit(ctx) != nil {
			r.free.Release(r.pull())
			return nil
		}
		d, err := w.Inboxes[pool].Next(ctx)
		if err != nil {
			r.free.Release(r.pull())
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("ask for an action of pool %s: %w", pool, err)
		}
		a := w.accept(life, d, pool)
		if a == nil {
			r.free.Release(r.pull())
			continue
		}
		hands.Add(1)
		if err := r.fit(a.ctx, &a.entry.Action); err != nil {
			go func() { defer hands.Done(); w.finish(a, w.endWithout(a, err), 0) }()
			continue
		}
		weight := r.weight(&a.entry.Action)
		w.occupy(pool, weight)
		go func() { defer hands.Done(); w.finish(a, w.perform(a), weight) }()
	}
}

// accept claims the lease of an action's attempt, writes the journal, and
// settles the message: from then on the lease is all that counts. It returns
// nil if the attempt is not ours.
func (w *Worker) accept(life context.Context, d *messages.Delivery, pool string) *attempt {
	ctx, cancel := context.WithTimeout(life, w.cfg.LeaseTTL)
	defer cancel()
	a, err := w.tryAccept(ctx, life, d, pool)
	if errors.Is(err, errTaken) {
		w.Log.Debug().Str("subject", d.Subject).Msg("action was taken before")
		err = nil
	}
	if settleErr := d.Settle(ctx, err); settleErr != nil {
		// It comes again, meets the lease, and is forgotten.
		w.Log.Debug().Err(settleErr).Str("subject", d.Subject).Msg("action could not be acknowledged")
	}
	if err != nil {
		w.Log.Warn().Err(err).Str("subject", d.Subject).Msg("action was not taken")
	}
	return a
}

func (w *Worker) tryAccept(ctx, life context.Context, d *messages.Delivery, pool string) (*attempt, error) {
	action := messages.Action{}
	if err := messages.Decode(d.Data, &action); err != nil {
		return nil, messages.Park("not an action: %w", err)
	}
	if action.Subject() != d.Subject || action.Backend != w.cfg.Backend || action.Pool != pool {
		return nil, messages.Park("the action is for %s, it came on %s to a worker of %s", action.Subject(), d.Subject, w.cfg.Backend)
	}
	a := w.newAttempt(life, &entry{Phase: phaseClaimed, Action: action, Nonce: newNonce(), Claimed: time.Now().UTC()})
	hold, err := w.claim(ctx, &action, a.entry.Nonce)
	if err != nil {
		a.end(nil)
		return nil, err
	}
	a.hold = hold
	if err := w.journal.write(a.entry); err != nil {
		a.end(nil)
		return nil, errors.Join(err, hold.release(ctx)) // the planner sees the lease released and no files: another attempt
	}
	w.add(a)
	return a, nil
}

func (w *Worker) add(a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts[a.entry.attempt()] = a
}

// finish ends what an attempt held in this process.
func (w *Worker) finish(a *attempt, err error, weight int64) {
	if weight > 0 {
		w.vacate(a, weight)
	}
	a.end(nil)
	if errors.Is(err, errLeft) {
		err = nil
	}
	if err != nil {
		a.log.Error().Err(err).Msg("attempt could not be ended in order")
	}
	w.mu.Lock()
	if a.entry.Phase != phaseListed || a.closed {
		delete(w.attempts, a.entry.attempt())
	}
	w.mu.Unlock()
	w.touch()
}

// control hears the fast path of stops and drains.
func (w *Worker) control(c *messages.Control) {
	switch c.Kind {
	case messages.ControlDrain:
		w.setDraining(true)
	case messages.ControlOpen:
		w.setDraining(false)
	case messages.ControlStop:
		w.mu.Lock()
		defer w.mu.Unlock()
		for id, a := range w.attempts {
			if id.Job == c.Job {
				a.lookNow()
			}
		}
	}
}

// verdict hears what the persister made of an attempt, and cleans up behind it.
func (w *Worker) verdict(_ context.Context, e *messages.PersisterEvent) {
	id := Attempt{Job: e.Job, Number: e.Attempt, Backend: e.Backend}
	w.mu.Lock()
	a := w.attempts[id]
	w.mu.Unlock()
	if a == nil || !a.judged(e) {
		return
	}
	log := a.log.With().Str("verdict", string(e.Verdict)).Logger()
	if e.Verdict == messages.Discarded && e.Winner > 0 && e.Winner != e.Attempt {
		log.Warn().Int("committed", e.Winner).Msg("another attempt's files are the job's; these were dropped")
	}
	if err := w.clear(a); err != nil {
		log.Error().Err(err).Msg("staging could not be removed; it is tried again at the next start")
		return
	}
	w.mu.Lock()
	a.closed = true
	delete(w.attempts, id)
	w.mu.Unlock()
	log.Info().Msg("attempt is done with")
}

// clear removes all that an attempt has on this machine. The journal entry
// goes last: what it speaks of must not outlive it.
func (w *Worker) clear(a *attempt) error {
	id := a.entry.attempt()
	if err := w.Staging.Remove(id.Job, id.Number); err != nil {
		return err
	}
	return w.journal.remove(id)
}

// HostName returns this machine's name as part of a worker's.
func HostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "worker"
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, name)
}
