package planner

import (
	"context"
	"time"

	"sluice/messages"
)

// place finds out what a pending job waits for, and puts it into the backlog if
// it is for nothing but room. It is called whenever something about the job, or
// about its backend's setting, has changed.
func (s *session) place(j *job) {
	b := s.backend(j.key.backend)
	b.unplace(j)
	delete(b.labels, j)
	delete(s.alarms, j)
	s.watchLease(j)
	if j.record.State != messages.Pending || j.record.Wanted != "" {
		return
	}
	if j.doom != "" {
		s.doomed[j] = true
		return
	}
	code, ready, again := s.standby(b, j)
	if !again.IsZero() {
		s.alarms[j] = again
	}
	if ready {
		r := j.record
		j.place = &Candidate{Job: r.ID, Workspace: r.Workspace, Pool: r.Pool, Database: r.Database, Weight: r.Weight, Created: r.Created}
		b.backlog.Add(j.place)
		b.dirty = true
	}
	if code != j.record.Code {
		b.labels[j] = true
	}
}

// standby returns the code with which a pending job waits, whether it is ready
// to start, and when to look again, if time alone changes that. What an operator has set comes before what the job needs, as
// in the reference (controller/main.py, handle_job).
func (s *session) standby(b *backend, j *job) (code messages.Code, ready bool, again time.Time) {
	r := j.record
	switch {
	case b.setting.Reboot != nil || b.setting.Paused != nil:
		if r.Code == messages.WaitingOnReboot {
			return r.Code, false, again
		}
		return messages.Paused, false, again
	case b.setting.Maintenance != nil && r.Database:
		return messages.WaitingDBMaintenance, false, again
	case j.waits > 0:
		return messages.WaitingOnDependencies, false, again
	case j.lease.counts(): // the attempt before is not over yet
		return r.Code, false, again
	}
	if again = s.retryAt(r); again.After(s.Now()) {
		return messages.WaitingOnNewTask, false, again
	}
	if r.Database {
		return messages.WaitingOnDBWorkers, true, time.Time{}
	}
	return messages.WaitingOnWorkers, true, time.Time{}
}

// retryAt returns when the next attempt of a job may start.
func (s *session) retryAt(r *messages.Job) time.Time {
	if len(r.Lost) == 0 {
		return time.Time{}
	}
	last := r.Lost[len(r.Lost)-1]
	if last.Attempt != r.Attempt {
		return time.Time{}
	}
	wait := s.cfg.Backoff
	for range len(r.Lost) - 1 {
		wait = min(2*wait, s.cfg.MaxBackoff)
	}
	return s.written(last.At).Add(wait)
}

// written returns a time of a record. One that is still to come was written
// before this machine's clock was set back: all that is known of it is that it
// was before this session.
func (s *session) written(at time.Time) time.Time {
	if at.After(s.Now()) {
		return s.began
	}
	return at
}

// cascade ends jobs whose needs have failed, and what needs those, and so on.
func (s *session) cascade(ctx context.Context) error {
	const most = 256 // at a time; the rest has its turn soon
	alive := make([]*job, 0, min(len(s.doomed), most))
	for j := range s.doomed {
		if len(alive) == most {
			break
		}
		delete(s.doomed, j)
		if s.jobs[j.key] == j && j.record.State == messages.Pending && j.record.Wanted == "" {
			alive = append(alive, j)
		}
	}
	err := s.eachJob(ctx, alive, func(ctx context.Context, i int) error {
		j := alive[i]
		return s.set(ctx, j, messages.DependencyFailed, messages.DependencyFailed.Message()+": "+messages.Quote(j.doom)+" did not succeed")
	})
	if err != nil {
		return err
	}
	for _, j := range alive {
		if s.jobs[j.key] != j {
			continue
		}
		if err := s.over(ctx, j); err != nil {
			return err
		}
	}
	return nil
}
