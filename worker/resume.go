package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/messages"
)

// resume takes up what an earlier process of this worker left: attempts whose
// container exists are followed again, handed-over ones wait for their verdict,
// the rest is given back to the planner. Then it sweeps what nobody knows. It
// returns the time from which verdicts matter.
func (w *Worker) resume(life context.Context, entries []*entry, hands *sync.WaitGroup) (time.Time, error) {
	boxes := map[Attempt]Container{}
	found, err := w.Runtime.Find(life)
	if err != nil {
		if len(entries) > 0 {
			return time.Time{}, fmt.Errorf("look for the containers of an earlier run: %w", err)
		}
		w.Log.Warn().Err(err).Msg("containers of an earlier run could not be looked for")
	}
	for _, box := range found {
		boxes[box.Attempt()] = box
	}
	since := time.Now().UTC()
	for _, e := range entries {
		if e.Claimed.Before(since) {
			since = e.Claimed
		}
		a := w.newAttempt(life, e)
		a.hold = w.newHold(&e.Action, e.Nonce)
		w.add(a)
		box := boxes[e.attempt()]
		delete(boxes, e.attempt())
		weight := int64(0)
		if r := w.rooms[e.Action.Pool]; r != nil && e.Phase != phaseListed {
			// It has its room already; there may be less of it than there was.
			if weight = r.weight(&e.Action); !r.free.TryAcquire(weight) {
				weight = 0
			} else {
				w.occupy(e.Action.Pool, weight)
			}
		}
		hands.Add(1)
		go func() {
			defer hands.Done()
			w.finish(a, w.takeUp(a, box), weight)
		}()
	}
	return since, w.sweep(life, entries, boxes)
}

// takeUp goes on with an attempt from where its journal entry says it was.
func (w *Worker) takeUp(a *attempt, box Container) error {
	a.log.Info().Str("phase", string(a.entry.Phase)).Bool("container", box != nil).Msg("attempt of an earlier run is taken up")
	if err := a.hold.beat(a.life); err != nil {
		a.log.Warn().Err(err).Msg("attempt is stopped")
		a.stop(err)
	}
	renewing := a.renewing()
	defer renewing()
	switch {
	case a.entry.Phase == phaseListed:
		if box != nil {
			if err := box.Remove(a.life); err != nil {
				a.log.Warn().Err(err).Msg("container could not be removed")
			}
		}
		return w.publishFiles(a) // again: the persister answers again
	case box == nil:
		return w.endWithout(a, fmt.Errorf("the worker was restarted while the attempt was %s, and it has no container", a.entry.Phase))
	case a.entry.Phase == phaseClaimed:
		return w.endWithout(a, errors.Join(errors.New("the worker was restarted while the attempt was staged"), box.Remove(a.life)))
	}
	space, err := w.Staging.Resume(a.entry.Action.Job, a.entry.Action.Attempt, a.entry.Given)
	if err != nil {
		return w.endWithout(a, errors.Join(err, box.Remove(a.life)))
	}
	a.report(messages.StageExecuting, "", "")
	return w.follow(a, box, space, 0)
}

// sweep removes containers and staging of this worker that no journal entry
// speaks of.
func (w *Worker) sweep(ctx context.Context, entries []*entry, strays map[Attempt]Container) error {
	for id, box := range strays {
		w.Log.Warn().Str("job", string(id.Job)).Int("attempt", id.Number).Msg("container without a journal entry is removed")
		if err := box.Remove(ctx); err != nil {
			return err
		}
	}
	known := map[Attempt]bool{}
	for _, e := range entries {
		known[Attempt{Job: e.Action.Job, Number: e.Action.Attempt}] = true
	}
	return w.Staging.Sweep(func(job messages.JobID, n int) bool { return known[Attempt{Job: job, Number: n}] })
}
