package cli

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
)

type psCommand struct {
	natsFlags
	jobFilters
	JSON bool `help:"Print one object."`
}

// Run shows who works, what is queued, and what runs.
func (cmd *psCommand) Run(a *app) error {
	if err := cmd.check(); err != nil {
		return err
	}
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	var workers []*messages.Presence
	err = c.PresenceRegister().All(a.ctx, "worker."+orStar(cmd.Backend)+".*", func(e messages.Entry[messages.Presence]) { workers = append(workers, e.Value) })
	if err != nil {
		return err
	}
	slices.SortFunc(workers, func(x, y *messages.Presence) int {
		return strings.Compare(x.Backend+" "+x.Worker, y.Backend+" "+y.Worker)
	})
	settings, err := readSettings(a.ctx, c, cmd.Backend)
	if err != nil {
		return err
	}
	now := time.Now()
	jobs, err := allJobs(a.ctx, c, cmd.Backend, cmd.Workspace, func(j *messages.Job) bool { return !j.State.Final() && cmd.admits(j, now) })
	if err != nil {
		return err
	}
	dead, err := c.Count(a.ctx, jetstream.Dead, "")
	if err != nil {
		return err
	}
	planner := ""
	if e, err := c.LeaderRegister().Get(a.ctx, messages.LeaderKey); err == nil && e.Value != nil {
		planner = e.Value.Owner
	}
	said, _ := stuck(a.ctx, c) // as far as it can be seen; the doctor says what cannot
	if cmd.JSON {
		return a.printJSON(map[string]any{"planner": planner, "stuck": said, "workers": workers, "settings": settings, "jobs": jobs, "dead_letters": dead})
	}
	if planner == "" {
		fmt.Fprintln(a.stdout, "planner: none is active: requests wait")
	} else {
		fmt.Fprintf(a.stdout, "planner: %s\n", progress.Clean(planner))
	}
	for _, s := range said {
		fmt.Fprintf(a.stdout, "stuck: %s\n", s)
	}
	a.printWorkers(workers)
	for _, b := range sortedKeys(settings) {
		for _, line := range settingLines(settings[b]) {
			fmt.Fprintf(a.stdout, "%s: %s\n", b, line)
		}
	}
	running, waiting := 0, 0
	for _, j := range jobs {
		if j.State == messages.Running {
			running++
		} else {
			waiting++
		}
	}
	fmt.Fprintf(a.stdout, "\njobs: %d running, %d waiting\n", running, waiting)
	if dead > 0 {
		fmt.Fprintf(a.stdout, "dead letters: %d (sluice dead ls)\n", dead)
	}
	const most = 50
	if len(jobs) > most {
		defer fmt.Fprintf(a.stdout, "… and %d more: sluice status\n", len(jobs)-most)
		jobs = jobs[:most]
	}
	if len(jobs) == 0 {
		return nil
	}
	return a.printJobs(jobs, false, "")
}

func (a *app) printWorkers(workers []*messages.Presence) {
	if len(workers) == 0 {
		fmt.Fprintln(a.stdout, "workers: none")
		return
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "BACKEND\tWORKER\tSLOTS\tUP\tSTATE")
	for _, w := range workers {
		var slots []string
		for pool, s := range w.Pools {
			slots = append(slots, fmt.Sprintf("%s %g/%g", pool, s.Used, s.Total))
		}
		slices.Sort(slots)
		state := "ready"
		if w.Draining {
			state = w.Reason
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", w.Backend, w.Worker, strings.Join(slots, ", "), progress.Took(time.Since(w.Since)), progress.Clean(state))
	}
	_ = tw.Flush() // standard output
}
