package planner

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sluice/messages"
)

// cancel takes a cancellation. Jobs that have ended stay as they are (I2).
func (s *session) cancel(ctx context.Context, place messages.Place, d *messages.Delivery) error {
	var c messages.Cancel
	if err := messages.Decode(d.Data, &c); err != nil {
		return messages.Park("cancellation: %w", err)
	}
	if c.Backend != place.Backend || c.Workspace != place.Workspace {
		return messages.Park("the cancellation is for workspace %s on backend %s, and was published for workspace %s on backend %s", c.Workspace, c.Backend, place.Workspace, place.Backend)
	}
	s.planning.Lock() // a plan that is done has its jobs in the state, too
	e, err := s.Plans.Get(ctx, messages.PlanKey(c.Backend, c.Workspace, c.Request))
	s.planning.Unlock()
	if errors.Is(err, messages.ErrNotFound) {
		return messages.Park("there is no request %s in workspace %s of backend %s that could be cancelled", c.Request, c.Workspace, c.Backend)
	}
	if err != nil {
		return fmt.Errorf("read plan of request %s: %w", c.Request, err)
	}
	plan := draft{key: e.Key, plan: e.Value, revision: e.Revision}
	switch {
	case e.Value.Code != "":
		return nil // it has no jobs of its own
	case !e.Value.Done:
		return s.withdraw(ctx, plan, &c)
	}
	return s.cancelJobs(ctx, e.Value, &c)
}

// meant reports whether a cancellation is for an action.
func meant(c *messages.Cancel, action string) bool {
	return len(c.Actions) == 0 || slices.Contains(c.Actions, action)
}

// cancelled returns how jobs end that are cancelled.
func cancelled(c *messages.Cancel) (code messages.Code, message string) {
	code = messages.CancelledByUser
	if c.Kill {
		code = messages.KilledByAdmin
	}
	if message = code.Message(); c.By != "" {
		message += " (" + c.By + ")"
	}
	return code, message
}

// cancelJobs ends the jobs of a plan, those that need others first: what the
// user cancels must not fail because of what it needs. The owner of the state
// is asked for a few at a time, so that everything else goes on.
func (s *session) cancelJobs(ctx context.Context, plan *messages.Plan, c *messages.Cancel) error {
	var keys []jobKey
	for _, planned := range slices.Backward(plan.Jobs) {
		if !planned.Reused && meant(c, planned.Action) {
			keys = append(keys, jobKey{c.Backend, planned.Job})
		}
	}
	code, message := cancelled(c)
	s.log.Info().Str("request", string(c.Request)).Str("backend", c.Backend).Str("by", c.By).Int("jobs", len(keys)).Str("code", string(code)).Msg("jobs are cancelled")
	for part := range slices.Chunk(keys, 16) {
		err := s.do(ctx, func(ctx context.Context) error {
			for _, key := range part {
				if j := s.jobs[key]; j != nil {
					if err := s.spare(ctx, j, s.want(ctx, j, code, message)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// withdraw cancels a request that is not planned yet.
func (s *session) withdraw(ctx context.Context, d draft, c *messages.Cancel) error {
	s.planning.Lock()
	defer s.planning.Unlock()
	open, err := s.reread(ctx, &d)
	if err != nil {
		return err
	}
	if !open {
		return fmt.Errorf("request %s was planned just now; the cancellation comes again at once", c.Request)
	}
	if len(d.plan.Jobs) > 0 {
		return s.keepCancel(ctx, d, c)
	}
	left := slices.DeleteFunc(slices.Clone(d.plan.Request.Actions), func(name string) bool { return slices.Contains(c.Actions, name) })
	switch {
	case len(c.Actions) == 0 || len(left) == 0:
		code := messages.CancelledByUser
		if c.Kill {
			code = messages.KilledByAdmin
		}
		return s.reject(ctx, d, code, []string{code.Message()})
	case len(left) == len(d.plan.Request.Actions) || slices.Contains(left, messages.RunAll):
		return messages.Park("request %s is not planned yet, and does not name the actions; cancel all of it, or cancel again later", c.Request)
	}
	plan := *d.plan
	plan.Request.Actions = left
	d.plan = &plan
	return s.write(ctx, &d)
}

// keepCancel writes a cancellation into a plan of which some jobs are written
// and some are not. Whoever carries the plan out obeys it: that may take as long
// as the project file is away, and nobody else waits for it.
func (s *session) keepCancel(ctx context.Context, d draft, c *messages.Cancel) error {
	plan, kept := *d.plan, *c
	kept.Actions = nil
	before := d.plan.Cancel
	if len(c.Actions) > 0 && (before == nil || len(before.Actions) > 0) {
		for _, planned := range plan.Jobs {
			if meant(c, planned.Action) || before != nil && meant(before, planned.Action) {
				kept.Actions = append(kept.Actions, planned.Action)
			}
		}
		if len(kept.Actions) == 0 {
			return nil // for none of its jobs
		}
	}
	plan.Cancel = &kept
	d.plan = &plan
	return s.write(ctx, &d)
}

// markCancelled writes into a job's record that its plan was cancelled before it
// began: it waits for nothing but its end.
func (s *session) markCancelled(ctx context.Context, j *job, c *messages.Cancel) error {
	if c == nil || !meant(c, j.record.Action) || j.record.State.Final() || j.record.Wanted != "" {
		return nil
	}
	return s.save(ctx, j, func(r *messages.Job) error {
		code, message := cancelled(c)
		r.Wanted, r.Message = code, clip(message)
		r.Touch(s.Now())
		return nil
	})
}
