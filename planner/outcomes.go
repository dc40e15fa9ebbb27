package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"

	"sluice/messages"
)

// A teller publishes outcomes in the order in which they came about, apart from
// the goroutine that decides. What it had in hand when the session ended, the
// next one tells.
type teller struct {
	mu   sync.Mutex
	line []func(context.Context) error
	more chan struct{}
}

func newTeller() *teller { return &teller{more: make(chan struct{}, 1)} }

// add puts something to tell at the end of the line.
func (t *teller) add(tell func(context.Context) error) {
	t.mu.Lock()
	t.line = append(t.line, tell)
	t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// run tells until ctx ends.
func (t *teller) run(ctx context.Context) error {
	for {
		t.mu.Lock()
		line := t.line
		t.line = nil
		t.mu.Unlock()
		for _, tell := range line {
			if err := tell(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		if len(line) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.more:
		}
	}
}

// tell publishes that a job has a new code.
func (s *session) tell(ctx context.Context, r *messages.Job, revision messages.Revision) error {
	out := r.Outside()
	o := &messages.Outcome{Kind: messages.OutcomeJob, Request: r.Request, Backend: r.Backend, Workspace: r.Workspace, Job: &out, At: s.Now()}
	return s.say(ctx, o, fmt.Sprintf("job/%s/%s/%d", r.Backend, r.ID, revision))
}

func (s *session) say(ctx context.Context, o *messages.Outcome, id string) error {
	if err := s.Outbox.Publish(ctx, o.Subject(), o, id); err != nil {
		return fmt.Errorf("publish outcome %s: %w", id, err)
	}
	return nil
}

// refuse publishes that no job was made, for a request that has no plan.
func (s *session) refuse(ctx context.Context, place messages.Place, id messages.RequestID, code messages.Code, reasons []string) error {
	o := &messages.Outcome{Kind: messages.OutcomeRejected, Request: id, Backend: place.Backend, Workspace: place.Workspace, Code: code, Reasons: bound(reasons), At: s.Now()}
	s.log.Info().Str("request", string(id)).Str("backend", place.Backend).Str("code", string(code)).Strs("reasons", o.Reasons).Msg("request rejected")
	sum := fnv.New64a() // the same id may be refused for another reason
	_, _ = fmt.Fprint(sum, place.Workspace, code, reasons)
	return s.say(ctx, o, fmt.Sprintf("rejected/%s/%s/%x", place.Backend, id, sum.Sum64()))
}

// announce publishes what a plan has come to: accepted or rejected, and
// finished if there is nothing to do or nothing left to do.
func (s *session) announce(ctx context.Context, d draft) error {
	req := d.plan.Request
	if d.plan.Code != "" && d.plan.Code != messages.NothingToDo {
		place := messages.Place{Backend: req.Backend, Workspace: req.Workspace}
		if err := s.refuse(ctx, place, req.ID, d.plan.Code, d.plan.Reasons); err != nil {
			return err
		}
		return s.markFinished(ctx, d.key)
	}
	jobs, err := s.outside(ctx, d.plan)
	if err != nil {
		return err
	}
	o := &messages.Outcome{Kind: messages.OutcomeAccepted, Request: req.ID, Backend: req.Backend, Workspace: req.Workspace, Jobs: jobs, Reasons: bound(d.plan.Warnings), At: s.Now()}
	left := fit(o)
	if err := s.say(ctx, o, fmt.Sprintf("accepted/%s/%s", req.Backend, req.ID)); err != nil {
		return err
	}
	for _, job := range left { // one by one, what one message cannot hold
		one := &messages.Outcome{Kind: messages.OutcomeJob, Request: req.ID, Backend: req.Backend, Workspace: req.Workspace, Job: &job, At: s.Now()}
		if err := s.say(ctx, one, fmt.Sprintf("accepted/%s/%s/%s", req.Backend, req.ID, job.Job)); err != nil {
			return err
		}
	}
	if d.plan.Code == messages.NothingToDo || d.plan.Finished {
		return s.conclude(ctx, d.key)
	}
	return nil
}

// finish has the teller publish that all jobs of a request have ended, and lets
// go of the request.
func (s *session) finish(key requestKey, r *request) {
	delete(s.requests, key)
	plan := messages.PlanKey(key.backend, r.workspace, key.id)
	s.teller.add(func(ctx context.Context) error { return s.conclude(ctx, plan) })
}

// conclude publishes a request's end and writes into its plan that it was told.
func (s *session) conclude(ctx context.Context, key string) error {
	e, err := s.Plans.Get(ctx, key)
	if errors.Is(err, messages.ErrNotFound) {
		s.log.Warn().Str("plan", key).Msg("the jobs of a request have ended that has no plan")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read plan %s: %w", key, err)
	}
	req := e.Value.Request
	jobs, err := s.outside(ctx, e.Value)
	if err != nil {
		return err
	}
	o := &messages.Outcome{
		Kind: messages.OutcomeFinished, Request: req.ID, Backend: req.Backend, Workspace: req.Workspace,
		Code: e.Value.Code, Reasons: bound(e.Value.Reasons), Jobs: jobs, At: s.Now(),
	}
	if left := fit(o); len(left) > 0 {
		o.Reasons = append(o.Reasons, fmt.Sprintf("%d more jobs have ended; each was told when it did", len(left)))
	}
	if err := s.say(ctx, o, fmt.Sprintf("finished/%s/%s", req.Backend, req.ID)); err != nil {
		return err
	}
	s.log.Info().Str("request", string(req.ID)).Str("backend", req.Backend).Str("workspace", req.Workspace).Msg("request finished")
	return s.markFinished(ctx, key)
}

// markFinished writes into a plan that its end was told.
func (s *session) markFinished(ctx context.Context, key string) error {
	for range 10 {
		e, err := s.Plans.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("read plan %s: %w", key, err)
		}
		if e.Value.Finished {
			return nil
		}
		e.Value.Finished = true
		if _, err = s.Plans.Update(ctx, key, e.Value, e.Revision); err == nil || !errors.Is(err, messages.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("write plan %s: %w, ten times", key, messages.ErrConflict)
}

// outside reads what a job server may know of the jobs of a plan.
func (s *session) outside(ctx context.Context, plan *messages.Plan) ([]messages.JobOutcome, error) {
	out := make([]messages.JobOutcome, len(plan.Jobs))
	index := make([]int, len(plan.Jobs))
	for i := range index {
		index[i] = i
	}
	err := each(ctx, index, func(ctx context.Context, i int) error {
		planned := plan.Jobs[i]
		e, err := s.Jobs.Get(ctx, messages.JobKey(plan.Request.Backend, plan.Request.Workspace, planned.Job))
		switch {
		case errors.Is(err, messages.ErrNotFound):
			out[i] = messages.JobOutcome{Job: planned.Job, Action: planned.Action}
		case err != nil:
			return fmt.Errorf("read job %s: %w", planned.Job, err)
		default:
			out[i] = e.Value.Outside()
		}
		out[i].Reused, out[i].Why = planned.Reused, planned.Why
		return nil
	})
	return out, err
}

// Bounds of what an outcome quotes of a request or a project file.
const (
	maxReasons     = 50
	maxReasonBytes = 500
)

func bound(reasons []string) []string {
	var out []string
	for i, reason := range reasons {
		if i == maxReasons {
			out = append(out, fmt.Sprintf("and %d more", len(reasons)-i))
			break
		}
		if len(reason) > maxReasonBytes {
			reason = clipTo(reason, maxReasonBytes)
		}
		out = append(out, reason)
	}
	return out
}

// fit cuts the list of an outcome to what one message can hold, and returns the
// rest.
func fit(o *messages.Outcome) (left []messages.JobOutcome) {
	const room = messages.MaxPayload - 64<<10 // the reasons are bounded, too
	size := 0
	for i := range o.Jobs {
		data, err := json.Marshal(&o.Jobs[i])
		if size += len(data) + 1; err != nil || size > room {
			o.Jobs, left = o.Jobs[:i:i], o.Jobs[i:]
			break
		}
	}
	return left
}
