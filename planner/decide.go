package planner

import (
	"fmt"

	"sluice/messages"
	"sluice/planner/project"
)

// A Standing is what became of an action's newest job in a workspace, jobs
// that were cancelled left out.
type Standing struct {
	Job     messages.JobID
	State   messages.State
	Gone    bool // an output of it is no longer there: it counts as never run (`sluice run`)
	Changed bool // the action is written in another way since (`sluice run`)
}

// The reference's sentences where a request makes no job
// (controller/create_or_update_jobs.py, assert_new_jobs_created).
const (
	nothingToRun  = "All actions have already completed successfully"
	nothingIsLeft = "All requested actions were already scheduled to run"
)

// Decide works out which jobs a request needs, in the order of their creation:
// depth first, what is needed before what needs it, one job an action. It is
// pure, and takes time in proportion to the project.
//
// An action whose newest job is pending or running is reused; one that was
// asked for by name runs, and so does every other with force_run_dependencies;
// of the rest one that has succeeded is reused, and what it needs is not looked
// at; one that has failed, or was never run, runs. Asking for run_all is not
// asking by name.
//
// An error is a *messages.Failure. With code nothing_to_do the list is there
// too: the jobs that are reused.
func Decide(req *messages.Request, p *project.Project, latest map[string]Standing) ([]messages.Planned, error) {
	d := decision{
		project: p, latest: latest, force: req.ForceRunDependencies,
		asked: make(map[string]bool, len(req.Actions)), seen: make(map[string]int, len(p.Actions)), request: req.ID,
	}
	wanted, unknown := make([]string, 0, len(req.Actions)), messages.Problems(nil)
	for _, name := range req.Actions {
		switch {
		case d.asked[name]:
			continue // named twice
		case name != messages.RunAll && p.Action(name) == nil:
			unknown = append(unknown, fmt.Sprintf("Action '%s' not found in project.yaml", name))
		}
		d.asked[name] = true
		wanted = append(wanted, name)
	}
	if len(unknown) > 0 {
		return nil, messages.Failf(messages.InvalidRequest, "%w", unknown)
	}
	all := d.asked[messages.RunAll]
	if all {
		wanted = wanted[:0]
		for _, a := range p.Actions {
			if a.Name != project.RunAll {
				wanted = append(wanted, a.Name)
			}
		}
	}
	for _, name := range wanted {
		d.visit(name)
	}
	return d.list, d.verdict(all, req.StaleCodelists())
}

// A decision in the making.
type decision struct {
	project *project.Project
	latest  map[string]Standing
	request messages.RequestID
	force   bool
	asked   map[string]bool
	seen    map[string]int // place in list; -1 while its needs are looked at
	list    []messages.Planned
}

func (d *decision) visit(name string) {
	if _, again := d.seen[name]; again {
		return
	}
	action, standing := d.project.Action(name), d.latest[name]
	why, runs := d.why(name, standing)
	planned := messages.Planned{Action: name, Job: standing.Job, Reused: !runs, Why: why}
	d.seen[name] = -1
	if runs {
		planned.Job, planned.Needs = messages.NewJobID(d.request, name), action.Needs
		listed := make(map[messages.JobID]bool, len(action.Needs)) // a need may be named twice
		for _, need := range action.Needs {
			d.visit(need)
			if job, waits := d.awaited(need); waits && !listed[job] {
				listed[job] = true
				planned.Wait = append(planned.Wait, job)
			}
		}
	}
	d.seen[name] = len(d.list)
	d.list = append(d.list, planned)
}

// why is the reference's rule (job_should_be_rerun).
func (d *decision) why(name string, s Standing) (messages.PlanWhy, bool) {
	switch {
	case s.State == messages.Pending || s.State == messages.Running:
		return messages.WhyActive, false
	case d.asked[name]:
		return messages.WhyAsked, true
	case s.Job == "":
		return messages.WhyNeeded, true
	case s.State == messages.Failed:
		return messages.WhyFailed, true
	case d.force:
		return messages.WhyForced, true
	case s.Gone:
		return messages.WhyMissing, true
	case s.Changed:
		return messages.WhyChanged, true
	}
	return messages.WhySucceeded, false
}

// awaited returns the job of a need, if it has not ended.
func (d *decision) awaited(need string) (messages.JobID, bool) {
	i := d.seen[need]
	if i < 0 || d.list[i].Why == messages.WhySucceeded {
		return "", false
	}
	return d.list[i].Job, true
}

// verdict refuses a plan that makes no job, or one whose codelists are stale.
func (d *decision) verdict(all, stale bool) error {
	created := 0
	for _, planned := range d.list {
		if planned.Reused {
			continue
		}
		created++
		if stale && d.project.Action(planned.Action).IsDatabase {
			return messages.Failf(messages.StaleCodelists, "Codelists are out of date (required by action %s)", planned.Action)
		}
	}
	switch {
	case created > 0:
		return nil
	case all:
		return messages.Failf(messages.NothingToDo, "%s", nothingToRun)
	}
	return messages.Failf(messages.NothingToDo, "%s", nothingIsLeft)
}
