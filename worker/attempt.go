package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/worker/staging"
)

// An attempt is one in hand. Its context ends with a *stopped cause when it is
// to be stopped, and with errLeft when this process leaves it.
type attempt struct {
	w        *Worker
	entry    *entry
	hold     *hold
	reporter *reporter
	log      zerolog.Logger

	life context.Context // of this process's interest in the attempt
	ctx  context.Context // ends earlier when the attempt is stopped
	stop context.CancelCauseFunc
	look chan struct{} // the lease must be looked at now

	freed  bool // its slots; guarded by Worker.mu
	closed bool // its verdict was heard and acted upon; guarded by Worker.mu
	once   sync.Once
}

func newNonce() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

func (w *Worker) newAttempt(life context.Context, e *entry) *attempt {
	a := &attempt{w: w, entry: e, life: life, look: make(chan struct{}, 1)}
	a.ctx, a.stop = context.WithCancelCause(life)
	a.reporter = newReporter(life, w.Outbox)
	a.log = w.Log.With().Str("job", string(e.Action.Job)).Int("attempt", e.Action.Attempt).Str("workspace", e.Action.Workspace).Str("action", e.Action.Name).Logger()
	return a
}

// end frees what the attempt has in this process.
func (a *attempt) end(cause error) {
	a.once.Do(func() {
		a.reporter.close()
		a.stop(cause)
	})
}

func (a *attempt) lookNow() {
	select {
	case a.look <- struct{}{}:
	default:
	}
}

// perform takes a claimed attempt to its end.
func (w *Worker) perform(a *attempt) error {
	renewing := a.renewing()
	defer renewing()
	a.log.Info().Msg("attempt was claimed")
	a.report(messages.StagePreparing, "", "")

	space, spec, err := w.prepare(a)
	if err != nil {
		return w.endWithout(a, err)
	}
	a.report(messages.StagePrepared, "", "")
	// The journal first: a container that it does not speak of would be swept.
	a.entry.Phase, a.entry.Given = phaseStarted, space.Given
	if err := w.journal.write(a.entry); err != nil {
		return w.endWithout(a, errors.Join(err, w.Staging.Release(space)))
	}
	if a.ctx.Err() != nil {
		return w.endWithout(a, errors.Join(context.Cause(a.ctx), w.Staging.Release(space)))
	}
	box, err := w.Runtime.Start(a.life, spec)
	if err != nil {
		return w.endWithout(a, errors.Join(err, w.Staging.Release(space)))
	}
	a.report(messages.StageExecuting, "", "")
	return w.follow(a, box, space, 0)
}

// renewing keeps the lease until the function that it returns is called.
func (a *attempt) renewing() (done func()) {
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

// prepare gets the image, lays out the workspace, and says what to start.
func (w *Worker) prepare(a *attempt) (*staging.Workspace, Spec, error) {
	action := &a.entry.Action
	env, err := w.environment(action)
	if err != nil {
		return nil, Spec{}, err
	}
	digest, err := w.Runtime.Image(a.ctx, action.Image)
	if err != nil {
		return nil, Spec{}, err
	}
	a.entry.Digest = digest
	space, err := w.Staging.Prepare(a.ctx, action)
	if err != nil {
		return nil, Spec{}, err
	}
	spec := Spec{
		Attempt: a.entry.attempt(), Workspace: action.Workspace, Action: action.Name, Image: action.Image, Args: action.Args, Env: env,
		Dir: space.Mount, UID: w.cfg.UID, GID: w.cfg.GID, Limits: w.limits(action),
	}
	if action.Database {
		spec.Network = w.cfg.Network
	}
	return space, spec, nil
}

// endWithout ends an attempt that has no container: it was stopped, refused, or
// met a fault of ours.
func (w *Worker) endWithout(a *attempt, err error) error {
	if errors.Is(err, errLeft) || errors.Is(context.Cause(a.life), errLeft) {
		return errLeft // the next worker of this name finds the journal entry
	}
	var stop *stopped
	var failure *messages.Failure
	switch {
	case errors.As(err, &stop) || errors.As(context.Cause(a.ctx), &stop):
		a.log.Info().Str("reason", stop.reason).Msg("attempt was stopped before its container started")
		a.report(messages.StageStopped, "", stop.reason)
	case errors.As(err, &failure):
		a.log.Info().Str("reason", failure.Detail).Msg("attempt cannot be run as written")
		a.report(messages.StageRefused, failure.Code, failure.Detail)
	default:
		a.log.Error().Err(err).Msg("attempt failed by a fault of ours")
		a.report(messages.StageErrored, "", err.Error())
	}
	return errors.Join(a.hold.release(a.life), w.clear(a))
}

// follow waits for a container's end, lists what it left, and hands that over.
// Skip is how much of the log was published before.
func (w *Worker) follow(a *attempt, box Container, space *staging.Workspace, skip int64) error {
	files, err := w.watch(a, box, space, skip)
	if err != nil {
		if errors.Is(context.Cause(a.life), errLeft) {
			return errLeft
		}
		err = errors.Join(err, box.Remove(a.life), w.Staging.Release(space))
		return w.endWithout(a, fmt.Errorf("run the container: %w", err))
	}
	if err := w.handOver(a, files); err != nil {
		return err
	}
	// Nothing waits for what is left: the slot is free already.
	return errors.Join(box.Remove(a.life), w.Staging.Release(space))
}

// watch waits for the container's end and describes what it left.
func (w *Worker) watch(a *attempt, box Container, space *staging.Workspace, skip int64) (*messages.Files, error) {
	logs, err := w.pump(a, box, filepath.Join(space.Dir, "log"), skip)
	if err != nil {
		return nil, err
	}
	exit, ending, err := w.waitOrStop(a, box, space)
	log, logErr := logs(err == nil)
	if err = errors.Join(err, logErr); err != nil {
		return nil, err
	}
	a.report(messages.StageExecuted, "", "")
	if record, err := box.Inspect(a.life); err == nil {
		err = os.WriteFile(filepath.Join(space.Dir, "container.json"), record, 0o644) //nolint:gosec // the persister reads it
		if err != nil {
			return nil, fmt.Errorf("keep the container's record: %w", err)
		}
	}
	act := &a.entry.Action
	files := &messages.Files{
		Job: act.Job, Attempt: act.Attempt, Backend: act.Backend, Workspace: act.Workspace, Worker: w.cfg.Name,
		Cancelled: ending.stopped, TimedOut: ending.timedOut, ExitCode: exit.Code, OOMKilled: exit.OOMKilled, ImageDigest: a.entry.Digest,
		Started: exit.Started, Finished: exit.Finished, Log: log, Given: a.entry.Given, Reason: ending.reason,
	}
	if !ending.stopped {
		if err := w.list(a, space, files); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// list puts the new files into the message, or beside them if they are many.
func (w *Worker) list(a *attempt, space *staging.Workspace, files *messages.Files) error {
	found, err := w.Staging.Inspect(a.life, space)
	if err != nil {
		return err
	}
	listing, encoded, err := messages.NewListing(found)
	if err != nil {
		return err
	}
	if listing.Stored {
		if err := os.WriteFile(filepath.Join(space.Dir, "listing.jsonl"), encoded, 0o644); err != nil { //nolint:gosec // the persister reads it
			return fmt.Errorf("keep the listing: %w", err)
		}
	}
	files.Listing = listing
	return nil
}

// handOver publishes what the attempt left, and frees its lease and slots. The
// journal first: whoever takes over from here publishes the same again.
func (w *Worker) handOver(a *attempt, files *messages.Files) error {
	a.entry.Phase, a.entry.Files = phaseListed, files
	if err := w.journal.write(a.entry); err != nil {
		return err
	}
	return w.publishFiles(a)
}

func (w *Worker) publishFiles(a *attempt) error {
	files := a.entry.Files
	err := w.Outbox.Publish(a.life, files.Subject(), files, fmt.Sprintf("files/%s/%d", files.Job, files.Attempt))
	if err != nil {
		return fmt.Errorf("publish the new files: %w", errors.Join(err, context.Cause(a.life)))
	}
	stage := messages.StageFinalizing
	if files.Cancelled {
		stage = messages.StageStopped
	}
	a.report(stage, "", files.Reason)
	a.log.Info().Int("exit", files.ExitCode).Int("files", files.Listing.Count).Bool("stopped", files.Cancelled).Bool("timed_out", files.TimedOut).Msg("attempt ended")
	return a.hold.release(a.life)
}

// judged reports whether a verdict is about what this attempt handed over.
func (a *attempt) judged(e *messages.PersisterEvent) bool {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	return a.entry.Phase == phaseListed && e.Workspace == a.entry.Action.Workspace && !a.closed
}

// An ending says who ended a container.
type ending struct {
	stopped  bool // the planner, or a lost lease
	timedOut bool
	reason   string
}

// diskLook is between two looks at how much an attempt has written.
const diskLook = 5 * time.Second

// waitOrStop waits for a container's end, and brings it about when the attempt
// is stopped, is at its time limit, or has written too much.
func (w *Worker) waitOrStop(a *attempt, box Container, space *staging.Workspace) (Exit, ending, error) {
	type result struct {
		exit Exit
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		exit, err := box.Wait(a.life)
		ended <- result{exit, err}
	}()
	limits := w.limits(&a.entry.Action)
	limit := time.NewTimer(limits.Time - time.Since(a.entry.Began()))
	defer limit.Stop()
	disk := time.NewTicker(diskLook)
	defer disk.Stop()
	var end ending
	stop := func(why ending) {
		if end.stopped || end.timedOut || end.reason != "" {
			return
		}
		end = why
		a.log.Info().Str("reason", why.reason).Msg("container is stopped")
		go func() {
			if err := box.Stop(a.life, w.cfg.StopGrace); err != nil && a.life.Err() == nil {
				a.log.Error().Err(err).Msg("container could not be stopped")
			}
		}()
	}
	asked := a.ctx.Done()
	for {
		select {
		case r := <-ended:
			return r.exit, end, r.err
		case <-asked:
			asked = nil
			var why *stopped
			if errors.As(context.Cause(a.ctx), &why) {
				stop(ending{stopped: true, reason: why.reason})
			}
		case <-limit.C:
			stop(ending{timedOut: true, reason: fmt.Sprintf("the time limit of %s is over", limits.Time)})
		case <-disk.C:
			if used, err := w.Staging.Used(a.life, space, limits.Disk); err == nil && used > limits.Disk {
				stop(ending{reason: fmt.Sprintf("the action wrote more than %d MiB", limits.Disk>>20)})
			}
		}
	}
}

// pump follows the container's log into a file and into chunks. The function
// that it returns waits for the log's end (or breaks it off) and describes it.
func (w *Worker) pump(a *attempt, box Container, path string, skip int64) (func(whole bool) (messages.Log, error), error) {
	p, err := newLogPump(path, w.cfg.LogBytes)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(a.life)
	done := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() { p.publish(a.life, w.Outbox, &a.entry.Action, skip, done) })
	failed := make(chan error, 1)
	go func() { failed <- box.Logs(ctx, p) }()
	return func(whole bool) (messages.Log, error) {
		if !whole {
			cancel()
		}
		// The engine may keep the stream open after the end: what was written is
		// there by then.
		late := time.AfterFunc(time.Minute, cancel)
		err := <-failed
		late.Stop()
		cancel()
		close(done)
		publishing.Wait()
		log, finishErr := p.finish()
		if whole && err != nil && ctx.Err() == nil {
			return log, errors.Join(err, finishErr)
		}
		return log, finishErr
	}, nil
}
