package cli

import (
	"fmt"

	"sluice/messages"
)

type cancelCommand struct {
	natsFlags
	Request   string   `arg:"" help:"Id of the request."`
	Actions   []string `arg:"" optional:"" help:"Actions; all of the request's if none is named."`
	Backend   string   `help:"Backend of the request." env:"BACKEND"`
	Workspace string   `help:"Workspace of the request." short:"w"`
	Kill      bool     `help:"End the jobs as killed by an operator."`
}

// Run publishes a cancellation. What has ended stays as it is.
func (cmd *cancelCommand) Run(a *app) error {
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	plan, err := findPlan(a.ctx, c, cmd.Request, cmd.Backend, cmd.Workspace)
	if err != nil {
		return err
	}
	m := &messages.Cancel{
		Request: plan.Request.ID, Backend: plan.Request.Backend, Workspace: plan.Request.Workspace, Actions: cmd.Actions, By: operator(), Kill: cmd.Kill,
	}
	for _, name := range cmd.Actions {
		if !has(plan, name) {
			return usagef("request %s has no job of action %s", cmd.Request, messages.Quote(name))
		}
	}
	if err := c.Publish(a.ctx, m.Subject(), m, ""); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "cancelling %s: sluice status %s shows how its jobs end\n", cmd.Request, cmd.Request)
	return nil
}

func has(plan *messages.Plan, action string) bool {
	for _, j := range plan.Jobs {
		if j.Action == action && !j.Reused {
			return true
		}
	}
	return false
}
