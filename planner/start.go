package planner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/internal/fault"
	"sluice/messages"
)

// admit starts the jobs of a backend that can start now.
func (s *session) admit(ctx context.Context, b *backend) error {
	for b.dirty {
		b.dirty = false
		if len(b.backlog.lanes) == 0 {
			return nil
		}
		pools, inFlight := s.usage(b)
		var list []*job
		for _, c := range Admit(&b.backlog, pools, inFlight, s.cfg.Window) {
			j := s.jobs[jobKey{b.name, c.Job}]
			b.unplace(j)
			delete(b.labels, j)
			if missing := s.resolve(j); missing != "" {
				j.doom = missing
				s.place(j)
				b.dirty = true // its room is free again
				continue
			}
			s.remember(ctx, j.record)
			list = append(list, j)
		}
		if err := s.dispatch(ctx, list); err != nil {
			return err
		}
	}
	return nil
}

// usage adds up what the live workers of a backend have, and what is in flight.
func (s *session) usage(b *backend) (pools map[string]Pool, inFlight map[string]float64) {
	pools, inFlight = map[string]Pool{}, map[string]float64{}
	for _, w := range b.workers {
		if w.presence == nil || w.presence.Draining || slices.Contains(b.setting.Drain, w.presence.Worker) {
			continue
		}
		for name, slots := range w.presence.Pools {
			p := pools[name]
			p.Workers++
			p.Total += slots.Total
			p.Largest = max(p.Largest, slots.Total)
			pools[name] = p
		}
	}
	use := func(workspace, pool string, weight float64) {
		p := pools[pool]
		p.InFlight += weight
		pools[pool] = p
		inFlight[workspace] += weight
	}
	for _, j := range b.tried {
		if j.inFlight() {
			use(j.record.Workspace, j.record.Pool, j.record.Weight)
		}
	}
	for key, o := range s.orphans {
		if key.backend == b.name {
			use(o.workspace, o.pool, o.weight)
		}
	}
	for name, p := range pools {
		p.Limit = s.limit(b, name)
		pools[name] = p
	}
	return pools, inFlight
}

// limit returns the slots of a pool on the whole backend; 0 for no limit.
func (s *session) limit(b *backend, pool string) float64 {
	if limit, ok := b.setting.Limits[pool]; ok {
		return limit
	}
	if limit, ok := s.cfg.BackendLimits[b.name][pool]; ok {
		return limit
	}
	return s.cfg.PoolLimits[pool]
}

// resolve finds the inputs of a job's next attempt: of each action that it
// needs the newest job that has succeeded. It returns the first action that has
// none any more.
func (s *session) resolve(j *job) (missing string) {
	inputs := make([]messages.Input, 0, len(j.record.Needs))
	seen := make(map[string]bool, len(j.record.Needs))
needs:
	for _, need := range j.record.Needs {
		if seen[need] {
			continue
		}
		seen[need] = true
		if l := s.latest[latestKey{j.key.backend, j.record.Workspace, need}]; l != nil {
			for _, id := range l.list {
				if past, ok := s.past[jobKey{j.key.backend, id}]; ok && past.state == messages.Succeeded {
					inputs = append(inputs, messages.Input{Action: need, Job: id, Created: past.created, Manifest: past.manifest})
					continue needs
				}
			}
		}
		return need
	}
	next := *j.record
	next.Inputs = inputs
	j.record = &next
	return ""
}

// dispatch begins the next attempts of jobs: first the records, then the
// actions, in order.
func (s *session) dispatch(ctx context.Context, list []*job) error {
	err := s.eachJob(ctx, list, func(ctx context.Context, i int) error {
		return s.save(ctx, list[i], func(r *messages.Job) error {
			r.Attempt++
			r.Worker = ""
			return r.Set(messages.Initiated, "", s.Now())
		})
	})
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(j *job) bool { return s.jobs[j.key] != j })
	actions := make([]messages.Outgoing, len(list))
	for i, j := range list {
		j.lease, j.discarded, j.published, j.gone = held{}, time.Time{}, time.Time{}, 0
		s.backend(j.key.backend).tried[j.key] = j
		actions[i] = s.outgoing(j)
	}
	fault.At("planner.after-record-before-action")
	for i, err := range s.Outbox.PublishAll(ctx, actions) {
		_, err := s.published(list[i], err)
		if err := s.spare(ctx, list[i], err); err != nil {
			return err
		}
	}
	fault.At("planner.after-action")
	return nil
}

// outgoing is the message with the action of a job's newest attempt.
func (s *session) outgoing(j *job) messages.Outgoing {
	a := s.action(j.record)
	id := fmt.Sprintf("action/%s/%s/%d", a.Backend, a.Job, a.Attempt)
	if !j.published.IsZero() { // the server still knows the id of one that is gone
		id += "/" + rand.Text()
	}
	j.published = s.Now()
	return messages.Outgoing{Subject: a.Subject(), Message: a, ID: id}
}

// publish puts the action of a job's newest attempt into its queue, and reports
// whether it was not there: a queue takes one action of a job.
func (s *session) publish(ctx context.Context, j *job) (queued bool, err error) {
	o := s.outgoing(j)
	return s.published(j, s.Outbox.Publish(ctx, o.Subject, o.Message, o.ID))
}

// published reports what came of publishing a job's action, see publish.
func (s *session) published(j *job, err error) (queued bool, _ error) {
	a := j.record
	switch {
	case errors.Is(err, messages.ErrQueued):
		return false, nil
	case errors.Is(err, messages.ErrFull):
		s.log.Warn().Err(err).Str("job", string(a.ID)).Msg("the queue of actions is full; the action is published later")
		return false, nil
	case err != nil:
		return false, fmt.Errorf("publish action of job %s: %w", a.ID, err)
	}
	s.log.Info().Str("job", string(a.ID)).Str("action", a.Action).Str("workspace", a.Workspace).Str("backend", a.Backend).Str("pool", a.Pool).Int("attempt", a.Attempt).Msg("action published")
	return true, nil
}

// mostGone is how often the action of one attempt may leave its queue without
// being claimed. Once can be a server's loss.
const mostGone = 2

// publishAgain publishes an action that nobody has claimed, if it is not in its
// queue any more. One that goes away again and again is parked by whoever takes
// it, who cannot read it: then the attempt has failed.
func (s *session) publishAgain(ctx context.Context, j *job) error {
	ours := !j.published.IsZero() // or a planner's before this one, which may have died before it did
	queued, err := s.publish(ctx, j)
	if err != nil || !queued || !ours {
		return err
	}
	if j.gone++; j.gone < mostGone {
		return nil
	}
	fenced, err := s.fenceUnclaimed(ctx, j, messages.InternalError)
	if err != nil || !fenced {
		return err
	}
	return s.retry(ctx, j, "", fmt.Sprintf("its action was taken %d times and claimed by no worker; the dead letters may say why", mostGone))
}

// action returns what a worker needs for the newest attempt of a job.
func (s *session) action(r *messages.Job) *messages.Action {
	a := &messages.Action{
		Job: r.ID, Attempt: r.Attempt, Request: r.Request, Backend: r.Backend, Pool: r.Pool, Workspace: r.Workspace, Name: r.Action, Source: r.Runs(),
		Image: r.Image, Digest: r.Digest, Args: r.Args, Env: r.Env, Database: r.Database, Dataset: r.Dataset, Weight: r.Weight, Inputs: r.Inputs, Limits: r.Limits,
		Hard: s.limit(s.backends[r.Backend], r.Pool) > 0,
	}
	if request := s.requests[requestKey{r.Backend, r.Request}]; request != nil {
		a.Patterns = request.patterns
	}
	return a
}

// remember reads the patterns of a folder's project, if a session before this
// one planned it.
func (s *session) remember(ctx context.Context, r *messages.Job) {
	request := s.requestOf(r)
	if r.Commit != messages.WorkingFolder || request.patterns != nil {
		return
	}
	p, err := s.readProject(ctx, r.Source)
	if err != nil {
		s.log.Warn().Err(err).Msg("the folder's project file cannot be read again; its outputs are staged as if they were code")
		return
	}
	request.patterns = patternsOf(p)
}
