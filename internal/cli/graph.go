package cli

import (
	"errors"
	"fmt"

	"sluice/messages"
	"sluice/planner/project"
)

type graphCommand struct {
	natsFlags
	File      string `arg:"" optional:"" default:"project.yaml" help:"Project file, or - for standard input."`
	Format    string `help:"text, mermaid or svg." default:"text" enum:"text,mermaid,svg"`
	Backend   string `help:"With --workspace: mark each action with its newest job there." env:"BACKEND"`
	Workspace string `help:"Mark each action with its newest job in this workspace." short:"w"`
}

// Run prints a project's graph.
func (cmd *graphCommand) Run(a *app) error {
	name, data, err := readInput(a, cmd.File)
	if err != nil {
		return err
	}
	p, problems := project.Parse(data)
	if len(problems) > 0 {
		fmt.Fprint(a.stderr, project.Check(name, data).Text())
		return exit(ExitUsage, nil)
	}
	status, err := cmd.status(a, p)
	if err != nil {
		return err
	}
	draw := map[string]func(*project.Project, map[string]string) string{"text": project.GraphText, "mermaid": project.GraphMermaid, "svg": project.GraphSVG}[cmd.Format]
	_, err = fmt.Fprint(a.stdout, draw(p, status))
	return err
}

// status is the state of each action's newest job, if a workspace is named.
func (cmd *graphCommand) status(a *app, p *project.Project) (map[string]string, error) {
	if cmd.Workspace == "" {
		return nil, nil
	}
	if cmd.Backend == "" {
		return nil, usagef("--workspace needs --backend, or BACKEND")
	}
	c, err := cmd.client(a)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	status := map[string]string{}
	for _, action := range p.Actions {
		latest, err := c.LatestRegister().Get(a.ctx, messages.LatestKey(cmd.Backend, cmd.Workspace, action.Name))
		if errors.Is(err, messages.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if latest.Value == nil || len(latest.Value.Jobs) == 0 {
			continue
		}
		job, err := c.JobsRegister().Get(a.ctx, messages.JobKey(cmd.Backend, cmd.Workspace, latest.Value.Jobs[0]))
		if err != nil {
			return nil, err
		}
		status[action.Name] = string(job.Value.State)
	}
	return status, nil
}
