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
	code, message := messages.CancelledByUser, messages.CancelledByUser.Message()
	if c.Kill {
		code, message = messages.KilledByAdmin, messages.KilledByAdmin.Message()
	}
	if c.By != "" {
		message += " (" + c.By + ")"
	}
	return s.cancelJobs(ctx, e.Value, &c, code, message)
}

// cancelJobs ends the jobs of a plan, those that need others first: what the
// user cancels must not fail because of what it needs. The owner of the state
// is asked for a few at a time, so that everything else goes on.
func (s *session) cancelJobs(ctx context.Context, plan *messages.Plan, c *messages.Cancel, code messages.Code, message string) error {
	var keys []jobKey
	for _, planned := range slices.Backward(plan.Jobs) {
		if !planned.Reused && (len(c.Actions) == 0 || slices.Contains(c.Actions, planned.Action)) {
			keys = append(keys, jobKey{c.Backend, planned.Job})
		}
	}
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
	if !open || len(d.plan.Jobs) > 0 {
		return fmt.Errorf("request %s is being planned; the cancellation waits for that", c.Request)
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
