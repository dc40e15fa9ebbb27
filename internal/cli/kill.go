package cli

import (
	"fmt"

	"sluice/internal/progress"
	"sluice/messages"
)

type killCommand struct {
	natsFlags
	Jobs      []string `arg:"" help:"Jobs (the beginnings of their ids), or actions: their newest jobs."`
	Backend   string   `help:"Backend of the jobs." env:"BACKEND"`
	Workspace string   `help:"Workspace of the jobs." short:"w"`
	JSON      bool     `help:"Print {\"job\", \"action\", \"request\"}, an object a job."`
}

// Run ends jobs as killed by an operator. All are looked up before one is
// killed; one that has ended is refused.
func (cmd *killCommand) Run(a *app) error {
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	var jobs []*messages.Job
	for _, name := range cmd.Jobs {
		j, err := findJob(a.ctx, c, name, cmd.Backend, cmd.Workspace)
		if err != nil {
			return err
		}
		if j.State.Final() {
			return usagef("job %s of action %s is already finished: %s", j.ID, messages.Quote(j.Action), j.Code)
		}
		jobs = append(jobs, j)
	}
	for _, j := range jobs {
		m := &messages.Cancel{Request: j.Request, Backend: j.Backend, Workspace: j.Workspace, Actions: []string{j.Action}, By: operator(), Kill: true}
		if err := c.Publish(a.ctx, m.Subject(), m, ""); err != nil {
			return err
		}
		if cmd.JSON {
			if err := a.printJSON(map[string]any{"job": j.ID, "action": j.Action, "request": j.Request}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(a.stdout, "killing %s (%s of %s): sluice explain %s shows how it ends\n", j.ID, progress.Clean(j.Action), j.Workspace, j.ID)
	}
	return nil
}
