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

	"sluice/internal/fault"
	"sluice/messages"
)

// errLeft is the cause of leaving attempts in hand to the next worker of this
// name.
var errLeft = errors.New("the worker leaves; its containers stay")

// A Worker takes actions of one backend and runs them.
type Worker struct {
	Ports
	cfg     Config
	journal *journal
	rooms   map[string]*room
	nonce   string // of this process's claims
	since   time.Time
	gate    *gate
	changed chan struct{}  // presence must be announced
	slots   chan struct{}  // it must be announced soon
	missed  chan struct{}  // verdicts may have been missed
	hands   sync.WaitGroup // attempts on their way
	tidy    sync.WaitGroup // cleaning behind attempts that were judged
	tidying chan struct{}  // holds as many as do that at a time

	mu       sync.Mutex
	attempts map[Attempt]*attempt
	claiming map[Attempt]bool // on their way to be attempts
	strays   time.Time        // until then there may be containers of no attempt
	swept    time.Time        // when they were last looked for
	fewer    chan struct{}    // told when there is one less
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
		Ports: ports, cfg: cfg, journal: j, rooms: map[string]*room{}, nonce: newNonce(), since: time.Now().UTC(),
		gate: newGate(), changed: make(chan struct{}, 1), slots: make(chan struct{}, 1), missed: make(chan struct{}, 1), tidying: make(chan struct{}, mostTidying), attempts: map[Attempt]*attempt{}, claiming: map[Attempt]bool{}, fewer: make(chan struct{}, 1),
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
func (w *Worker) Run(ctx context.Context, leave <-chan struct{}) (err error) {
	unlock, err := w.journal.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	entries, err := w.journal.read(func(path string, err error) {
		w.Log.Warn().Err(err).Str("path", path).Msg("journal entry was broken by the machine's restart; its attempt is run again")
	})
	if err != nil {
		return err
	}
	life, left := context.WithCancelCause(context.WithoutCancel(ctx))
	defer left(nil)
	old := w.adopt(life, entries)

	services, stopServices := context.WithCancel(life)
	defer stopServices()
	serving, services := errgroup.WithContext(services)
	serving.Go(func() error { return w.Verdicts.Follow(services, w.verdict, w.missVerdicts) })
	serving.Go(func() error { w.remind(services); return nil })
	serving.Go(func() error { return w.Controls.Listen(services, w.control) })
	serving.Go(func() error { w.announce(services); return nil })
	serving.Go(func() error { w.watchHealth(services); return nil })

	// The taking ends with ctx, or when a service fails.
	taking, stopTaking := context.WithCancel(ctx)
	defer stopTaking()
	defer context.AfterFunc(services, stopTaking)()
	err = w.takeAll(taking, life, old)
	w.gate.set(func(g *gate) { g.draining = true })
	w.touch()
	var idle sync.WaitGroup
	idle.Go(w.Runtime.Drain)
	w.drain(left, leave)
	idle.Wait()
	stopServices()
	err = errors.Join(err, serving.Wait())
	w.tidy.Wait() // nobody hears a verdict any more
	return err
}

// mostTidying is how many attempts are cleaned up behind at a time: verdicts are
// heard meanwhile, whatever an attempt has left.
const mostTidying = 4

// takeAll goes on with what an earlier process left, then takes actions of all
// pools until ctx ends.
func (w *Worker) takeAll(ctx, life context.Context, old []*attempt) error {
	if err := w.resume(ctx, life, old); err != nil || ctx.Err() != nil {
		return err
	}
	w.checkHealth(ctx)
	w.Log.Info().Str("backend", w.cfg.Backend).Str("worker", w.cfg.Name).Int("resumed", len(old)).Msg("worker takes actions")
	pools, ctx := errgroup.WithContext(ctx)
	for pool := range w.rooms {
		pools.Go(func() error { return w.take(ctx, life, pool) })
	}
	return pools.Wait()
}

// verdictWait is how long a worker that stops waits for the verdicts on what it
// handed over: what is not heard by then is heard at the next start.
const verdictWait = 3 * time.Second

// drain waits for the attempts in hand, or leaves them.
func (w *Worker) drain(left context.CancelCauseFunc, leave <-chan struct{}) {
	done := make(chan struct{})
	go func() { w.hands.Wait(); close(done) }()
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
		w.awaitVerdicts(leave)
		return
	case <-leave:
	case <-late:
	}
	w.Log.Warn().Int("attempts", w.inHand()).Msg("worker leaves; containers go on, for the next worker of this name")
	left(errLeft)
	<-done
}

func (w *Worker) awaitVerdicts(leave <-chan struct{}) {
	late := time.NewTimer(verdictWait)
	defer late.Stop()
	for w.inHand() > 0 {
		select {
		case <-w.fewer:
		case <-leave:
			return
		case <-late.C:
			return
		}
	}
}

func (w *Worker) inHand() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.attempts)
}

func (w *Worker) add(a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts[a.id] = a
}

func (w *Worker) has(id Attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.attempts[id] != nil
}

func (w *Worker) drop(a *attempt) {
	w.mu.Lock()
	delete(w.attempts, a.id)
	w.mu.Unlock()
	select {
	case w.fewer <- struct{}{}:
	default:
	}
}

// finish ends what an attempt holds in this process. One that handed its files
// over stays known until its verdict is heard.
func (w *Worker) finish(a *attempt, err error) {
	if err != nil {
		a.log.Error().Err(err).Msg("attempt could not be ended in order")
	}
	a.kept()
	a.free()
	a.reporter.close()
	a.stop(nil)
	w.mu.Lock()
	a.done = true
	judged, waits := a.verdict != nil, a.listed && !a.left()
	a.askAt = time.Now().Add(askAfter)
	w.mu.Unlock()
	switch {
	case judged:
		w.conclude(a)
	case !waits:
		w.drop(a)
	}
}

// control hears the fast path of stops and drains.
func (w *Worker) control(c *messages.Control) {
	switch c.Kind {
	case messages.ControlDrain, messages.ControlOpen:
		w.gate.set(func(g *gate) { g.draining = c.Kind == messages.ControlDrain })
		w.touch()
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

// verdict hears what the persister made of an attempt.
func (w *Worker) verdict(_ context.Context, e *messages.PersisterEvent) {
	w.mu.Lock()
	a := w.attempts[Attempt{Job: e.Job, Number: e.Attempt, Backend: e.Backend}]
	if a == nil || !a.listed || a.verdict != nil {
		w.mu.Unlock()
		return
	}
	a.verdict = e
	close(a.heard)
	done := a.done
	w.mu.Unlock()
	if done {
		w.tidy.Go(func() {
			select {
			case w.tidying <- struct{}{}:
				defer func() { <-w.tidying }()
				w.conclude(a)
			case <-a.life.Done(): // the next process hears the verdict again
				w.drop(a)
			}
		})
	}
}

// conclude cleans up behind an attempt whose verdict was heard and whose
// goroutine has ended.
func (w *Worker) conclude(a *attempt) {
	defer w.drop(a)
	e := a.verdict
	log := a.log.With().Str("verdict", string(e.Verdict)).Logger()
	if e.Verdict == messages.Discarded && e.Winner > 0 && e.Winner != e.Attempt {
		log.Warn().Int("committed", e.Winner).Msg("another attempt's files are the job's; these were dropped")
	}
	fault.At("worker.after-verdict")
	if err := w.clear(a.id); err != nil {
		log.Error().Err(err).Msg("staging could not be removed; it is tried again at the next start")
		return
	}
	log.Info().Msg("attempt is done with")
}

// clear removes all that an attempt has on this machine. The journal entry
// goes last: what it speaks of must not outlive it.
func (w *Worker) clear(id Attempt) error {
	if err := w.Staging.Remove(id.Job, id.Number); err != nil {
		return err
	}
	fault.At("worker.after-staging-removed")
	return w.journal.remove(id)
}

// leave gives an attempt up, and keeps its staging for as long as is set.
func (w *Worker) leave(id Attempt) error {
	if err := w.Staging.Leave(id.Job, id.Number); err != nil {
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
	name = name[:min(len(name), messages.MaxNameLength)]
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, name)
}
