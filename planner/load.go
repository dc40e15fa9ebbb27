package planner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/messages"
)

// load builds the state from the registers, and takes up what was left in the
// middle. Nothing else runs meanwhile.
func (s *session) load(ctx context.Context) error {
	began := s.Now()
	if err := s.loadFleet(ctx); err != nil {
		return err
	}
	undone, open, err := s.loadPlans(ctx)
	if err != nil {
		return err
	}
	records, err := s.loadJobs(ctx, open)
	if err != nil {
		return err
	}
	lists := map[latestKey]messages.Entry[messages.Latest]{}
	err = s.Latest.All(ctx, "*.*.latest.*", func(e messages.Entry[messages.Latest]) {
		if _, backend, workspace, action, err := messages.ParseJobsKey(e.Key); err == nil {
			lists[latestKey{backend, workspace, action}] = e
		}
	})
	if err != nil {
		return fmt.Errorf("read the newest jobs: %w", err)
	}

	// Jobs of a plan that is not done wait for the rest of it.
	known := make([]*job, 0, len(records))
	for key, e := range records {
		if !undone[requestKey{key.backend, e.Value.Request}] {
			known = append(known, &job{key: key, record: e.Value, revision: e.Revision})
		}
	}
	if err := s.adopt(ctx, known); err != nil {
		return err
	}
	s.loadRequests(open, known)
	s.trim(lists)
	if err := s.loadAttempts(ctx, known); err != nil {
		return err
	}
	s.log.Info().Int("jobs", len(s.jobs)).Int("requests", len(s.requests)).Int("unplanned", len(undone)).
		Dur("took", s.Now().Sub(began)).Msg("registers read")
	for key, r := range s.requests {
		if r.open == 0 {
			s.finish(key, r)
		}
	}
	for _, b := range s.backends {
		if err := s.obey(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// loadFleet reads settings and workers.
func (s *session) loadFleet(ctx context.Context) error {
	err := s.Settings.All(ctx, "setting.*", func(e messages.Entry[messages.Setting]) {
		if name, err := settingBackend(e.Key); err == nil && e.Value != nil {
			b := s.backend(name)
			b.revision = e.Revision
			s.adoptSetting(b, *e.Value)
		}
	})
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if err := s.Workers.All(ctx, "worker.>", s.heardWorker); err != nil {
		return fmt.Errorf("read workers: %w", err)
	}
	return nil
}

// loadPlans finds the requests that are not finished, goes on with those whose
// plans are not done, and tells of the rest again: nobody knows how far the
// planner before this one got with telling.
func (s *session) loadPlans(ctx context.Context) (undone map[requestKey]bool, open map[requestKey]*request, err error) {
	undone, open = map[requestKey]bool{}, map[requestKey]*request{}
	var drafts []draft
	err = s.Plans.All(ctx, "*.*.request.*", func(e messages.Entry[messages.Plan]) {
		key := requestKey{e.Value.Request.Backend, e.Value.Request.ID}
		d := draft{key: e.Key, plan: e.Value, revision: e.Revision}
		switch {
		case e.Value.Finished:
		case e.Value.Code != "":
			s.announceLater(d, time.Time{})
		case !e.Value.Done:
			undone[key] = true
			drafts = append(drafts, d)
		default:
			open[key] = newRequest(e.Value.Request.Workspace)
			s.announceLater(d, time.Time{})
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read plans: %w", err)
	}
	for _, d := range drafts {
		s.pursue(d)
	}
	return undone, open, nil
}

// loadJobs returns the records of the jobs that have not ended, and keeps what
// became of the others until trim.
func (s *session) loadJobs(ctx context.Context, open map[requestKey]*request) (map[jobKey]messages.Entry[messages.Job], error) {
	records := map[jobKey]messages.Entry[messages.Job]{}
	err := s.Jobs.All(ctx, "*.*.*", func(e messages.Entry[messages.Job]) {
		key := keyOf(e.Value)
		untouched := e.Value.State == messages.Pending && e.Value.Updated.Equal(e.Value.Created)
		if open[requestKey{key.backend, e.Value.Request}] != nil && !untouched {
			s.tellLater(e.Value, e.Revision)
		}
		if e.Value.State.Final() {
			s.past[key] = pastOf(e.Value)
			return
		}
		records[key] = e
	})
	if err != nil {
		return nil, fmt.Errorf("read jobs: %w", err)
	}
	return records, nil
}

func pastOf(j *messages.Job) ended {
	return ended{action: j.Action, state: j.State, created: j.Created, manifest: j.Manifest}
}

// loadRequests counts the open jobs of each request.
func (s *session) loadRequests(open map[requestKey]*request, known []*job) {
	s.requests = open
	for _, j := range known {
		s.requestOf(j.record).open++
	}
}

// requestOf returns the request of a job, which is known as long as it has open
// jobs.
func (s *session) requestOf(j *messages.Job) *request {
	key := requestKey{j.Backend, j.Request}
	r := s.requests[key]
	if r == nil {
		r = newRequest(j.Workspace)
		s.requests[key] = r
	}
	return r
}

// trim lets go of ended jobs that no Latest list names.
func (s *session) trim(lists map[latestKey]messages.Entry[messages.Latest]) {
	named := map[jobKey]ended{}
	for key, e := range lists {
		s.relist(key, e.Value.Jobs, e.Revision)
		for _, id := range e.Value.Jobs {
			if past, ok := s.past[jobKey{key.backend, id}]; ok {
				named[jobKey{key.backend, id}] = past
			}
		}
	}
	s.past = named
}

// adopt takes jobs into the state.
func (s *session) adopt(ctx context.Context, list []*job) error {
	slices.SortFunc(list, func(a, b *job) int { return a.record.Created.Compare(b.record.Created) })
	for _, j := range list { // what one waits for was created before it
		for _, id := range s.keep(j) {
			if err := s.lookUp(ctx, j, id); err != nil {
				return err
			}
		}
	}
	for _, j := range list {
		s.place(j)
	}
	return nil
}

// lookUp asks the register about a job that another one waits for.
func (s *session) lookUp(ctx context.Context, j *job, id messages.JobID) error {
	e, err := s.Jobs.Get(ctx, messages.JobKey(j.key.backend, j.record.Workspace, id))
	switch {
	case errors.Is(err, messages.ErrNotFound), errors.Is(err, messages.ErrUnreadable):
		j.doom = string(id)
	case err != nil:
		return fmt.Errorf("read what job %s waits for: %w", j.key.id, err)
	case e.Value.State.Final() && e.Value.State != messages.Succeeded:
		j.doom = e.Value.Action
	case !e.Value.State.Final():
		key := jobKey{j.key.backend, id} // of a plan that is not done yet
		j.waits++
		s.waiters[key] = append(s.waiters[key], j)
	}
	return nil
}

// loadAttempts looks at the lease and the commit of every job that was ever
// dispatched, and at the leases of attempts whose jobs have ended.
func (s *session) loadAttempts(ctx context.Context, known []*job) error {
	tried := slices.DeleteFunc(slices.Clone(known), func(j *job) bool { return j.record.Attempt == 0 })
	if err := s.inspect(ctx, tried); err != nil {
		return err
	}
	var strays []messages.Entry[messages.Lease]
	err := s.Leases.All(ctx, ">", func(e messages.Entry[messages.Lease]) {
		if e.Value != nil && e.Value.Counts() {
			strays = append(strays, e)
		}
	})
	if err != nil {
		return fmt.Errorf("read leases: %w", err)
	}
	for _, e := range strays {
		if err := s.bear(s.heardLease(ctx, e)); err != nil {
			return err
		}
	}
	for _, j := range known {
		if j.record.Wanted != "" && s.jobs[j.key] == j {
			if err := s.spare(ctx, j, s.end(ctx, j, j.record.Wanted, j.record.Message)); err != nil {
				return err
			}
		}
	}
	return nil
}
