package planner

import (
	"context"
	"errors"
	"slices"

	"sluice/messages"
)

// A call is something for the owner of the state to do.
type call struct {
	about jobKey // the one job whose record it may change; zero: any
	run   func(context.Context) (*step, error)
	done  chan error
}

// noJob is what a call is about that changes no record.
var noJob = jobKey{backend: "-"}

// A step is the change of one job's record that a call comes to. Those of calls
// that wait at the same time are written at the same time.
type step struct {
	job    *job
	change func(*messages.Job) error
	after  func(context.Context) error // what follows from it; nil for nothing
}

// mostCalls is how many calls wait, and how many are handled together.
const mostCalls = 256

// do has the owner of the state run a function, and returns its error. One that
// leaves in doubt what is written ends the session, see spare.
func (s *session) do(ctx context.Context, run func(context.Context) error) error {
	return s.about(ctx, jobKey{}, func(ctx context.Context) (*step, error) { return nil, run(ctx) })
}

// about is do for a function that changes the record of no job but one, if it
// changes any.
func (s *session) about(ctx context.Context, key jobKey, run func(context.Context) (*step, error)) error {
	c := s.post(ctx, key, run)
	select {
	case err := <-c.done:
		return err
	case <-s.ended:
		return errSessionEnded
	}
}

// post is about for who needs no answer: a fault ends the session. Calls are
// handled in the order in which they are posted.
func (s *session) post(ctx context.Context, key jobKey, run func(context.Context) (*step, error)) call {
	c := call{about: key, run: run, done: make(chan error, 1)}
	select {
	case s.calls <- c:
	case <-s.ended:
		c.done <- errSessionEnded
	case <-ctx.Done():
		c.done <- ctx.Err()
	}
	return c
}

var errSessionEnded = errors.New("this planner has stopped being the active one")

// answer handles a call and those that wait behind it, and returns what ends
// the session.
func (s *session) answer(ctx context.Context, c call) error {
	var open []opened
	for n := 1; ; n++ {
		if c.about == (jobKey{}) || slices.ContainsFunc(open, func(o opened) bool { return o.about == c.about }) {
			if err := s.step(ctx, open); err != nil { // it may ask for what they change
				return err
			}
			open = nil
		}
		next, err := c.run(ctx)
		var parked *messages.Parked
		switch {
		case err == nil && next != nil:
			open = append(open, opened{c, next})
		case err == nil || errors.As(err, &parked):
			c.done <- err
		case messages.Unmendable(err) && s.jobs[c.about] != nil:
			if err := s.breakOff(ctx, s.jobs[c.about], err); err != nil {
				c.done <- err
				return err
			}
			c.done <- nil
		case messages.Unmendable(err):
			c.done <- err // whoever asked says so
		default:
			c.done <- err
			return err
		}
		if n == mostCalls {
			return s.step(ctx, open)
		}
		select {
		case c = <-s.calls:
		default:
			return s.step(ctx, open)
		}
	}
}

// An opened is a call whose step is to be done.
type opened struct {
	call
	step *step
}

// step does the steps of calls, each about another job.
func (s *session) step(ctx context.Context, list []opened) error {
	jobs := make([]*job, len(list))
	for i, o := range list {
		jobs[i] = o.step.job
	}
	err := s.eachJob(ctx, jobs, func(ctx context.Context, i int) error { return s.save(ctx, jobs[i], list[i].step.change) })
	if err != nil {
		return err
	}
	for i, o := range list {
		if s.jobs[jobs[i].key] == jobs[i] {
			if err := s.spare(ctx, jobs[i], s.follow(ctx, o.step)); err != nil {
				return err
			}
		}
		o.done <- nil
	}
	return nil
}

// take does a step at once.
func (s *session) take(ctx context.Context, next *step) error {
	if next == nil {
		return nil
	}
	if err := s.save(ctx, next.job, next.change); err != nil {
		return err
	}
	return s.follow(ctx, next)
}

func (s *session) follow(ctx context.Context, done *step) error {
	if done.after == nil {
		return nil
	}
	return done.after(ctx)
}
