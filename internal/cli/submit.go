package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"sluice/internal/progress"
	"sluice/messages"
)

type submitCommand struct {
	natsFlags
	outputFlags
	Actions   []string      `arg:"" optional:"" help:"Actions; all of the project's if none is named."`
	ID        string        `help:"Id of the request. The same id is the same request, however often it is sent; the default is a new one."`
	Backend   string        `help:"Backend that runs it." required:"" env:"BACKEND"`
	Workspace string        `help:"Workspace for the outputs." short:"w" required:""`
	Repo      string        `help:"URL of the repository." required:""`
	Branch    string        `help:"Branch that has the commit." default:"main"`
	Commit    string        `help:"Commit, 40 hexadecimal digits." required:""`
	Database  string        `help:"Database for database actions."`
	Force     bool          `name:"force-run-dependencies" short:"f" help:"Run what the actions need again, though it has succeeded."`
	Wait      bool          `help:"Follow the jobs to their end; the exit code tells how they ended."`
	Timeout   time.Duration `help:"With --wait, the longest to wait; 0 for no end."`
	Print     bool          `name:"print" help:"Print the message and its subject instead of publishing it."`
}

// Run publishes a request.
func (cmd *submitCommand) Run(a *app) error {
	if len(cmd.Actions) == 0 {
		cmd.Actions = []string{messages.RunAll}
	}
	if cmd.ID == "" {
		cmd.ID = ulid.Make().String()
	}
	r := &messages.Request{
		ID: messages.RequestID(cmd.ID), Backend: cmd.Backend, Workspace: cmd.Workspace, Database: cmd.Database,
		Source:  messages.Source{Repo: cmd.Repo, Branch: cmd.Branch, Commit: cmd.Commit},
		Actions: cmd.Actions, ForceRunDependencies: cmd.Force, CreatedBy: operator(),
	}
	if err := r.Validate(); err != nil {
		return exit(ExitUsage, err)
	}
	data, err := messages.Encode(r)
	if err != nil {
		return err
	}
	if cmd.Print {
		_, err := fmt.Fprintf(a.stdout, "%s\n%s\n", r.Subject(), data)
		return err
	}
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Publish(a.ctx, r.Subject(), r, "request/"+cmd.ID); err != nil {
		return err
	}
	if !cmd.Wait {
		if cmd.JSON {
			return a.printJSON(map[string]string{"id": cmd.ID, "subject": r.Subject()})
		}
		fmt.Fprintf(a.stdout, "%s\n", cmd.ID)
		return nil
	}
	began := time.Now()
	ctx, cancel := withTimeout(a.ctx, cmd.Timeout)
	defer cancel()
	plan, err := awaitPlan(ctx, c, r)
	if err != nil {
		return waitError(err, cmd.ID)
	}
	if plan.Code != "" {
		return a.rejected(plan, cmd.JSON)
	}
	print, printed := cmd.printer(a)
	print.Planned(plan)
	jobs, err := follower{conn: c, plan: plan, print: print}.follow(ctx)
	if err != nil {
		printed()
		return waitError(err, cmd.ID)
	}
	summary := progress.Summary{Plan: plan, Jobs: jobs, Took: time.Since(began)}
	print.Ended(summary)
	printed()
	return verdict(summary)
}

// waitError says that a wait that was broken off breaks nothing else off.
func waitError(err error, id string) error {
	var coded *exitError
	if errors.As(err, &coded) {
		return err
	}
	return exit(ExitCancelled, fmt.Errorf("the wait was broken off (%w); the request goes on: sluice status %s", err, id))
}
