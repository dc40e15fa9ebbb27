package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
)

type statusCommand struct {
	natsFlags
	Request   string        `arg:"" optional:"" help:"Id of a request; without one, the jobs of a workspace, or all that have not ended."`
	Backend   string        `help:"Only this backend." env:"BACKEND"`
	Workspace string        `help:"Only this workspace." short:"w"`
	All       bool          `help:"Ended jobs too."`
	Wait      time.Duration `help:"How long to wait for a request that no planner has read yet." default:"3s"`
	JSON      bool          `help:"Print an object a job."`
}

// Run shows jobs from the registers, which say what is true now.
func (cmd *statusCommand) Run(a *app) error {
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	if cmd.Request == "" {
		jobs, err := allJobs(a.ctx, c, cmd.Backend, cmd.Workspace, func(j *messages.Job) bool {
			return cmd.All || cmd.Workspace != "" || !j.State.Final()
		})
		if err != nil {
			return err
		}
		return a.printJobs(jobs, cmd.JSON, "no jobs are waiting or running; --all shows those that have ended")
	}
	plan, queued, err := lookUp(a.ctx, c, cmd.Request, cmd.Backend, cmd.Workspace, cmd.Wait)
	if err != nil {
		return err
	}
	if queued {
		return a.printQueued(c, plan, cmd.JSON)
	}
	if !cmd.JSON {
		printPlan(a.stdout, plan)
	}
	jobs, err := jobsOf(a.ctx, c, plan)
	if err != nil {
		return err
	}
	return a.printJobs(jobs, cmd.JSON, "it has made no jobs")
}

// printQueued tells of a request that no planner has read yet. It is no fault
// of the request: the exit code is 0.
func (a *app) printQueued(c *jetstream.Conn, plan *messages.Plan, asJSON bool) error {
	why := "a planner is active and has others to read first"
	if e, err := c.LeaderRegister().Get(a.ctx, messages.LeaderKey); err != nil || e.Value == nil {
		why = "no planner is active: start one, or see `sluice ps`"
	}
	if said, err := stuck(a.ctx, c); err == nil && len(said) > 0 {
		why = "something is stuck: " + strings.Join(said, "; ")
	}
	r := &plan.Request
	if asJSON {
		return a.printJSON(map[string]any{"request": r.ID, "backend": r.Backend, "workspace": r.Workspace, "queued": true, "message": why})
	}
	fmt.Fprintf(a.stdout, "request %s: workspace %s on %s\nqueued, and not read yet: %s\n", r.ID, r.Workspace, r.Backend, why)
	return nil
}

func printPlan(w io.Writer, plan *messages.Plan) {
	r := &plan.Request
	if r.Repo == "" { // refused before it was written down
		fmt.Fprintf(w, "request %s: workspace %s on %s\n", r.ID, r.Workspace, r.Backend)
	} else {
		printRequest(w, r)
	}
	if plan.Code != "" {
		fmt.Fprintf(w, "rejected: %s\n", plan.Code)
	}
	if plan.Waiting != "" {
		fmt.Fprintf(w, "not planned yet: %s\n", progress.Clean(plan.Waiting))
	}
	for _, reason := range plan.Reasons {
		fmt.Fprintf(w, "  %s\n", progress.Clean(reason))
	}
}

func printRequest(w io.Writer, r *messages.Request) {
	fmt.Fprintf(w, "request %s: workspace %s on %s, %s at %.12s, by %s\n", r.ID, r.Workspace, r.Backend, progress.Clean(r.Repo), r.Commit, progress.Clean(orUnknown(r.CreatedBy)))
}

func orUnknown(s string) string {
	if s == "" {
		return "somebody"
	}
	return s
}

// printJobs prints a table, and below it what a reader must know of each job
// that did not end plainly well.
func (a *app) printJobs(jobs []*messages.Job, asJSON bool, none string) error {
	if err := a.printTable(jobs, asJSON, none); err != nil || asJSON {
		return err
	}
	for _, j := range jobs {
		details := jobDetails(j)
		if len(details) == 0 {
			continue
		}
		fmt.Fprintf(a.stdout, "\n%s (%s)\n", progress.Clean(j.Action), j.ID)
		for _, d := range details {
			fmt.Fprintf(a.stdout, "  %s\n", d)
		}
	}
	return nil
}

// jobDetails says how a job ended, and which attempts were lost.
func jobDetails(j *messages.Job) []string {
	details := progress.Details(j)
	for _, l := range j.Lost {
		details = append(details, fmt.Sprintf("attempt %d was lost at %s: %s", l.Attempt, l.At.Local().Format(time.DateTime), progress.Clean(l.Reason)))
	}
	return details
}

// printTable prints a line a job, or an object a job.
func (a *app) printTable(jobs []*messages.Job, asJSON bool, none string) error {
	if asJSON {
		for _, j := range jobs {
			if err := a.printJSON(j); err != nil {
				return err
			}
		}
		return nil
	}
	if len(jobs) == 0 {
		fmt.Fprintln(a.stdout, none)
		return nil
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "JOB\tBACKEND\tWORKSPACE\tACTION\tCODE\tATTEMPT\tTIME\tWHY")
	for _, j := range jobs {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", j.ID, j.Backend, j.Workspace, progress.Clean(j.Action), j.Code, j.Attempt, age(j), progress.Clean(j.Message))
	}
	return tw.Flush()
}

// age is how long a job ran, has run, or has waited.
func age(j *messages.Job) string {
	switch {
	case !j.Completed.IsZero() && !j.Started.IsZero():
		return progress.Took(j.Completed.Sub(j.Started))
	case !j.Started.IsZero():
		return progress.Took(time.Since(j.Started))
	}
	return progress.Took(time.Since(j.Created))
}
