package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"sluice/internal/fault"
	"sluice/messages"
)

// tellLater has it told that a job has a new code.
func (s *session) tellLater(r *messages.Job, revision messages.Revision) {
	s.teller.add(telling{requestKey{r.Backend, r.Request}, r.ID, func(ctx context.Context) error { return s.tell(ctx, r, revision) }})
}

// announceLater has it told what a plan has come to, and when it was asked for,
// if it was.
func (s *session) announceLater(d draft, asked time.Time) {
	key := requestKey{d.plan.Request.Backend, d.plan.Request.ID}
	s.teller.add(telling{request: key, tell: func(ctx context.Context) error { return s.announce(ctx, d, asked) }})
}

// tell publishes that a job has a new code.
func (s *session) tell(ctx context.Context, r *messages.Job, revision messages.Revision) error {
	out := r.Outside(s.disclosure(r.Backend))
	o := &messages.Outcome{Kind: messages.OutcomeJob, Request: r.Request, Backend: r.Backend, Workspace: r.Workspace, Job: &out, At: s.Now()}
	return s.say(ctx, o, fmt.Sprintf("job/%s/%s/%d", r.Backend, r.ID, revision))
}

// say publishes an outcome. One in which what may be disclosed of a job leaves no
// room for the rest is published without.
func (s *session) say(ctx context.Context, o *messages.Outcome, id string) error {
	fault.At("planner.before-outcome")
	err := s.Outbox.Publish(ctx, o.Subject(), o, id)
	if messages.Unmendable(err) && o.Job != nil && o.Job.Disclosed != nil {
		o.Job.Disclosed = nil
		err = s.Outbox.Publish(ctx, o.Subject(), o, id)
	}
	if err != nil {
		return fmt.Errorf("publish outcome %s: %w", id, err)
	}
	return nil
}

// refuse publishes that no job was made. Each time that somebody asked is
// answered, though it be with the same words; asked is zero where nobody did.
func (s *session) refuse(ctx context.Context, place messages.Place, id messages.RequestID, asked time.Time, code messages.Code, reasons []string) error {
	o := &messages.Outcome{Kind: messages.OutcomeRejected, Request: id, Backend: place.Backend, Workspace: place.Workspace, Code: code, Reasons: bound(reasons), At: s.Now()}
	s.log.Info().Str("request", string(id)).Str("backend", place.Backend).Str("code", string(code)).Strs("reasons", o.Reasons).Msg("request rejected")
	sum := fnv.New64a() // the same id may be refused for another reason
	_, _ = fmt.Fprint(sum, place.Workspace, code, reasons, asked.UnixNano())
	return s.say(ctx, o, fmt.Sprintf("rejected/%s/%s/%x", place.Backend, id, sum.Sum64()))
}

// announce publishes what a plan has come to: accepted or rejected, and
// finished if there is nothing to do or nothing left to do. It says when it was
// asked for, if it was.
func (s *session) announce(ctx context.Context, d draft, asked time.Time) error {
	req := d.plan.Request
	if d.plan.Code != "" && d.plan.Code != messages.NothingToDo {
		place := messages.Place{Backend: req.Backend, Workspace: req.Workspace}
		if err := s.refuse(ctx, place, req.ID, asked, d.plan.Code, d.plan.Reasons); err != nil {
			return err
		}
		return s.markFinished(ctx, d.key)
	}
	jobs, err := s.outside(ctx, d.plan, d.made)
	if err != nil {
		return err
	}
	o := &messages.Outcome{
		Kind: messages.OutcomeAccepted, Request: req.ID, Backend: req.Backend, Workspace: req.Workspace, Source: &req.Source,
		Jobs: jobs, Reasons: bound(d.plan.Warnings), At: s.Now(),
	}
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
		return s.conclude(ctx, d.key, nil)
	}
	return nil
}

// finish has the teller publish that all jobs of a request have ended, and lets
// go of the request.
func (s *session) finish(key requestKey, r *request) {
	delete(s.requests, key)
	plan := messages.PlanKey(key.backend, r.workspace, key.id)
	s.teller.add(telling{request: key, tell: func(ctx context.Context) error { return s.conclude(ctx, plan, r.ended) }})
}

// conclude publishes a request's end and writes into its plan that it was told.
// Ended has what this session knows of its jobs.
func (s *session) conclude(ctx context.Context, key string, ended told) error {
	e, err := s.Plans.Get(ctx, key)
	if errors.Is(err, messages.ErrNotFound) {
		s.log.Warn().Str("plan", key).Msg("the jobs of a request have ended that has no plan")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read plan %s: %w", key, err)
	}
	req := e.Value.Request
	jobs, err := s.outside(ctx, e.Value, ended)
	if err != nil {
		return err
	}
	o := &messages.Outcome{
		Kind: messages.OutcomeFinished, Request: req.ID, Backend: req.Backend, Workspace: req.Workspace, Source: &req.Source,
		Code: e.Value.Code, Reasons: bound(e.Value.Reasons), Jobs: jobs, At: s.Now(),
	}
	if left := fit(o); len(left) > 0 {
		o.Reasons = append(o.Reasons, fmt.Sprintf("%d more jobs have ended; each was told when it did", len(left)))
	}
	if err := s.say(ctx, o, fmt.Sprintf("finished/%s/%s", req.Backend, req.ID)); err != nil {
		return err
	}
	fault.At("planner.after-finished-outcome")
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

// told is what a job server may know of jobs of which nothing is disclosed: a few
// hundred bytes each, and the run line. It saves the reading of their records.
type told map[messages.JobID]messages.JobOutcome

func outsideOf(r *messages.Job, disclosure []string) messages.JobOutcome {
	out := r.Outside(disclosure)
	out.Run, out.Database = clipTo(r.Run, maxRunBytes), r.Database
	return out
}

// outside returns what a job server may know of the jobs of a plan. What is not
// known of them is read.
func (s *session) outside(ctx context.Context, plan *messages.Plan, known told) ([]messages.JobOutcome, error) {
	disclosure := s.disclosure(plan.Request.Backend)
	if len(disclosure) > 0 {
		known = nil
	}
	out := make([]messages.JobOutcome, len(plan.Jobs))
	err := eachOf(ctx, len(plan.Jobs), func(ctx context.Context, i int) error {
		planned := plan.Jobs[i]
		o, here := known[planned.Job]
		var e messages.Entry[messages.Job]
		var err error
		if !here {
			e, err = s.Jobs.Get(ctx, messages.JobKey(plan.Request.Backend, plan.Request.Workspace, planned.Job))
		}
		switch {
		case here:
			out[i] = o
		case errors.Is(err, messages.ErrNotFound), errors.Is(err, messages.ErrUnreadable):
			out[i] = messages.JobOutcome{Job: planned.Job, Action: planned.Action}
		case err != nil:
			return fmt.Errorf("read job %s: %w", planned.Job, err)
		default:
			out[i] = outsideOf(e.Value, disclosure)
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
	maxRunBytes    = 4 << 10
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
	head := *o
	head.Jobs = nil
	data, err := json.Marshal(&head)
	if err != nil {
		return nil // whoever publishes it says so
	}
	const more = 1 << 10 // said later: how many are left
	size, room := 0, messages.MaxPayload-len(data)-more
	for i := range o.Jobs {
		data, err := json.Marshal(&o.Jobs[i])
		if size += len(data) + 1; err != nil || size > room {
			o.Jobs, left, o.More = o.Jobs[:i:i], o.Jobs[i:], len(o.Jobs)-i
			break
		}
	}
	return left
}
