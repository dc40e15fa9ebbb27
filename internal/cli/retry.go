package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"

	"sluice/jetstream"
	"sluice/messages"
)

type retryCommand struct {
	natsFlags
	Name      string   `arg:"" help:"A request, a job (the beginning of its id), or an action: its newest job."`
	Actions   []string `arg:"" optional:"" help:"Of a request, these actions only; without names, all whose jobs failed."`
	Cancelled bool     `help:"Of a request, also what was cancelled or killed."`
	Backend   string   `help:"Backend of it." env:"BACKEND"`
	Workspace string   `help:"Workspace of it." short:"w"`
	ID        string   `help:"Id of the new request."`
	JSON      bool     `help:"Print {\"id\", \"subject\", \"actions\", \"retries\"}."`
}

// Run asks again, at the same commit, for actions whose jobs failed. A job that
// has ended never changes: this is a new request with jobs of its own.
func (cmd *retryCommand) Run(a *app) error {
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	plan, actions, err := cmd.find(a.ctx, c)
	if err != nil {
		return err
	}
	if cmd.ID == "" {
		cmd.ID = ulid.Make().String()
	}
	r := plan.Request
	was := r.ID
	r.ID, r.Actions, r.ForceRunDependencies = messages.RequestID(cmd.ID), actions, false
	if r.ID == was {
		return usagef("request %s is the one to retry: give the new one another id", messages.Quote(cmd.ID))
	}
	if err := r.Validate(); err != nil {
		return exit(ExitUsage, err)
	}
	if err := c.Publish(a.ctx, r.Subject(), &r, "request/"+cmd.ID); err != nil {
		return err
	}
	if cmd.JSON {
		return a.printJSON(map[string]any{"id": r.ID, "subject": r.Subject(), "actions": actions, "retries": was})
	}
	fmt.Fprintf(a.stdout, "%s\n", cmd.ID)
	return nil
}

// find returns the plan of what is to be done again, and the actions to ask
// for.
func (cmd *retryCommand) find(ctx context.Context, c *jetstream.Conn) (*messages.Plan, []string, error) {
	plan, err := findPlan(ctx, c, cmd.Name, cmd.Backend, cmd.Workspace)
	if err == nil {
		actions, err := cmd.failed(ctx, c, plan)
		return plan, actions, err
	}
	if !errors.Is(err, errUnknown) && messages.RequestID(cmd.Name).Check() == nil {
		return nil, nil, err
	}
	j, err := findJob(ctx, c, cmd.Name, cmd.Backend, cmd.Workspace)
	if err != nil {
		return nil, nil, err
	}
	if j.State != messages.Failed {
		return nil, nil, usagef("job %s of action %s has not failed: its code is %s", j.ID, messages.Quote(j.Action), j.Code)
	}
	e, err := c.PlansRegister().Get(ctx, messages.PlanKey(j.Backend, j.Workspace, j.Request))
	if err != nil {
		return nil, nil, fmt.Errorf("read the request of job %s: %w", j.ID, err)
	}
	return e.Value, []string{j.Action}, nil
}

// failed lists the actions of a request that failed, or of those that are named.
func (cmd *retryCommand) failed(ctx context.Context, c *jetstream.Conn, plan *messages.Plan) ([]string, error) {
	if plan.Code != "" {
		return plan.Request.Actions, nil // it made no jobs
	}
	jobs, err := jobsOf(ctx, c, plan)
	if err != nil {
		return nil, err
	}
	var actions []string
	for _, j := range jobs {
		stopped := j.Code == messages.CancelledByUser || j.Code == messages.KilledByAdmin
		named := slices.Contains(cmd.Actions, j.Action)
		if j.State == messages.Failed && (named || len(cmd.Actions) == 0 && (!stopped || cmd.Cancelled)) {
			actions = append(actions, j.Action)
		}
	}
	for _, name := range cmd.Actions {
		if !slices.Contains(actions, name) {
			return nil, usagef("request %s has no failed job of action %s", plan.Request.ID, messages.Quote(name))
		}
	}
	if len(actions) == 0 {
		return nil, usagef("no job of request %s has failed; --cancelled includes those that were cancelled or killed", plan.Request.ID)
	}
	return actions, nil
}
