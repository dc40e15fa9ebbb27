package planner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/internal/fault"
	"sluice/messages"
)

// fencer is the owner of leases that the planner creates to keep workers from
// an attempt.
const fencer = "planner"

// heardLease takes in what the register says about a lease.
func (s *session) heardLease(ctx context.Context, e messages.Entry[messages.Lease]) error {
	backend, id, attempt, err := messages.ParseLeaseKey(e.Key)
	if err != nil {
		s.log.Warn().Err(err).Msg("a lease has a key that is none")
		return nil
	}
	key := leaseKey{jobKey{backend, id}, attempt}
	j := s.jobs[key.jobKey]
	if j == nil || attempt != j.record.Attempt {
		return s.heardOrphan(ctx, key, e)
	}
	if e.Revision <= j.lease.revision {
		return nil
	}
	j.lease = heldFrom(e, j.lease)
	return s.leaseChanged(ctx, j)
}

func heldFrom(e messages.Entry[messages.Lease], before held) held {
	h := held{at: e.At, revision: e.Revision}
	if e.Value == nil {
		h.expired, h.owner = e.Expired, before.owner
		return h
	}
	h.state, h.owner = e.Value.State, e.Value.Owner
	return h
}

// leaseChanged does what a new state of a lease asks for.
func (s *session) leaseChanged(ctx context.Context, j *job) error {
	s.backend(j.key.backend).dirty = true
	switch {
	case j.record.State == messages.Running && j.lease.state == messages.LeaseFenced && j.lease.owner == fencer:
		return s.reset(ctx, j) // taken back, and a planner before this one did not get further
	case j.record.State == messages.Running && j.lease.state == messages.LeaseFenced:
		return s.retry(ctx, j, j.lease.owner, lost(j.lease.owner)) // a planner before this one did not get further
	case j.record.State == messages.Pending && j.lease.state == messages.LeaseHeld:
		if err := s.halt(ctx, j, j.record.Code); err != nil { // given up, but its worker has it after all
			return err
		}
	}
	s.place(j)
	return nil
}

// watchLease sets an alarm for the time at which an expired lease is given up:
// after the grace, and not before twice the time to live has passed since the
// connection came back, as all leases expire together when it was away.
func (s *session) watchLease(j *job) {
	if j.lease.expired {
		s.alarms[j] = s.giveUpAt(j.lease)
	}
}

func (s *session) giveUpAt(h held) time.Time {
	expired := h.at.Add(-s.reigned.ahead) // by this machine's clock
	late, back := expired.Add(s.cfg.LeaseGrace), s.since.Add(2*s.cfg.LeaseTTL)
	if back.After(late) {
		return back
	}
	return late
}

// untilAlarm returns how long loop may wait for something to happen.
func (s *session) untilAlarm(more bool) time.Duration {
	if more {
		return 0
	}
	next := s.cfg.Reconcile
	for _, at := range s.alarms {
		next = min(next, at.Sub(s.Now()))
	}
	return max(next, 0)
}

// ring looks at the jobs whose alarms are due.
func (s *session) ring(ctx context.Context) error {
	now := s.Now()
	for j, at := range s.alarms {
		if at.After(now) {
			continue
		}
		delete(s.alarms, j)
		if j.lease.expired {
			if err := s.spare(ctx, j, s.giveUp(ctx, j)); err != nil {
				return err
			}
			continue
		}
		s.place(j)
	}
	return nil
}

// giveUp fences an attempt whose lease has expired. It may be too late: then
// its worker is back.
func (s *session) giveUp(ctx context.Context, j *job) error {
	if wait := s.giveUpAt(j.lease).Sub(s.Now()); wait > 0 {
		s.alarms[j] = s.Now().Add(wait)
		return nil
	}
	key, owner := messages.LeaseKey(j.key.backend, j.key.id, j.record.Attempt), j.lease.owner
	if owner == "" {
		owner = j.record.Worker
	}
	if owner == "" {
		owner = "unknown"
	}
	fenced := s.fence(j.record, owner, messages.InternalError)
	revision, err := s.Leases.Update(ctx, key, fenced, j.lease.revision, s.cfg.LeaseKeep)
	if errors.Is(err, messages.ErrConflict) {
		return s.inspect(ctx, []*job{j})
	}
	if err != nil {
		return fmt.Errorf("fence attempt %d of job %s: %w", j.record.Attempt, j.key.id, err)
	}
	fault.At("planner.after-fence")
	j.lease = held{state: messages.LeaseFenced, owner: owner, revision: revision}
	s.log.Warn().Str("job", string(j.key.id)).Int("attempt", j.record.Attempt).Str("worker", owner).Msg("worker is lost; its attempt is given up")
	if j.record.State == messages.Running {
		return s.retry(ctx, j, owner, lost(owner))
	}
	s.backend(j.key.backend).dirty = true
	s.place(j)
	return nil
}

// lost is the reason of an attempt that was fenced.
func lost(owner string) string { return "worker " + owner + " did not renew its lease" }

// takeBack takes a dispatched attempt out of its queue, if no worker has
// claimed it: it must not begin now.
func (s *session) takeBack(ctx context.Context, j *job, why messages.Code) error {
	fenced, err := s.fenceUnclaimed(ctx, j, why)
	if err != nil || !fenced {
		return err
	}
	return s.reset(ctx, j)
}

// fenceUnclaimed takes the action of an attempt out of its queue and keeps
// workers from the attempt, unless one was quicker.
func (s *session) fenceUnclaimed(ctx context.Context, j *job, why messages.Code) (fenced bool, err error) {
	r := j.record
	if err := s.Actions.PurgeAction(ctx, messages.ActionSubject(r.Backend, r.Pool, r.Workspace, r.ID)); err != nil {
		return false, fmt.Errorf("purge the action of job %s: %w", r.ID, err)
	}
	revision, err := s.Leases.Create(ctx, messages.LeaseKey(r.Backend, r.ID, r.Attempt), s.fence(r, "", why), s.cfg.LeaseKeep)
	if errors.Is(err, messages.ErrConflict) {
		return false, nil // it goes on
	}
	if err != nil {
		return false, fmt.Errorf("fence attempt %d of job %s: %w", r.Attempt, r.ID, err)
	}
	fault.At("planner.after-take-back")
	j.lease = held{state: messages.LeaseFenced, owner: fencer, revision: revision}
	return true, nil
}

// reset has a job whose attempt never began wait again. That is no fault of
// the attempt: it does not count as lost.
func (s *session) reset(ctx context.Context, j *job) error {
	if j.record.Wanted != "" {
		return nil // it ends anyway
	}
	if err := s.set(ctx, j, messages.WaitingOnNewTask, fmt.Sprintf("Attempt %d was taken back before a worker had it", j.record.Attempt)); err != nil {
		return err
	}
	s.backend(j.key.backend).dirty = true
	s.place(j)
	return nil
}

// unclaimed reports whether a job was dispatched and no worker is known to have
// it.
func (j *job) unclaimed() bool {
	return j.record.Code == messages.Initiated && j.record.Wanted == "" && j.lease == (held{})
}

func (s *session) fence(r *messages.Job, owner string, why messages.Code) *messages.Lease {
	if messages.CheckWorker(owner) != nil {
		owner = fencer
	}
	return &messages.Lease{State: messages.LeaseFenced, Owner: owner, Nonce: fencer, Weight: r.Weight, Pool: r.Pool, Reason: string(why), At: s.Now()}
}

// halt keeps the newest attempt of a job from being taken or going on: a queued
// action is purged, an unclaimed lease is fenced, a held one is set to
// stopping, and its worker is told.
func (s *session) halt(ctx context.Context, j *job, why messages.Code) error {
	r := j.record
	if r.Attempt == 0 {
		return nil
	}
	if err := s.Actions.PurgeAction(ctx, messages.ActionSubject(r.Backend, r.Pool, r.Workspace, r.ID)); err != nil {
		return fmt.Errorf("purge the action of job %s: %w", r.ID, err)
	}
	fault.At("planner.after-purge")
	lease, err := s.haltLease(ctx, leaseKey{j.key, r.Attempt}, s.fence(r, "", why))
	if err != nil {
		return err
	}
	j.lease = lease
	return nil
}

// haltLease brings a lease to a state in which no worker may go on. Fenced is
// what is written where nobody holds it.
func (s *session) haltLease(ctx context.Context, k leaseKey, fenced *messages.Lease) (held, error) {
	key := messages.LeaseKey(k.backend, k.id, k.attempt)
	for range 10 {
		e, err := s.lease(ctx, k)
		next := *fenced
		switch {
		case errors.Is(err, messages.ErrNotFound):
			e.Revision, err = s.Leases.Create(ctx, key, &next, s.cfg.LeaseKeep)
		case err != nil:
			return held{}, fmt.Errorf("read lease %s: %w", key, err)
		case e.Expired:
			e.Revision, err = s.Leases.Update(ctx, key, &next, e.Revision, s.cfg.LeaseKeep)
		case e.Value.State == messages.LeaseHeld:
			next = *e.Value
			next.State, next.Reason, next.At = messages.LeaseStopping, fenced.Reason, s.Now()
			if e.Revision, err = s.Leases.Update(ctx, key, &next, e.Revision, s.cfg.LeaseKeep); err == nil {
				fault.At("planner.after-stopping")
				s.control(k, next.Owner, next.Reason)
			}
		default:
			if e.Value.State == messages.LeaseStopping {
				s.control(k, e.Value.Owner, e.Value.Reason) // the one before may have been lost
			}
			return heldFrom(e, held{}), nil
		}
		if errors.Is(err, messages.ErrConflict) {
			continue // its worker was quicker: look again
		}
		if err != nil {
			return held{}, fmt.Errorf("stop lease %s: %w", key, err)
		}
		return held{state: next.State, owner: next.Owner, at: s.Now(), revision: e.Revision}, nil
	}
	return held{}, fmt.Errorf("stop lease %s: %w, ten times", key, messages.ErrConflict)
}

// control tells a worker to look at a lease. The lease is the truth.
func (s *session) control(k leaseKey, worker, reason string) {
	m := &messages.Control{Kind: messages.ControlStop, Job: k.id, Attempt: k.attempt, Reason: reason}
	if err := s.Controls.Send(messages.ControlSubject(k.backend, worker), m); err != nil {
		s.log.Debug().Err(err).Str("worker", worker).Msg("control message was not sent; the worker sees it at its next renewal")
	}
}
