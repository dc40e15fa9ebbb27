package planner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/internal/fault"
	"sluice/messages"
	"sluice/planner/project"
)

// A draft is a plan on its way into the register.
type draft struct {
	key      string
	plan     *messages.Plan
	revision messages.Revision // 0: not written yet
	made     told              // the jobs that were made of it just now
}

// later writes down that a request waits for its project file, so that those
// behind it do not, and goes on with it apart.
func (s *session) later(ctx context.Context, d draft, cause error) error {
	if d.revision == 0 {
		d.plan.Waiting = clip(cause.Error())
		if err := s.write(ctx, &d); err != nil {
			return err
		}
	}
	s.pursue(d)
	return nil
}

// pursue goes on with a plan that is not done, unless somebody does already.
// The channel is closed when it is.
func (s *session) pursue(d draft) <-chan struct{} {
	done := make(chan struct{})
	if going, taken := s.pursued.LoadOrStore(d.key, done); taken {
		return going.(chan struct{})
	}
	s.group.Go(func() error {
		defer close(done)
		defer s.pursued.Delete(d.key)
		return s.pursuit(s.ctx, d)
	})
	return done
}

// pursuit tries until the plan is done, or the request is given up.
func (s *session) pursuit(ctx context.Context, d draft) error {
	const longest = 5 * time.Minute
	for wait := s.cfg.Backoff; ; wait = min(2*max(wait, time.Second), longest) {
		err := s.decide(ctx, d, -1)
		switch {
		case ctx.Err() != nil:
			return nil
		case messages.Unmendable(err):
			return s.bear(s.abandon(ctx, d, err))
		case !errors.Is(err, errNotHere):
			return err
		}
		s.log.Warn().Err(err).Str("plan", d.key).Dur("pause", wait).Msg("the request waits")
		if len(d.plan.Jobs) == 0 && s.Now().Sub(d.plan.Created) > s.cfg.SourceGiveUp {
			return s.abandon(ctx, d, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// abandon rejects a request whose project file could not be had for too long, or
// whose plan cannot be carried out, now or later.
func (s *session) abandon(ctx context.Context, d draft, cause error) error {
	s.planning.Lock()
	defer s.planning.Unlock()
	if open, err := s.reread(ctx, &d); err != nil || !open {
		return err
	}
	req := d.plan.Request
	if err := s.Dead.Park(ctx, req.Subject(), &req, fencer, cause.Error()); err != nil {
		return fmt.Errorf("park request %s: %w", req.ID, err)
	}
	why := fmt.Sprintf("project.yaml could not be fetched for %v; this usually means a platform issue", s.cfg.SourceGiveUp)
	if messages.Unmendable(cause) {
		s.log.Error().Err(cause).Str("plan", d.key).Msg("the plan cannot be carried out")
		if why = messages.InternalError.Message(); len(d.plan.Jobs) > 0 {
			return nil // some of its jobs may exist: it is left as it is
		}
	} else if unpinned := (*unpinnedError)(nil); errors.As(cause, &unpinned) {
		why = fmt.Sprintf("the registry of images could not be asked for %v; this usually means a platform issue", s.cfg.SourceGiveUp)
	}
	if s.cfg.WorkingFolder { // who asks is the one who can mend it
		why = clip(cause.Error())
	}
	return s.reject(ctx, d, messages.InternalError, []string{why})
}

// reread gets the newest state of a plan that was written before, and reports
// whether there is still something to do about it. It is called while planning
// is locked.
func (s *session) reread(ctx context.Context, d *draft) (open bool, err error) {
	if d.revision == 0 {
		return true, nil
	}
	e, err := s.Plans.Get(ctx, d.key)
	if err != nil {
		return false, fmt.Errorf("read plan %s: %w", d.key, err)
	}
	d.plan, d.revision = e.Value, e.Revision
	return !e.Value.Done && e.Value.Code == "", nil
}

// write writes a plan.
func (s *session) write(ctx context.Context, d *draft) (err error) {
	was := d.revision
	if was == 0 {
		d.revision, err = s.Plans.Create(ctx, d.key, d.plan)
	} else {
		d.revision, err = s.Plans.Update(ctx, d.key, d.plan, was)
	}
	if errors.Is(err, messages.ErrConflict) {
		d.revision, err = mine(ctx, s.Plans, d.key, d.plan, err)
	}
	if err != nil {
		return fmt.Errorf("write plan %s: %w", d.key, err)
	}
	return nil
}

// reject writes a plan that makes no job, and has it told.
func (s *session) reject(ctx context.Context, d draft, code messages.Code, reasons []string) error {
	p := *d.plan
	p.Code, p.Reasons, p.Waiting, p.Done = code, bound(reasons), "", true
	if code != messages.NothingToDo {
		p.Jobs, p.Actions = nil, nil
	}
	d.plan = &p
	if err := s.write(ctx, &d); err != nil {
		return err
	}
	fault.At("planner.after-reject")
	s.announceLater(d, time.Time{})
	return nil
}

// decide gets the project file, decides what the request needs, writes the plan
// and makes the jobs. Each step is done once; after a crash it goes on where it
// was. The error wraps errNotHere if there is no project file yet.
func (s *session) decide(ctx context.Context, d draft, wait time.Duration) error {
	p, err := s.project(ctx, d.plan.Request.Source, wait)
	var failure *messages.Failure
	var problems project.Problems
	if err != nil && !errors.As(err, &failure) && !errors.As(err, &problems) {
		return err
	}
	var old []staleJob
	if err == nil {
		old = s.stale(ctx, &d.plan.Request, p)
	}
	s.planning.Lock()
	defer s.planning.Unlock()
	if open, err := s.reread(ctx, &d); err != nil || !open {
		return err
	}
	switch {
	case failure != nil:
		return s.reject(ctx, d, rejection(failure.Code), sentences(failure))
	case len(problems) > 0:
		return s.reject(ctx, d, messages.InvalidProject, texts(problems))
	}
	t, err := s.termsOf(ctx, d.plan.Request.Backend)
	if err != nil {
		return err
	}
	if len(d.plan.Jobs) > 0 { // decided before a crash
		if err := pinned(p, d.plan.Jobs); err != nil {
			return err
		}
		return s.carryOut(ctx, d, p, t)
	}
	standing, err := s.look(ctx, &d.plan.Request, p)
	if err != nil {
		return err
	}
	planned, err := Decide(&d.plan.Request, p, standing)
	warnings := append(slices.Clone(p.Warnings), staleWarnings(old, planned)...)
	d.plan.Actions, d.plan.Warnings, d.plan.Waiting = allActions(p), bound(warnings), ""
	nothing := errors.As(err, &failure) && failure.Code == messages.NothingToDo
	switch {
	case nothing:
	case failure != nil:
		return s.reject(ctx, d, failure.Code, sentences(failure))
	case err != nil:
		return err
	}
	if err := pinned(p, planned); err != nil {
		return err
	}
	d.plan.Jobs = planned
	if reasons := s.impossible(d.plan, p, t); len(reasons) > 0 {
		return s.reject(ctx, d, messages.JobError, reasons)
	}
	if err := lighten(d.plan); err != nil {
		return s.reject(ctx, d, messages.InvalidRequest, []string{err.Error()})
	}
	if nothing {
		return s.reject(ctx, d, failure.Code, sentences(failure))
	}
	if err := s.write(ctx, &d); err != nil {
		return err
	}
	fault.At("planner.after-plan")
	return s.carryOut(ctx, d, p, t)
}

// rejection returns the code of a rejection for the code of a source's failure.
func rejection(code messages.Code) messages.Code {
	switch code {
	case messages.InvalidProject, messages.InternalError:
		return code
	}
	return messages.InvalidRequest
}

func texts(problems project.Problems) []string {
	list := make([]string, len(problems))
	for i, p := range problems {
		list[i] = p.String()
		if p.Hint != "" {
			list[i] += " (" + p.Hint + ")"
		}
	}
	return list
}

func allActions(p *project.Project) []string {
	list := make([]string, len(p.Actions))
	for i, a := range p.Actions {
		list[i] = a.Name
	}
	return list
}

// lighten leaves out of a plan what can be worked out again if it is too large
// for a record. The error says why it cannot be written all the same.
func lighten(plan *messages.Plan) error {
	_, err := messages.Encode(plan)
	if !errors.Is(err, messages.ErrTooLarge) {
		return err
	}
	plan.Jobs = slices.Clone(plan.Jobs)
	for i := range plan.Jobs {
		plan.Jobs[i].Wait = nil
	}
	if _, err = messages.Encode(plan); errors.Is(err, messages.ErrTooLarge) {
		return fmt.Errorf("the plan of %d jobs is too large for one request; ask for fewer actions at once", len(plan.Jobs))
	}
	return err
}

// look asks the owner of the state what became of a project's actions.
func (s *session) look(ctx context.Context, req *messages.Request, p *project.Project) (map[string]Standing, error) {
	found := map[string]Standing{}
	err := s.do(ctx, func(context.Context) error {
		for _, a := range p.Actions {
			if standing, ok := s.standing(latestKey{req.Backend, req.Workspace, a.Name}); ok {
				found[a.Name] = standing
			}
		}
		return nil
	})
	if err != nil || s.Outputs == nil {
		return found, err
	}
	for name, standing := range found {
		if standing.State != messages.Succeeded {
			continue
		}
		e, err := s.Jobs.Get(ctx, messages.JobKey(req.Backend, req.Workspace, standing.Job))
		if err != nil {
			return found, fmt.Errorf("read job %s: %w", standing.Job, err)
		}
		if standing.Gone, err = s.Outputs.Gone(ctx, e.Value); err != nil {
			return found, fmt.Errorf("look for the outputs of job %s: %w", standing.Job, err)
		}
		standing.Changed = changed(p.Action(name), e.Value)
		found[name] = standing
	}
	return found, nil
}
