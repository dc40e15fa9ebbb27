package cli

import (
	"context"
	"errors"
	"time"

	"sluice/jetstream"
	"sluice/messages"
)

// unknownWait bounds the wait for a request of which nothing is known: it may
// be on its way to the server.
const unknownWait = 500 * time.Millisecond

// lookUp finds a request as findPlan does, and waits up to limit for one that
// was only just published. The plan of one that was refused before there could be a
// plan is made of its outcome. Of one that no planner has read yet, queued is
// true and the plan has the request alone.
func lookUp(ctx context.Context, c *jetstream.Conn, id, backend, workspace string, limit time.Duration) (plan *messages.Plan, queued bool, err error) {
	plan, err = findPlan(ctx, c, id, backend, workspace)
	if !errors.Is(err, errUnknown) {
		return plan, false, err
	}
	unread, readErr := unreadRequest(ctx, c, id, backend, workspace)
	if readErr != nil {
		return nil, false, readErr
	}
	if unread == nil {
		// What a planner has read since the first look it has answered before it
		// settled it.
		if plan, err = findPlan(ctx, c, id, backend, workspace); !errors.Is(err, errUnknown) {
			return plan, false, err
		}
		if refused, err := refusal(ctx, c, id, backend); err != nil || refused != nil {
			return refused, false, err
		}
		limit = min(limit, unknownWait)
	}
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	plan, waitErr := firstWord(wait, c, id, backend, workspace)
	switch {
	case plan != nil:
		return plan, false, nil
	case ctx.Err() != nil:
		return nil, false, context.Cause(ctx)
	case waitErr != nil && wait.Err() == nil:
		return nil, false, waitErr
	case unread != nil:
		return &messages.Plan{Request: *unread}, true, nil
	}
	return nil, false, err
}

// unreadRequest returns a request that is in the queue; nil if there is none.
func unreadRequest(ctx context.Context, c *jetstream.Conn, id, backend, workspace string) (found *messages.Request, err error) {
	subject := messages.Prefix + ".request." + orStar(backend) + "." + orStar(workspace)
	err = c.Unread(ctx, jetstream.Requests, jetstream.PlannerConsumer, subject, func(f jetstream.Followed) bool {
		var r messages.Request
		if _ = messages.Decode(f.Data, &r); string(r.ID) == id { // an invalid one is there, too
			found = &r
		}
		return found == nil
	})
	return found, err
}

// refusal returns the plan that is made of a request's newest outcome, if that
// is a rejection; nil otherwise.
func refusal(ctx context.Context, c *jetstream.Conn, id, backend string) (*messages.Plan, error) {
	f, err := c.Last(ctx, jetstream.Outcomes, outcomesOf(id, backend))
	if errors.Is(err, messages.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return rejected(f), nil
}

func outcomesOf(id, backend string) string {
	return messages.Prefix + ".outcome." + orStar(backend) + "." + messages.Token(id)
}

// rejected makes a plan of an outcome that is a rejection; nil for another.
func rejected(f jetstream.Followed) *messages.Plan {
	var o messages.Outcome
	if messages.Decode(f.Data, &o) != nil || o.Kind != messages.OutcomeRejected {
		return nil
	}
	return &messages.Plan{Request: messages.Request{ID: o.Request, Backend: o.Backend, Workspace: o.Workspace}, Code: o.Code, Reasons: o.Reasons}
}

// firstWord waits for a plan of a request, or for its rejection.
func firstWord(ctx context.Context, c *jetstream.Conn, id, backend, workspace string) (*messages.Plan, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	said, ended := make(chan *messages.Plan, 1), make(chan error, 2)
	say := func(p *messages.Plan) {
		select {
		case said <- p:
		default:
		}
	}
	go func() {
		filter := orStar(backend) + "." + orStar(workspace) + ".request." + messages.Token(id)
		ended <- c.PlansRegister().Watch(ctx, filter, func(e messages.Entry[messages.Plan]) {
			if e.Value != nil {
				say(e.Value)
			}
		})
	}()
	go func() {
		ended <- c.Follow(ctx, jetstream.Outcomes, outcomesOf(id, backend), jetstream.Start{}, func(f jetstream.Followed) bool {
			if p := rejected(f); p != nil {
				say(p)
			}
			return true
		})
	}()
	select {
	case p := <-said:
		return p, nil
	case err := <-ended:
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
