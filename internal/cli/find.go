package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sluice/jetstream"
	"sluice/messages"
)

// errUnknown says that no planner has written a request down.
var errUnknown = errors.New("no such request")

// findPlan finds a request by its id, and by backend and workspace where the
// id alone is not enough. It wraps errUnknown.
func findPlan(ctx context.Context, c *jetstream.Conn, id, backend, workspace string) (*messages.Plan, error) {
	if err := messages.RequestID(id).Check(); err != nil {
		return nil, exit(ExitUsage, err)
	}
	filter := orStar(backend) + "." + orStar(workspace) + ".request." + messages.Token(id)
	var found []*messages.Plan
	err := c.PlansRegister().All(ctx, filter, func(e messages.Entry[messages.Plan]) { found = append(found, e.Value) })
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, usagef("%w: %s is not known here; `sluice status --all` lists all jobs with their workspaces", errUnknown, messages.Quote(id))
	case len(found) > 1:
		return nil, usagef("request %s exists in %d workspaces: name one with --backend and --workspace", messages.Quote(id), len(found))
	}
	return found[0], nil
}

func orStar(s string) string {
	if s == "" {
		return "*"
	}
	return messages.Token(s)
}

// jobsOf reads the jobs of a plan, in its order.
func jobsOf(ctx context.Context, c *jetstream.Conn, plan *messages.Plan) ([]*messages.Job, error) {
	var jobs []*messages.Job
	for _, p := range plan.Jobs {
		e, err := c.JobsRegister().Get(ctx, messages.JobKey(plan.Request.Backend, plan.Request.Workspace, p.Job))
		if errors.Is(err, messages.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, e.Value)
	}
	return jobs, nil
}

// allJobs reads every job that the filters admit, newest first.
func allJobs(ctx context.Context, c *jetstream.Conn, backend, workspace string, keep func(*messages.Job) bool) ([]*messages.Job, error) {
	var jobs []*messages.Job
	err := c.JobsRegister().All(ctx, orStar(backend)+"."+orStar(workspace)+".*", func(e messages.Entry[messages.Job]) {
		if keep == nil || keep(e.Value) {
			jobs = append(jobs, e.Value)
		}
	})
	slices.SortFunc(jobs, func(x, y *messages.Job) int { return y.Created.Compare(x.Created) })
	return jobs, err
}

// jobFlags name one job.
type jobFlags struct {
	natsFlags
	Job       string `arg:"" help:"Job (the beginning of its id), or an action: its newest job."`
	Backend   string `help:"Backend of the job." env:"BACKEND"`
	Workspace string `help:"Workspace of the job." short:"w"`
}

// open connects, and finds the job.
func (f jobFlags) open(a *app) (*jetstream.Conn, *messages.Job, error) {
	c, err := f.client(a)
	if err != nil {
		return nil, nil, err
	}
	j, err := findJob(a.ctx, c, f.Job, f.Backend, f.Workspace)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, j, nil
}

// findJob finds a job by the beginning of its id, or by request and action.
func findJob(ctx context.Context, c *jetstream.Conn, name, backend, workspace string) (*messages.Job, error) {
	jobs, err := allJobs(ctx, c, backend, workspace, func(j *messages.Job) bool {
		return len(name) >= 4 && len(j.ID) >= len(name) && string(j.ID[:len(name)]) == name || j.Action == name
	})
	if err != nil {
		return nil, err
	}
	if len(jobs) == 0 {
		return nil, usagef("no job or action %s is known", messages.Quote(name))
	}
	if first := jobs[0]; first.Action == name {
		for _, j := range jobs[1:] {
			if j.Workspace != first.Workspace || j.Backend != first.Backend {
				return nil, usagef("action %s exists in several workspaces: name one with --backend and --workspace", messages.Quote(name))
			}
		}
		return first, nil // the newest job of the action
	}
	if len(jobs) > 1 {
		return nil, exit(ExitUsage, fmt.Errorf("%d jobs begin with %s: give more of the id", len(jobs), messages.Quote(name)))
	}
	return jobs[0], nil
}
