package planner

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sluice/internal/fault"
	"sluice/messages"
)

// settle ends a job as its commit says.
func (s *session) settle(ctx context.Context, j *job, c *messages.Commit) error {
	last, err := s.settling(ctx, j, c)
	if err != nil {
		return err
	}
	return s.take(ctx, last)
}

// settling does all that ends a job as its commit says but for the last step.
// The commit is the truth, whichever attempt it names.
func (s *session) settling(ctx context.Context, j *job, c *messages.Commit) (last *step, err error) {
	if c.Tombstone() {
		return nil, s.end(ctx, j, c.Code, "")
	}
	if c.Attempt != j.record.Attempt || j.record.State == messages.Pending {
		if err := s.halt(ctx, j, messages.Success); err != nil { // an older attempt has won
			return nil, err
		}
	}
	owner := j.lease.owner
	return &step{job: j, change: func(r *messages.Job) error { return s.conclusion(r, c, owner) }, after: func(ctx context.Context) error { return s.over(ctx, j) }}, nil
}

// conclusion writes into a record what the commit of an attempt says. Owner has,
// or had, the lease of the newest one.
func (s *session) conclusion(r *messages.Job, c *messages.Commit, owner string) error {
	r.Result, r.Manifest, r.Wanted = c.Result, c.Manifest, ""
	if r.Worker == "" && c.Attempt == r.Attempt {
		r.Worker = owner // all of its stages were too short to be told of
	}
	return r.Set(c.Result.Code(), describe(c.Result, r.Database), s.Now())
}

// want ends a job for a reason of our own, or of the user's. What is wanted is
// written first, so that a planner after this one goes on with it.
func (s *session) want(ctx context.Context, j *job, code messages.Code, message string) error {
	if j.record.Wanted == "" && j.record.Attempt > 0 {
		err := s.save(ctx, j, func(r *messages.Job) error {
			r.Wanted, r.Message = code, clip(message)
			r.Touch(s.Now())
			return nil
		})
		if err != nil {
			return err
		}
		fault.At("planner.after-wanted")
		s.place(j)
	}
	return s.end(ctx, j, code, message)
}

// end ends a job with a code that is not of a commit. Once it was dispatched
// that takes a tombstone: from then on no attempt can persist its files. If a
// commit was there before, the job had finished. Every step can be repeated.
func (s *session) end(ctx context.Context, j *job, code messages.Code, message string) error {
	if message == "" && j.record.Wanted == code {
		message = j.record.Message // written when it was wanted
	}
	if j.record.Attempt > 0 {
		c, err := s.entomb(ctx, j, code)
		if err != nil {
			return err
		}
		if !c.Tombstone() {
			return s.settle(ctx, j, c)
		}
		fault.At("planner.after-tombstone")
		if c.Code != code {
			code, message = c.Code, ""
		}
		if err := s.halt(ctx, j, code); err != nil {
			return err
		}
		fault.At("planner.after-halt")
		if code == messages.InternalError {
			a := s.action(j.record)
			if err := s.Dead.Park(ctx, a.Subject(), a, fencer, lastLoss(j.record)); err != nil {
				return fmt.Errorf("park action of job %s: %w", j.key.id, err)
			}
			fault.At("planner.after-dead-letter")
		}
	}
	if code == messages.CancelledByUser { // later requests look past it
		if err := s.unlist(ctx, j); err != nil {
			return err
		}
		fault.At("planner.after-unlist")
	}
	if err := s.set(ctx, j, code, message); err != nil {
		return err
	}
	return s.over(ctx, j)
}

// entomb creates a job's tombstone, or returns the commit that was first.
func (s *session) entomb(ctx context.Context, j *job, code messages.Code) (*messages.Commit, error) {
	key := messages.CommitKey(j.key.backend, j.key.id)
	c := &messages.Commit{Job: j.key.id, Code: code, At: s.Now()}
	_, err := s.Commits.Create(ctx, key, c)
	if errors.Is(err, messages.ErrConflict) {
		e, err := s.Commits.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("read commit of job %s: %w", j.key.id, err)
		}
		return e.Value, nil
	}
	if err != nil {
		return nil, fmt.Errorf("create tombstone of job %s: %w", j.key.id, err)
	}
	return c, nil
}

// unlist takes a job out of its action's newest ones.
func (s *session) unlist(ctx context.Context, j *job) error {
	key := latestKey{j.key.backend, j.record.Workspace, j.record.Action}
	known := s.listed(key)
	if known.Value == nil || !slices.Contains(known.Value.Jobs, j.key.id) {
		return nil
	}
	e, err := s.relatest(ctx, key, known, func(l *messages.Latest) { l.Drop(j.key.id) })
	if err != nil {
		return err
	}
	s.relist(key, e.Value.Jobs, e.Revision)
	return nil
}

// over lets go of a job whose record is final: what waited for it goes on or
// fails, and the end of its request may have come.
func (s *session) over(_ context.Context, j *job) error {
	fault.At("planner.after-final-record")
	r := j.record
	s.log.Info().Str("job", string(r.ID)).Str("action", r.Action).Str("workspace", r.Workspace).Str("backend", r.Backend).Str("code", string(r.Code)).Int("attempt", r.Attempt).Msg("job ended")
	waiters := s.waiters[j.key]
	s.forget(j)
	if r.Attempt > 0 && j.lease.counts() {
		s.addOrphan(leaseKey{j.key, r.Attempt}, r, j.lease)
	}
	if l := s.latest[latestKey{r.Backend, r.Workspace, r.Action}]; l != nil && slices.Contains(l.list, r.ID) {
		s.past[j.key] = pastOf(r)
	}
	for _, w := range waiters {
		if s.jobs[w.key] != w {
			continue
		}
		if w.waits--; r.State != messages.Succeeded {
			w.doom = r.Action
		}
		s.place(w)
	}
	key := requestKey{r.Backend, r.Request}
	if request := s.requests[key]; request != nil {
		request.ended[r.ID] = outsideOf(r, nil)
		if request.open--; request.open <= 0 {
			s.finish(key, request)
		}
	}
	return nil
}

// retry counts an attempt as lost by our own fault, and has the job wait for
// the next one, or ends it if there were enough.
func (s *session) retry(ctx context.Context, j *job, worker, reason string) error {
	if j.record.State != messages.Running || j.record.Wanted != "" {
		return nil
	}
	loss := messages.Loss{Attempt: j.record.Attempt, Worker: worker, Reason: clip(reason), At: s.Now()}
	last := len(j.record.Lost)+1 >= s.cfg.MaxAttempts
	err := s.save(ctx, j, func(r *messages.Job) error {
		r.Lost = append(slices.Clip(r.Lost), loss)
		if last {
			r.Wanted, r.Message = messages.InternalError, lostAll(r)
			r.Touch(s.Now())
			return nil
		}
		return r.Set(messages.WaitingOnNewTask, clip(fmt.Sprintf("Attempt %d failed: %s. Attempt %d starts after a pause.", loss.Attempt, loss.Reason, loss.Attempt+1)), s.Now())
	})
	if err != nil {
		return err
	}
	fault.At("planner.after-loss")
	s.log.Warn().Str("job", string(j.key.id)).Str("action", j.record.Action).Int("attempt", loss.Attempt).Str("worker", worker).Str("reason", loss.Reason).Msg("attempt failed by our own fault")
	s.backend(j.key.backend).dirty = true
	if last {
		return s.end(ctx, j, messages.InternalError, lostAll(j.record))
	}
	s.place(j)
	return nil
}

func lostAll(r *messages.Job) string {
	return clip(fmt.Sprintf("%s The last of %d attempts: %s.", messages.InternalError.Message(), len(r.Lost), lastLoss(r)))
}

func lastLoss(r *messages.Job) string {
	if len(r.Lost) == 0 {
		return messages.InternalError.Message()
	}
	return r.Lost[len(r.Lost)-1].Reason
}
