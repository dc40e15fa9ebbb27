package planner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"sluice/messages"
)

// reconcile compares what is known with the registers, in case that a watch was
// deaf or an event was lost. It is the only clock of the planner.
func (s *session) reconcile(ctx context.Context) error {
	if err := s.recheckFleet(ctx); err != nil {
		return err
	}
	s.sweepQueues()
	s.lookAtRoom()
	var tried []*job
	for _, b := range s.backends {
		tried = slices.AppendSeq(tried, maps.Values(b.tried))
	}
	if err := s.inspect(ctx, tried); err != nil {
		return err
	}
	if err := s.checkOrphans(ctx); err != nil {
		return err
	}
	for _, b := range s.backends {
		b.dirty = true
		s.refresh(b)
	}
	return nil
}

// recheckFleet reads settings and workers again. Workers that are not there any
// more are gone.
func (s *session) recheckFleet(ctx context.Context) error {
	present := map[string]bool{}
	err := s.Workers.All(ctx, "worker.>", func(e messages.Entry[messages.Presence]) {
		present[e.Key] = e.Value != nil
		s.heardWorker(e)
	})
	if err != nil {
		return fmt.Errorf("read workers: %w", err)
	}
	for _, b := range s.backends {
		for key := range b.workers {
			if !present[key] {
				delete(b.workers, key)
				b.dirty = true
			}
		}
	}
	var settings []messages.Entry[messages.Setting]
	err = s.Settings.All(ctx, "setting.*", func(e messages.Entry[messages.Setting]) { settings = append(settings, e) })
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	for _, e := range settings {
		if err := s.heardSetting(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// inspect reads the lease and the commit of jobs that were dispatched, and does
// what they ask for.
func (s *session) inspect(ctx context.Context, list []*job) error {
	found := make([]finding, len(list))
	err := s.eachJob(ctx, list, func(ctx context.Context, i int) (err error) {
		j, f := list[i], &found[i]
		f.lease, err = s.lease(ctx, leaseKey{j.key, j.record.Attempt})
		if errors.Is(err, messages.ErrNotFound) {
			f.none, err = true, nil
		}
		if err != nil {
			return fmt.Errorf("read the lease of job %s: %w", j.key.id, err)
		}
		f.commit, err = s.commit(ctx, j.key)
		return err
	})
	if err != nil {
		return err
	}
	for i, j := range list {
		if s.jobs[j.key] != j {
			continue
		}
		if err := s.spare(ctx, j, s.advance(ctx, j, found[i])); err != nil {
			return err
		}
	}
	return nil
}

// A finding is what the registers say of a job that was dispatched.
type finding struct {
	lease  messages.Entry[messages.Lease]
	none   bool // no lease
	commit *messages.Commit
}

// advance does what the registers ask for.
func (s *session) advance(ctx context.Context, j *job, f finding) error {
	if f.commit != nil {
		return s.settle(ctx, j, f.commit)
	}
	if !f.none {
		if err := s.heardLease(ctx, f.lease); err != nil {
			return err
		}
	}
	if s.jobs[j.key] != j {
		return nil
	}
	return s.mend(ctx, j, f.none)
}

// mend takes up an attempt that has got stuck between two writes.
func (s *session) mend(ctx context.Context, j *job, unclaimed bool) error {
	r, waited := j.record, s.Now().Sub(s.written(j.record.Updated))
	switch {
	case r.Wanted != "": // by a step that is still to come
		return nil
	case r.State == messages.Pending && (unclaimed || j.lease.state == messages.LeaseHeld):
		if err := s.halt(ctx, j, r.Code); err != nil { // reset, and the worker was not told
			return err
		}
		s.place(j)
	case j.lease.state == messages.LeaseStopping && s.Now().Add(s.reigned.ahead).Sub(j.lease.at) > s.cfg.LeaseGrace && !s.live(r.Backend, j.lease.owner):
		return s.bury(ctx, j)
	case r.State == messages.Running && !j.discarded.IsZero() && s.Now().Sub(j.discarded) > s.cfg.Reconcile:
		return s.retry(ctx, j, j.lease.owner, "its worker stopped it and did not say why")
	case r.State == messages.Running && j.lease.state == messages.LeaseReleased && r.Code == messages.Finalizing && s.Now().Add(s.reigned.ahead).Sub(j.lease.at) > s.cfg.LeaseGrace:
		return s.checkFiles(ctx, j)
	case r.State == messages.Running && j.lease.state == messages.LeaseReleased && r.Code != messages.Finalizing && s.silent(j.lease):
		return s.retry(ctx, j, j.lease.owner, "its worker let it go and did not say how it ended")
	case unclaimed && j.unclaimed() && waited > s.cfg.ClaimWait && !s.served(r):
		return s.takeBack(ctx, j, messages.WaitingOnWorkers)
	case r.Code == messages.Initiated && unclaimed && (j.published.IsZero() || s.Now().Sub(j.published) > s.cfg.ClaimWait):
		s.remember(ctx, r)
		return s.publishAgain(ctx, j) // by a planner before this one, or taken by nobody
	case r.State == messages.Running && r.Code != messages.Initiated && unclaimed && waited > s.cfg.LeaseGrace:
		if err := s.halt(ctx, j, messages.InternalError); err != nil { // the lease is gone, marker and all
			return err
		}
		return s.retry(ctx, j, r.Worker, "its lease is gone")
	}
	return nil
}

// silent reports whether a lease was released so long ago that an event about
// its end should have come. If the files are with the persister after all, the
// first commit counts.
func (s *session) silent(h held) bool {
	return s.Now().Add(s.reigned.ahead).Sub(h.at) > 10*s.cfg.LeaseGrace
}

// served reports whether a live worker takes actions of a job's pool.
func (s *session) served(r *messages.Job) bool {
	for _, w := range s.backend(r.Backend).workers {
		if w.presence != nil && !w.presence.Draining && w.presence.Pools[r.Pool].Total > 0 {
			return true
		}
	}
	return false
}

// bury fences a lease whose worker was told to stop and has gone away since.
func (s *session) bury(ctx context.Context, j *job) error {
	fenced := s.fence(j.record, j.lease.owner, j.record.Code)
	revision, err := s.Leases.Update(ctx, messages.LeaseKey(j.key.backend, j.key.id, j.record.Attempt), fenced, j.lease.revision, s.cfg.LeaseKeep)
	if errors.Is(err, messages.ErrConflict) {
		return nil // it has moved after all; the next pass sees how
	}
	if err != nil {
		return fmt.Errorf("fence attempt %d of job %s: %w", j.record.Attempt, j.key.id, err)
	}
	j.lease = held{state: messages.LeaseFenced, owner: j.lease.owner, revision: revision}
	return s.leaseChanged(ctx, j)
}

// refresh lists the jobs at the head of each pool's line, whose records may say
// an old position or an old reason.
func (s *session) refresh(b *backend) {
	const first = 20
	if len(b.backlog.lanes) == 0 {
		return
	}
	_, inFlight := s.usage(b)
	for _, line := range Order(&b.backlog, inFlight) {
		for _, c := range slices.Clip(line[:min(first, len(line))]) {
			b.labels[s.jobs[jobKey{b.name, c.Job}]] = true
		}
	}
}
