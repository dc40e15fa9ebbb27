package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sluice/internal/fault"
	"sluice/messages"
	"sluice/worker/staging"
)

// An attempt is one in hand. Its context ends with a *stopped cause when it is
// to be stopped, and with errLeft when this process leaves it.
type attempt struct {
	w        *Worker
	id       Attempt
	hold     *hold
	reporter *reporter
	log      zerolog.Logger

	life   context.Context // of this process's interest in the attempt
	ctx    context.Context // ends earlier when the attempt is stopped
	stop   context.CancelCauseFunc
	look   chan struct{} // the lease must be looked at now
	fitted chan struct{} // closed when it has its slots, or will never have them
	kept   func()        // ends the renewing of its lease

	// Of the goroutine that takes the attempt along its steps.
	entry  *entry
	space  *staging.Workspace
	spec   Spec
	box    Container
	handed bool // its files are published

	metrics *messages.Metrics // by meter, until the container has ended

	// Guarded by Worker.mu.
	slots   int64 // that it takes up now
	listed  bool  // its journal entry waits for a verdict
	done    bool  // its goroutine has ended
	verdict *messages.PersisterEvent
	heard   chan struct{} // closed when there is a verdict
	asked   int           // how often the verdict was asked for again
	askAt   time.Time     // when it is asked for next
}

// newAttempt takes an attempt in hand: from now on its lease is renewed.
func (w *Worker) newAttempt(life context.Context, e *entry, h *hold, fitted chan struct{}) *attempt {
	a := &attempt{w: w, id: e.attempt(), hold: h, entry: e, life: life, look: make(chan struct{}, 1), fitted: fitted, listed: e.Phase == phaseListed, heard: make(chan struct{})}
	a.ctx, a.stop = context.WithCancelCause(life)
	a.reporter = newReporter(life, w.Outbox, w.cfg.StageWait, a.heard)
	a.log = w.Log.With().Str("job", string(a.id.Job)).Int("attempt", a.id.Number).Str("workspace", e.Action.Workspace).Str("action", e.Action.Name).Logger()
	a.kept = a.keep()
	return a
}

func (a *attempt) lookNow() {
	select {
	case a.look <- struct{}{}:
	default:
	}
}

// keep renews the lease until the function that it returns is called.
func (a *attempt) keep() (done func()) {
	ctx, cancel := context.WithCancel(a.life)
	var loop sync.WaitGroup
	loop.Go(func() {
		a.hold.renew(ctx, a.look, func(why error) {
			a.log.Warn().Err(why).Msg("attempt is stopped")
			a.stop(why)
		})
	})
	return func() { cancel(); loop.Wait() }
}

// perform takes the attempt along its steps, from the first of its phase.
func (a *attempt) perform() error {
	from := slices.IndexFunc(steps, func(s step) bool { return s.phase == a.entry.Phase })
	for _, s := range steps[max(from, 0):] {
		if err := s.do(a); err != nil {
			return a.fail(fmt.Errorf("could not %s: %w", s.name, err))
		}
	}
	return nil
}

// ended returns why the attempt goes no further, or nil.
func (a *attempt) ended() error { return context.Cause(a.ctx) }

// left reports whether this process has left the attempt to the next one.
func (a *attempt) left() bool { return errors.Is(context.Cause(a.life), errLeft) }

// fail ends an attempt that will not hand over any files: it was stopped,
// refused, or met a fault of ours. An attempt that was left stays as it is.
func (a *attempt) fail(err error) error {
	if a.left() {
		return nil
	}
	if a.handed {
		return err
	}
	undone := a.undo()
	a.free()
	a.w.mu.Lock()
	a.listed = false // there will be no verdict
	a.w.mu.Unlock()
	giveUp := a.w.clear
	var stop *stopped
	var failure *messages.Failure
	switch {
	case errors.As(a.ended(), &stop) || errors.As(err, &stop):
		a.log.Info().Str("reason", stop.reason).Msg("attempt was stopped")
		a.report(messages.StageStopped, "", stop.reason)
	case errors.As(err, &failure):
		a.log.Info().Str("reason", failure.Detail).Msg("attempt cannot be run as written")
		a.report(messages.StageRefused, failure.Code, failure.Detail)
	default:
		a.log.Error().Err(err).Msg("attempt failed by a fault of ours")
		a.report(messages.StageErrored, "", err.Error())
		giveUp = a.w.leave
	}
	fault.At("worker.before-give-up")
	return errors.Join(undone, a.hold.release(a.life), giveUp(a.id))
}

// undo takes the container and the mount away; the attempt's files stay.
func (a *attempt) undo() error {
	var errs []error
	if a.box != nil {
		err := a.box.Remove(a.life)
		if err != nil {
			a.w.suspect()
		}
		errs = append(errs, err)
	}
	if a.space != nil {
		errs = append(errs, a.w.Staging.Release(a.space))
	}
	a.box, a.space = nil, nil
	return errors.Join(errs...)
}

// enter makes a new phase durable.
func (a *attempt) enter(p phase) error {
	if p == phaseStarted {
		a.entry.Began = time.Now().UTC()
	}
	a.entry.Phase = p
	if err := a.w.journal.write(a.entry); err != nil {
		return err
	}
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	a.listed = p == phaseListed
	return nil
}

// publish hands the files message over, again as long as the stream is full,
// and a few times for other trouble: what it tells took long to make.
func (a *attempt) publish(files *messages.Files) error {
	const tries = 5
	id := fmt.Sprintf("files/%s/%d/%s", files.Job, files.Attempt, a.w.nonce) // an earlier process's was answered, perhaps, when nobody heard
	wait := time.Second
	for try := 1; ; try++ {
		err := a.w.Outbox.Publish(a.life, files.Subject(), files, id)
		switch {
		case err == nil:
			return nil
		case a.life.Err() != nil:
			return context.Cause(a.life)
		case errors.Is(err, messages.ErrFull) || errors.Is(err, messages.ErrQueued):
			a.log.Warn().Err(err).Msg("files message waits")
		case errors.Is(err, messages.ErrTooLarge) || try == tries:
			return fmt.Errorf("publish the new files: %w", err)
		}
		if !pause(a.life, wait) {
			return context.Cause(a.life)
		}
		wait = min(2*wait, 30*time.Second)
	}
}

// occupy counts slots of a pool as taken, or as free again. Those of an action
// that is being claimed are taken: its worker must not be thought idle.
func (w *Worker) occupy(r *room, slots int64) {
	w.mu.Lock()
	r.used += slots
	w.mu.Unlock()
	w.touchSlots()
}

// occupy counts slots that the attempt has taken, of which some were counted
// before.
func (a *attempt) occupy(slots, before int64) {
	a.w.mu.Lock()
	a.slots = slots
	a.w.mu.Unlock()
	a.w.occupy(a.w.rooms[a.entry.Action.Pool], slots-before)
}

// free gives the attempt's slots back, if it has any.
func (a *attempt) free() {
	r := a.w.rooms[a.entry.Action.Pool]
	a.w.mu.Lock()
	slots := a.slots
	a.slots = 0
	if slots > 0 {
		r.used -= slots
	}
	a.w.mu.Unlock()
	if slots > 0 {
		r.free.Release(slots)
		a.w.touchSlots()
	}
}

func newNonce() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// pause waits; it returns false when ctx ended first.
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
