package planner

import (
	"context"
	"errors"
	"fmt"

	"sluice/messages"
)

// event takes one event of a worker or of a persister. Events are hints: what
// one says is checked against the registers before anything is decided, so a
// stale or a forged one changes nothing.
func (s *session) event(ctx context.Context, d *messages.Delivery) error {
	place, err := messages.ParseSubject(d.Subject)
	if err != nil || place.Kind != "event" {
		return messages.Park("subject %s is not that of an event", messages.Quote(d.Subject))
	}
	if place.Branch == "persister" {
		var e messages.PersisterEvent
		if err := messages.Decode(d.Data, &e); err != nil {
			return messages.Park("%w", err)
		}
		if e.Subject() != d.Subject {
			return messages.Park("the event says that it belongs on %s", messages.Quote(e.Subject()))
		}
		c, err := s.commit(ctx, jobKey{e.Backend, e.Job}) // it is there before the event is, and stays
		if unreadable := err; err == nil || messages.Unmendable(err) {
			err = s.hear(ctx, attemptKey{jobKey{e.Backend, e.Job}, e.Workspace, e.Attempt}, func(ctx context.Context) (*step, error) {
				if unreadable != nil {
					return nil, unreadable // it is for ever: the job ends
				}
				return s.verdict(ctx, &e, c)
			})
		}
		return s.enough(d, err)
	}
	var e messages.WorkerEvent
	if err := messages.Decode(d.Data, &e); err != nil {
		return messages.Park("%w", err)
	}
	if e.Subject() != d.Subject {
		return messages.Park("the event says that it belongs on %s", messages.Quote(e.Subject()))
	}
	return s.enough(d, s.hear(ctx, attemptKey{jobKey{e.Backend, e.Job}, e.Workspace, e.Attempt}, func(ctx context.Context) (*step, error) { return s.stage(ctx, &e) }))
}

// An attemptKey is what an event is about.
type attemptKey struct {
	jobKey
	workspace string
	attempt   int
}

// hear hands an event to the owner of the state, if its attempt may exist. One
// of a job that nobody planned, or of an attempt that was never dispatched, is
// given up where people can see it; one that comes late is forgotten.
func (s *session) hear(ctx context.Context, k attemptKey, handle func(context.Context) (*step, error)) error {
	strange := false
	err := s.about(ctx, k.jobKey, func(ctx context.Context) (*step, error) {
		j := s.jobs[k.jobKey]
		if strange = j == nil || j.record.Workspace != k.workspace || k.attempt > j.record.Attempt; strange {
			return nil, nil
		}
		return handle(ctx)
	})
	if err != nil || !strange {
		return err
	}
	e, err := s.Jobs.Get(ctx, messages.JobKey(k.backend, k.workspace, k.id))
	switch {
	case errors.Is(err, messages.ErrNotFound), err == nil && e.Value == nil:
		return messages.Park("job %s of workspace %s has no record: nobody planned it", k.id, k.workspace)
	case err != nil:
		return fmt.Errorf("read record of job %s: %w", k.id, err)
	case k.attempt > e.Value.Attempt:
		return messages.Park("attempt %d of job %s was never dispatched: the record knows %d", k.attempt, k.id, e.Value.Attempt)
	case !e.Value.State.Final():
		return fmt.Errorf("attempt %d of job %s was dispatched by another planner; its event is for that one", k.attempt, k.id)
	}
	s.log.Debug().Str("job", string(k.id)).Int("attempt", k.attempt).Msg("event of a job that has ended")
	return nil
}

// verdict takes an event of a persister: whatever it says, the commit counts.
func (s *session) verdict(ctx context.Context, e *messages.PersisterEvent, c *messages.Commit) (*step, error) {
	j := s.jobs[jobKey{e.Backend, e.Job}]
	switch {
	case c != nil:
		return s.settling(ctx, j, c)
	case e.Verdict == messages.Unusable && e.Attempt == j.record.Attempt:
		return nil, s.retry(ctx, j, j.lease.owner, "its files could not be persisted: "+e.Reason)
	case e.Verdict == messages.Discarded && e.Attempt == j.record.Attempt && j.record.State == messages.Running:
		j.discarded = s.Now() // its worker says why, if not before then after this: see mend
	case e.Verdict == messages.Persisted:
		s.log.Warn().Str("job", string(e.Job)).Int("attempt", e.Attempt).Msg("an event says that files are persisted, and there is no commit; it is ignored")
	}
	return nil, nil
}

// commit reads the commit of a job; nil if there is none.
func (s *session) commit(ctx context.Context, key jobKey) (*messages.Commit, error) {
	e, err := s.Commits.Get(ctx, messages.CommitKey(key.backend, key.id))
	if errors.Is(err, messages.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read commit of job %s: %w", key.id, err)
	}
	return e.Value, nil
}

// stage takes an event of a worker. It moves the code of the newest attempt;
// an end of the attempt counts only from the worker that has its lease.
func (s *session) stage(ctx context.Context, e *messages.WorkerEvent) (*step, error) {
	j := s.jobs[jobKey{e.Backend, e.Job}]
	if j.record.State != messages.Running || j.record.Wanted != "" || e.Attempt != j.record.Attempt {
		s.log.Debug().Str("job", string(e.Job)).Int("attempt", e.Attempt).Str("stage", string(e.Stage)).Msg("event of an attempt that is over")
		return nil, nil
	}
	if code := e.Stage.Code(); code != "" {
		if !messages.CanMove(j.record.Code, code) || j.lease.owner != "" && j.lease.owner != e.Worker {
			return nil, nil // late, or not this worker's to say
		}
		return &step{job: j, change: func(r *messages.Job) error {
			r.Worker = e.Worker
			return r.Set(code, "", s.Now())
		}}, nil
	}
	holds, err := s.holds(ctx, j, e.Worker)
	if err != nil {
		return nil, err
	}
	if !holds {
		s.log.Warn().Str("job", string(e.Job)).Int("attempt", e.Attempt).Str("worker", e.Worker).Str("stage", string(e.Stage)).Msg("event of a worker that does not have the lease; it is ignored")
		return nil, nil
	}
	if e.Stage == messages.StageRefused {
		return nil, s.want(ctx, j, messages.JobError, messages.JobError.Message()+": "+e.Reason)
	}
	reason := e.Reason
	if reason == "" {
		reason = "its worker gave the attempt up (" + string(e.Stage) + ")"
	}
	return nil, s.retry(ctx, j, e.Worker, reason)
}

// holds asks the register whether a worker has, or had, the lease of a job's
// newest attempt.
func (s *session) holds(ctx context.Context, j *job, worker string) (bool, error) {
	e, err := s.lease(ctx, leaseKey{j.key, j.record.Attempt})
	switch {
	case errors.Is(err, messages.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read the lease of job %s: %w", j.key.id, err)
	case e.Value == nil: // expired: the register has forgotten whose it was
		return j.lease.owner == worker || j.lease.owner == "" && j.record.Worker == worker, nil
	}
	return e.Value.Owner == worker, nil
}
