package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
)

type explainCommand struct {
	jobFlags
	JSON bool `help:"Print {\"job\", \"plan\", \"setting\", \"lease\", \"commit\", \"waits_for\", \"workers\"}."`
}

// A dossier is all that the registers say about one job.
type dossier struct {
	Job     *messages.Job        `json:"job"`
	Plan    *messages.Plan       `json:"plan,omitempty"`
	Setting *messages.Setting    `json:"setting,omitempty"`
	Lease   *messages.Lease      `json:"lease,omitempty"` // of the newest attempt
	Commit  *messages.Commit     `json:"commit,omitempty"`
	Waits   []*messages.Job      `json:"waits_for,omitempty"` // what has not succeeded of it
	Workers []*messages.Presence `json:"workers,omitempty"`   // that live and have the job's pool
}

// readDossier reads it.
func readDossier(ctx context.Context, c *jetstream.Conn, j *messages.Job) (*dossier, error) {
	d := &dossier{Job: j}
	var errs []error
	look := func(err error) {
		if err != nil && !errors.Is(err, messages.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	plan, err := c.PlansRegister().Get(ctx, messages.PlanKey(j.Backend, j.Workspace, j.Request))
	look(err)
	setting, err := c.SettingsRegister().Get(ctx, messages.SettingKey(j.Backend))
	look(err)
	commit, err := c.CommitsRegister().Get(ctx, messages.CommitKey(j.Backend, j.ID))
	look(err)
	d.Plan, d.Setting, d.Commit = plan.Value, setting.Value, commit.Value
	if j.Attempt > 0 {
		lease, err := c.LeasesRegister().Get(ctx, messages.LeaseKey(j.Backend, j.ID, j.Attempt))
		look(err)
		d.Lease = lease.Value
	}
	for _, id := range j.WaitFor {
		w, err := c.JobsRegister().Get(ctx, messages.JobKey(j.Backend, j.Workspace, id))
		look(err)
		if w.Value != nil && w.Value.State != messages.Succeeded {
			d.Waits = append(d.Waits, w.Value)
		}
	}
	look(c.PresenceRegister().All(ctx, "worker."+messages.Token(j.Backend)+".*", func(e messages.Entry[messages.Presence]) {
		if _, has := e.Value.Pools[j.Pool]; has {
			d.Workers = append(d.Workers, e.Value)
		}
	}))
	return d, errors.Join(errs...)
}

// Run explains one job.
func (cmd *explainCommand) Run(a *app) error {
	c, j, err := cmd.open(a)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := readDossier(a.ctx, c, j)
	if err != nil {
		return err
	}
	if cmd.JSON {
		return a.printJSON(d)
	}
	for _, line := range d.lines(time.Now()) {
		fmt.Fprintln(a.stdout, line)
	}
	return nil
}

// lines says it in words: what it is, where it is and why, what comes next.
func (d *dossier) lines(now time.Time) (lines []string) {
	j := d.Job
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("%s: action %s of workspace %s on %s", j.ID, progress.Clean(j.Action), j.Workspace, j.Backend)
	add("%s (%s): %s", j.Code, j.State, progress.Clean(j.Message))
	add("asked for by request %s of %s, %s ago%s", j.Request, progress.Clean(orUnknown(j.By)), progress.Took(now.Sub(j.Created)), d.why())
	kind := ""
	if j.Database {
		kind = fmt.Sprintf(", a database action (%s)", progress.Clean(j.Dataset))
	}
	add("runs %s in pool %s, takes %g slots%s", progress.Clean(j.Run), j.Pool, j.Weight, kind)
	if j.Wanted != "" {
		add("is to end as %s", j.Wanted)
	}
	if !j.State.Final() {
		lines = append(lines, d.ahead(now)...)
	}
	for _, detail := range jobDetails(j) {
		lines = append(lines, progress.Clean(detail))
	}
	if j.Result != nil && j.Result.Metrics != nil {
		m := j.Result.Metrics
		add("used up to %.0f %% of a processor, %.0f %% on average, and up to %.0f MiB of memory", m.CPUPeak, m.CPUMean, m.MemPeak)
	}
	if d.Commit != nil {
		if d.Commit.Tombstone() {
			add("no attempt's files will ever be its own: %s", d.Commit.Code)
		} else {
			add("attempt %d's files are its own, for ever: %d files", d.Commit.Attempt, d.Commit.Result.Files)
		}
	}
	return lines
}

// why tells why the request made the job.
func (d *dossier) why() string {
	if d.Plan == nil {
		return ""
	}
	for _, p := range d.Plan.Jobs {
		if p.Job == d.Job.ID {
			return ": " + progress.Why(p.Why)
		}
	}
	return ""
}

// ahead tells what a job that has not ended waits for, or who has it.
func (d *dossier) ahead(now time.Time) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if d.Setting != nil {
		for _, line := range settingLines(d.Setting) {
			add("%s: %s", d.Job.Backend, line)
		}
	}
	for _, w := range d.Waits {
		add("waits for %s (%s): %s, %s", progress.Clean(w.Action), w.ID, w.Code, progress.Clean(w.Message))
	}
	if l := d.Lease; l != nil {
		add("attempt %d: worker %s, lease %s since %s", d.Job.Attempt, l.Owner, l.State, l.At.Local().Format(time.DateTime))
	} else if d.Job.State == messages.Running {
		add("attempt %d: no worker has claimed it yet, or its worker is silent", d.Job.Attempt)
	}
	if d.Job.State == messages.Pending && len(d.Workers) == 0 {
		add("no live worker has pool %s", d.Job.Pool)
	}
	for _, w := range d.Workers {
		slots := w.Pools[d.Job.Pool]
		state := ""
		if w.Draining {
			state = ", takes nothing: " + progress.Clean(w.Reason)
		}
		add("worker %s: %g of %g slots in pool %s used, heard %s ago%s", w.Worker, slots.Used, slots.Total, d.Job.Pool, progress.Took(now.Sub(w.At)), state)
	}
	return lines
}
