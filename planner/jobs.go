package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/internal/fault"
	"sluice/messages"
	"sluice/planner/project"
)

// newJobs makes the records of a plan's new jobs, in the order of creation. It
// depends on nothing but the plan, the project, the configuration and the
// backend's terms. The problems are those of actions that no record can be made
// of.
func (p *Planner) newJobs(plan *messages.Plan, prj *project.Project, t terms) (jobs []*messages.Job, problems []string) {
	waits := make(map[string]messages.JobID, len(plan.Jobs))
	for _, planned := range plan.Jobs {
		if !planned.Reused || planned.Why == messages.WhyActive {
			waits[planned.Action] = planned.Job
		}
	}
	jobs = make([]*messages.Job, 0, len(plan.Jobs))
	for i, planned := range plan.Jobs {
		a := prj.Action(planned.Action)
		if planned.Reused || a == nil { // only a folder's project can have lost an action since
			continue
		}
		command, err := a.Command()
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		jobs = append(jobs, p.newJob(plan, a, command, waits, t, plan.Created.Add(time.Duration(i)*time.Microsecond)))
	}
	return jobs, problems
}

// newJob makes the record of one job. Ages differ within a plan, so that the
// order of creation stays known.
func (p *Planner) newJob(plan *messages.Plan, a *project.Action, command []string, waits map[string]messages.JobID, t terms, created time.Time) *messages.Job {
	req := &plan.Request
	j := &messages.Job{
		ID: messages.NewJobID(req.ID, a.Name), Request: req.ID, Backend: req.Backend, Workspace: req.Workspace, Action: a.Name, Source: req.Source,
		Pool: p.cfg.DefaultPool, Weight: t.weights.of(req.Backend, req.Workspace, a.Name, project.Join(command)), Database: a.IsDatabase,
		Run: a.Run, Image: command[0], Digest: a.Digest, Args: command[1:], Needs: a.Needs, Limits: t.limits,
		Env: []messages.EnvVar{{Name: "OPENSAFELY_BACKEND", Value: req.Backend}},
		By:  req.CreatedBy, Project: req.Project, Created: created, Updated: created,
		State: messages.Pending, Code: messages.Created, Message: messages.Created.Message(),
	}
	if a.IsDatabase {
		j.Pool, j.Dataset = p.cfg.DatabasePool, req.Database
		if j.Dataset == "" {
			j.Dataset = p.cfg.Databases[0]
		}
		j.Env = append(j.Env, messages.EnvVar{Name: "EHRQL_PERMISSIONS", Value: permissions(req.AnalysisScope)})
	}
	var awaited []string
	listed := make(map[string]bool, len(a.Needs)) // a need may be named twice
	for _, need := range a.Needs {
		if id, ok := waits[need]; ok && !listed[need] {
			j.WaitFor, awaited, listed[need] = append(j.WaitFor, id), append(awaited, need), true
		}
	}
	if len(j.WaitFor) > 0 {
		j.Code = messages.WaitingOnDependencies
		j.Message = clip(j.Code.Message() + ": " + some(awaited))
	}
	j.Rules = rulesOf(a)
	if a.Repo != "" {
		j.Reuses = &messages.Source{Repo: a.Repo, Branch: reusableBranch, Commit: a.Commit}
	}
	return j
}

// permissions is the flat list that ehrQL reads (controller/main.py,
// job_to_job_definition).
func permissions(scope *messages.AnalysisScope) string {
	list := []string{}
	if scope != nil {
		list = slices.Concat(list, scope.DatasetPermissions, scope.PopulationPermissions, scope.ComponentAccess)
	}
	text, err := json.Marshal(list)
	if err != nil { // strings can always be encoded
		return "[]"
	}
	return string(text)
}

// impossible reports the jobs of a plan that could never run, all at once.
func (p *Planner) impossible(plan *messages.Plan, prj *project.Project, t terms) (reasons []string) {
	jobs, reasons := p.newJobs(plan, prj, t)
	for _, j := range jobs {
		if limit := t.pools[j.Pool]; limit > 0 && j.Weight > limit+tiny {
			reasons = append(reasons, fmt.Sprintf("Action '%s' takes %v slots, and pool %s of backend %s is limited to %v: it could never start; ask for another weight or another limit", j.Action, j.Weight, j.Pool, j.Backend, limit))
		}
		data, err := messages.Encode(j)
		size := len(data)
		for _, need := range j.Needs {
			size += len(need) + inputSize
		}
		switch {
		case errors.Is(err, messages.ErrTooLarge) || size > messages.MaxPayload-resultSize:
			reasons = append(reasons, fmt.Sprintf("Action '%s' is too large: its run line, config, needs and outputs must be below %d KiB together", j.Action, (messages.MaxPayload-resultSize)>>10))
		case err != nil:
			for _, sentence := range sentences(err) {
				reasons = append(reasons, fmt.Sprintf("Action '%s': %s", j.Action, sentence))
			}
		}
	}
	return reasons
}

// What is added to a record later, in bytes: an input beside its action's name,
// and a result.
const (
	inputSize  = 200
	resultSize = messages.MaxResult
)

// carryOut writes the jobs of a plan, marks it done, has it told, and lets the
// jobs begin. What was written before a crash is left as it is.
func (s *session) carryOut(ctx context.Context, d draft, prj *project.Project, t terms) error {
	jobs, _ := s.newJobs(d.plan, prj, t) // the problems were reasons not to come here
	known := make([]*job, len(jobs))
	lists, err := s.lists(ctx, jobs)
	if err != nil {
		return err
	}
	err = eachOf(ctx, len(jobs), func(ctx context.Context, i int) (err error) {
		if known[i], err = s.create(ctx, jobs[i]); err != nil {
			return err
		}
		return s.markCancelled(ctx, known[i], d.plan.Cancel)
	})
	if err != nil {
		return err
	}
	err = eachOf(ctx, len(jobs), func(ctx context.Context, i int) (err error) {
		j := jobs[i]
		lists[i], err = s.relatest(ctx, latestKey{j.Backend, j.Workspace, j.Action}, lists[i], func(l *messages.Latest) {
			if !slices.Contains(l.Jobs, j.ID) {
				l.Push(j.ID)
			}
		})
		return err
	})
	if err != nil {
		return err
	}
	fault.At("planner.before-plan-done")
	d.plan.Done = true
	if err := s.write(ctx, &d); err != nil {
		return err
	}
	req := d.plan.Request
	s.log.Info().Str("request", string(req.ID)).Str("backend", req.Backend).Str("workspace", req.Workspace).Int("jobs", len(jobs)).Msg("request accepted")
	d.made = told{}
	for _, j := range known {
		d.made[j.key.id] = outsideOf(j.record, nil)
	}
	err = s.do(ctx, func(ctx context.Context) error {
		s.announceLater(d, time.Time{}) // before anything about its jobs
		request := s.requestOf(&messages.Job{Backend: req.Backend, Workspace: req.Workspace, Request: req.ID})
		request.open += len(known)
		if req.Commit == messages.WorkingFolder {
			request.patterns = patternsOf(prj)
		}
		for _, e := range lists {
			s.relist(latestKey{req.Backend, req.Workspace, e.Value.Action}, e.Value.Jobs, e.Revision)
		}
		return s.adopt(ctx, known)
	})
	if err != nil || d.plan.Cancel == nil {
		return err
	}
	return s.cancelJobs(ctx, d.plan, d.plan.Cancel)
}

// lists asks the owner of the state for the newest jobs of the actions of new
// jobs: see listed.
func (s *session) lists(ctx context.Context, jobs []*messages.Job) ([]messages.Entry[messages.Latest], error) {
	lists := make([]messages.Entry[messages.Latest], len(jobs))
	err := s.do(ctx, func(context.Context) error {
		for i, j := range jobs {
			lists[i] = s.listed(latestKey{j.Backend, j.Workspace, j.Action})
		}
		return nil
	})
	return lists, err
}

// create writes a new job, or finds it written.
func (s *session) create(ctx context.Context, r *messages.Job) (*job, error) {
	key := messages.JobKey(r.Backend, r.Workspace, r.ID)
	revision, err := s.Jobs.Create(ctx, key, r)
	if err == nil {
		fault.At("planner.between-records")
		return &job{key: keyOf(r), record: r, revision: revision}, nil
	}
	if !errors.Is(err, messages.ErrConflict) {
		return nil, fmt.Errorf("create job %s: %w", r.ID, err)
	}
	e, err := s.Jobs.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read job %s: %w", r.ID, err)
	}
	return &job{key: keyOf(r), record: e.Value, revision: e.Revision}, nil
}
