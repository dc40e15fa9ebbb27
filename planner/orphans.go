package planner

import (
	"context"
	"errors"
	"fmt"

	"sluice/messages"
)

// heardOrphan takes in the lease of an attempt that is not the newest of a job
// that has not ended. As long as its worker has it, it takes up its slots.
func (s *session) heardOrphan(ctx context.Context, key leaseKey, e messages.Entry[messages.Lease]) error {
	o := s.orphans[key]
	switch {
	case o != nil && e.Revision <= o.lease.revision:
		return nil
	case o != nil && e.Value != nil && !e.Value.Counts():
		s.dropOrphan(key)
		return nil
	case o != nil:
		o.lease = heldFrom(e, o.lease)
		if o.lease.expired {
			o.since = s.Now()
		}
		return nil
	case e.Value == nil || !e.Value.Counts():
		return nil
	}
	r, err := s.findJob(ctx, key.jobKey)
	if err != nil {
		return err
	}
	if r == nil || key.attempt > r.Attempt || !r.State.Final() && key.attempt == r.Attempt {
		s.log.Warn().Str("job", string(key.id)).Int("attempt", key.attempt).Str("worker", e.Value.Owner).Msg("a lease belongs to no attempt that was dispatched; it is not counted")
		return nil
	}
	s.addOrphan(key, r, heldFrom(e, held{}))
	return nil
}

// findJob reads the record of a job whose workspace is not known.
func (s *session) findJob(ctx context.Context, key jobKey) (r *messages.Job, err error) {
	if key.id.Check() != nil || messages.CheckBackend(key.backend) != nil {
		return nil, nil
	}
	filter := messages.Token(key.backend) + ".*." + messages.Token(string(key.id))
	if err := s.Jobs.All(ctx, filter, func(e messages.Entry[messages.Job]) { r = e.Value }); err != nil {
		return nil, fmt.Errorf("look for job %s: %w", key.id, err)
	}
	return r, nil
}

func (s *session) addOrphan(key leaseKey, r *messages.Job, lease held) {
	s.orphans[key] = &orphan{workspace: r.Workspace, pool: r.Pool, weight: r.Weight, lease: lease, since: s.Now()}
	s.backend(key.backend).dirty = true
}

func (s *session) dropOrphan(key leaseKey) {
	delete(s.orphans, key)
	s.backend(key.backend).dirty = true
}

// checkOrphans looks at what takes up slots without a job: a worker that does
// not end by itself is told to, one that is gone is no longer waited for.
func (s *session) checkOrphans(ctx context.Context) error {
	for key, o := range s.orphans {
		e, err := s.lease(ctx, key)
		if errors.Is(err, messages.ErrNotFound) {
			s.dropOrphan(key)
			continue
		}
		if err != nil {
			return fmt.Errorf("read the lease of an ended job: %w", err)
		}
		if err := s.heardOrphan(ctx, key, e); err != nil {
			return err
		}
		if s.orphans[key] == nil {
			continue
		}
		age := s.Now().Sub(o.since)
		switch {
		case o.lease.expired && s.giveUpAt(o.lease).Before(s.Now()):
			s.dropOrphan(key)
		case o.lease.state == messages.LeaseStopping && age > s.cfg.LeaseGrace && !s.live(key.backend, o.lease.owner):
			s.dropOrphan(key)
		case o.lease.state == messages.LeaseHeld && age > s.cfg.ClaimWait:
			fenced := &messages.Lease{State: messages.LeaseFenced, Owner: fencer, Nonce: fencer, Weight: o.weight, Pool: o.pool, Reason: string(messages.InternalError), At: s.Now()}
			lease, err := s.haltLease(ctx, key, fenced)
			if messages.Unmendable(err) {
				s.dropOrphan(key)
				_ = s.bear(err)
				continue
			}
			if err != nil {
				return err
			}
			if o.lease = lease; lease.over() {
				s.dropOrphan(key)
			}
		}
	}
	return nil
}

// live reports whether a worker has been heard of within its time to live.
func (s *session) live(backend, worker string) bool {
	return s.backend(backend).workers[messages.PresenceKey(backend, worker)].presence != nil
}
