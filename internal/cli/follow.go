package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
)

// errInterrupted ends a wait that a person broke off.
var errInterrupted = errors.New("interrupted")

// awaitPlan waits until the planner has decided on a request: a plan is written
// down, or the request was refused before there could be one.
func awaitPlan(ctx context.Context, c *jetstream.Conn, r *messages.Request) (*messages.Plan, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	decided := make(chan *messages.Plan, 1)
	decide := func(p *messages.Plan) {
		select {
		case decided <- p:
		default:
		}
	}
	watching := make(chan error, 2)
	go func() {
		watching <- c.PlansRegister().Watch(ctx, messages.PlanKey(r.Backend, r.Workspace, r.ID), func(e messages.Entry[messages.Plan]) {
			if e.Value != nil && settled(e.Value) {
				decide(e.Value)
			}
		})
	}()
	go func() {
		subject := (&messages.Outcome{Backend: r.Backend, Request: r.ID}).Subject()
		watching <- c.Follow(ctx, jetstream.Outcomes, subject, jetstream.Start{}, func(f jetstream.Followed) bool {
			var o messages.Outcome
			if messages.Decode(f.Data, &o) == nil && o.Kind == messages.OutcomeRejected {
				decide(&messages.Plan{Request: *r, Code: o.Code, Reasons: o.Reasons})
			}
			return true
		})
	}()
	select {
	case plan := <-decided:
		return plan, nil
	case err := <-watching:
		return nil, errors.Join(err, context.Cause(ctx))
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// settled reports whether a plan says all that it will: it was rejected, or
// its jobs are written.
func settled(p *messages.Plan) bool { return p.Code != "" || p.Done }

// A follower watches the jobs of a plan to their end.
type follower struct {
	conn  *jetstream.Conn
	plan  *messages.Plan
	print progress.Printer
}

// follow hands each change to the printer and returns the jobs, in the plan's
// order, once all have ended. When ctx ends first it returns what is known.
func (f follower) follow(ctx context.Context) ([]*messages.Job, error) {
	changes := make(chan *messages.Job)
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	r := &f.plan.Request
	filter := messages.Token(r.Backend) + "." + messages.Token(r.Workspace) + ".*"
	watching := make(chan error, 1)
	go func() {
		watching <- f.conn.JobsRegister().Watch(watchCtx, filter, func(e messages.Entry[messages.Job]) {
			if e.Value == nil {
				return
			}
			select {
			case changes <- e.Value:
			case <-watchCtx.Done():
			}
		})
	}()

	jobs := map[messages.JobID]*messages.Job{}
	wanted := map[messages.JobID]bool{}
	open := 0
	for _, p := range f.plan.Jobs {
		wanted[p.Job] = true
		open++
	}
	for open > 0 {
		select {
		case <-ctx.Done():
			return f.ordered(jobs), context.Cause(ctx)
		case err := <-watching:
			return f.ordered(jobs), errors.Join(err, context.Cause(ctx))
		case j := <-changes:
			old := jobs[j.ID]
			if !wanted[j.ID] || old != nil && (old.State.Final() || !j.State.Final() && old.Updated.After(j.Updated)) {
				continue
			}
			jobs[j.ID] = j
			if j.State.Final() {
				open--
			}
			if !f.reused(j.ID) {
				f.print.Changed(j)
			}
		}
	}
	return f.ordered(jobs), nil
}

// reused reports whether a job had ended before this request: it is no news.
func (f follower) reused(id messages.JobID) bool {
	for _, p := range f.plan.Jobs {
		if p.Job == id {
			return p.Reused && p.Why != messages.WhyActive
		}
	}
	return false
}

func (f follower) ordered(jobs map[messages.JobID]*messages.Job) []*messages.Job {
	var list []*messages.Job
	for _, p := range f.plan.Jobs {
		if j := jobs[p.Job]; j != nil {
			list = append(list, j)
		}
	}
	return list
}

// verdict turns the end of a request into the exit code that scripts read.
func verdict(s progress.Summary) error {
	switch failed, cancelled := s.Failed(); {
	case failed:
		return exit(ExitFailed, nil)
	case cancelled:
		return exit(ExitCancelled, nil)
	}
	return nil
}

// rejected prints why a request made no job. Nothing to do is no failure.
func (a *app) rejected(plan *messages.Plan, asJSON bool) error {
	if asJSON {
		progress.JSON{W: a.stdout}.Planned(plan)
	}
	if plan.Code == messages.NothingToDo {
		if !asJSON {
			printNothingToDo(a, plan)
		}
		return nil
	}
	var text string
	for _, reason := range plan.Reasons {
		for line := range strings.SplitSeq(reason, "\n") {
			text += "\n  " + progress.Clean(line)
		}
	}
	code := ExitUsage
	if plan.Code == messages.InternalError {
		code = ExitOurs
	}
	return exit(code, fmt.Errorf("the request was rejected (%s):%s", plan.Code, text))
}

func printNothingToDo(a *app, plan *messages.Plan) {
	for _, reason := range plan.Reasons {
		fmt.Fprintf(a.stdout, "=> %s\n", progress.Clean(reason))
	}
	for _, j := range plan.Jobs {
		fmt.Fprintf(a.stdout, "  skip  %s  %s\n", progress.Clean(j.Action), progress.Why(j.Why))
	}
	fmt.Fprintln(a.stdout, "   Use --force-run-dependencies to run everything again")
}

// withTimeout bounds a wait; no bound for zero.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, exit(ExitTimeout, fmt.Errorf("not done after %s; it goes on: see `sluice status`", d)))
}
