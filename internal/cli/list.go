package cli

import (
	"fmt"
	"slices"
	"time"

	"sluice/messages"
)

// jobFilters choose jobs.
type jobFilters struct {
	Backend   string        `help:"Only this backend." env:"BACKEND"`
	Workspace string        `help:"Only this workspace." short:"w"`
	Request   string        `help:"Only of this request."`
	Action    string        `help:"Only of this action."`
	State     []string      `help:"Only in these states: pending, running, succeeded, failed."`
	Code      []string      `help:"Only with these codes, such as waiting_on_workers."`
	Worker    string        `help:"Only on this worker."`
	Since     time.Duration `help:"Only those whose record changed within this time, such as 24h."`
}

// check refuses what no job can be.
func (f jobFilters) check() error {
	for _, s := range f.State {
		switch messages.State(s) {
		case messages.Pending, messages.Running, messages.Succeeded, messages.Failed:
		default:
			return usagef("%s is not a state: pending, running, succeeded, failed", messages.Quote(s))
		}
	}
	for _, code := range f.Code {
		if err := messages.Code(code).Check(); err != nil {
			return exit(ExitUsage, err)
		}
	}
	return nil
}

// admits reports whether a job is one of those.
func (f jobFilters) admits(j *messages.Job, now time.Time) bool {
	oneOf := func(list []string, value string) bool { return len(list) == 0 || slices.Contains(list, value) }
	return oneOf(f.State, string(j.State)) && oneOf(f.Code, string(j.Code)) &&
		(f.Request == "" || string(j.Request) == f.Request) && (f.Action == "" || j.Action == f.Action) && (f.Worker == "" || j.Worker == f.Worker) &&
		(f.Since <= 0 || now.Sub(j.Updated) <= f.Since)
}

type listCommand struct {
	natsFlags
	jobFilters
	Limit int  `help:"The most jobs to print, newest first; 0 for all." default:"100"`
	JSON  bool `help:"Print an object a job."`
}

// Run lists jobs, ended ones too.
func (cmd *listCommand) Run(a *app) error {
	if err := cmd.check(); err != nil {
		return err
	}
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	now := time.Now()
	jobs, err := allJobs(a.ctx, c, cmd.Backend, cmd.Workspace, func(j *messages.Job) bool { return cmd.admits(j, now) })
	if err != nil {
		return err
	}
	left := 0
	if cmd.Limit > 0 && len(jobs) > cmd.Limit {
		left = len(jobs) - cmd.Limit
		jobs = jobs[:cmd.Limit]
	}
	if err := a.printTable(jobs, cmd.JSON, "no job is like that"); err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(a.stderr, "sluice: %d more: --limit 0 prints all\n", left)
	}
	return nil
}
