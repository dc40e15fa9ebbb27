package planner

import (
	"context"
	"errors"
	"fmt"

	"sluice/messages"
)

// An error that is about one job, one lease or one message is that one's
// (messages.Unmendable): the job ends, the lease counts as expired, the message
// is parked, and all others go on. A session ends only when it is in doubt who
// plans or what is written: by a conflict, or a server that does not answer.

// spare ends the job that an error is about, and returns every error that is
// about more than that.
func (s *session) spare(ctx context.Context, j *job, err error) error {
	switch {
	case err == nil || !messages.Unmendable(err):
		return err
	case s.jobs[j.key] != j:
		s.bear(err)
		return nil
	}
	return s.breakOff(ctx, j, err)
}

// bear logs an error that is about one thing, and returns every other.
func (s *session) bear(err error) error {
	if err == nil || !messages.Unmendable(err) {
		return err
	}
	s.log.Error().Err(err).Msg("this cannot be handled, now or later; all else goes on")
	return nil
}

// eachJob runs f for the number of every job of a list, some at once. A job that
// it fails for by an error of the job's own is ended, and not known any more.
func (s *session) eachJob(ctx context.Context, list []*job, f func(context.Context, int) error) error {
	own := make([]error, len(list))
	err := eachOf(ctx, len(list), func(ctx context.Context, i int) error {
		err := f(ctx, i)
		if err != nil && messages.Unmendable(err) {
			own[i], err = err, nil
		}
		return err
	})
	for i, j := range list {
		if err == nil {
			err = s.spare(ctx, j, own[i])
		}
	}
	return err
}

// breakOff ends a job for which a step cannot be done, now or later. What is
// there of a commit still decides how it ends (I2); where that itself is the
// cause, it ends as an internal error.
func (s *session) breakOff(ctx context.Context, j *job, cause error) error {
	s.log.Error().Err(cause).Str("job", string(j.key.id)).Str("backend", j.key.backend).Str("workspace", j.record.Workspace).
		Msg("a step of this job cannot be done, now or later; the job ends")
	code, message := messages.InternalError, clip(messages.InternalError.Message()+" "+cause.Error())
	var done *messages.Commit
	owner := j.lease.owner
	if j.record.Attempt > 0 {
		c, err := s.entomb(ctx, j, code)
		switch {
		case err != nil && !messages.Unmendable(err):
			return err
		case err == nil && !c.Tombstone():
			done = c
		case err == nil && c.Code != code && messages.CanMove(j.record.Code, c.Code):
			code, message = c.Code, ""
		}
		if err := s.bear(s.halt(ctx, j, code)); err != nil {
			return err
		}
	}
	var err error
	if done != nil {
		err = s.save(ctx, j, func(r *messages.Job) error { return s.conclusion(r, done, owner) })
	}
	if done == nil || messages.Unmendable(err) {
		if a := s.action(j.record); a.Attempt > 0 {
			if err := s.bear(s.Dead.Park(ctx, a.Subject(), a, fencer, cause.Error())); err != nil {
				return fmt.Errorf("park action of job %s: %w", j.key.id, err)
			}
		}
		err = s.save(ctx, j, func(r *messages.Job) error {
			r.Result, r.Wanted = nil, ""
			return r.Set(code, message, s.Now())
		})
	}
	if err := s.bear(err); err != nil {
		return err
	}
	return s.over(ctx, j)
}

// lease reads a lease. One that cannot be read has lost its worker the attempt
// like one that is not renewed: it counts as expired since it was written, and
// is fenced on that revision.
func (s *session) lease(ctx context.Context, k leaseKey) (messages.Entry[messages.Lease], error) {
	e, err := s.Leases.Get(ctx, messages.LeaseKey(k.backend, k.id, k.attempt))
	if !errors.Is(err, messages.ErrUnreadable) {
		return e, err
	}
	if seen, _ := s.garbled.Swap(k, e.Revision); seen != e.Revision {
		s.log.Error().Err(err).Str("job", string(k.id)).Str("backend", k.backend).Int("attempt", k.attempt).
			Msg("this lease cannot be read; it counts as expired, and is fenced after the grace")
	}
	e.Value, e.Expired = nil, true
	return e, nil
}
