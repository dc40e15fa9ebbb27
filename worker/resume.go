package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/internal/fault"
	"sluice/messages"
)

// adopt takes up the leases of what an earlier process of this worker left,
// whatever else happens.
func (w *Worker) adopt(life context.Context, entries []*entry) []*attempt {
	var old []*attempt
	fitted := make(chan struct{})
	close(fitted)
	for _, e := range entries {
		a := w.newAttempt(life, e, w.newHold(&e.Action, e.Nonce), fitted)
		a.lookNow()
		// It has its room already; there may be less of it than there was.
		if r := w.rooms[e.Action.Pool]; r != nil && e.Phase != phaseListed && r.free.TryAcquire(r.weight(&e.Action)) {
			a.occupy(r.weight(&e.Action), 0)
		}
		w.add(a)
		old = append(old, a)
	}
	return old
}

// resume goes on with what an earlier process left: attempts whose container
// exists are followed again, handed-over ones are handed over again, the rest
// is given back to the planner. Then it sweeps what nobody knows. It waits for
// the engine; if ctx ends meanwhile all is left as it was.
func (w *Worker) resume(ctx, life context.Context, old []*attempt) error {
	fault.At("worker.before-resume")
	boxes, err := w.findBoxes(ctx)
	if err != nil {
		for _, a := range old {
			w.finish(a, nil)
			w.drop(a)
		}
		return nil
	}
	w.suspect() // the process before may have died before the engine did what it asked for
	known := map[Attempt]bool{}
	for _, a := range old {
		known[Attempt{Job: a.id.Job, Number: a.id.Number}] = true
		box := boxes[a.id]
		delete(boxes, a.id)
		w.hands.Go(func() { w.finish(a, a.takeUp(box)) })
	}
	for id, box := range boxes {
		w.Log.Warn().Str("job", string(id.Job)).Int("attempt", id.Number).Msg("container without a journal entry is removed")
		if err := box.Remove(life); err != nil {
			return err
		}
	}
	return w.Staging.Sweep(func(job messages.JobID, n int) bool { return known[Attempt{Job: job, Number: n}] })
}

// findBoxes asks the engine for this worker's containers until it answers or
// ctx ends.
func (w *Worker) findBoxes(ctx context.Context) (map[Attempt]Container, error) {
	for {
		found, err := w.Runtime.Find(ctx)
		if err == nil {
			boxes := map[Attempt]Container{}
			for _, box := range found {
				// Another backend may have a worker of this name on this machine.
				if box.Attempt().Backend == w.cfg.Backend {
					boxes[box.Attempt()] = box
				}
			}
			return boxes, nil
		}
		w.checkHealth(ctx)
		w.Log.Warn().Err(err).Msg("containers of an earlier run cannot be looked for yet")
		if !pause(ctx, 2*time.Second) {
			return nil, err
		}
	}
}

// takeUp goes on with an attempt from where its journal entry says it was.
func (a *attempt) takeUp(box Container) (err error) {
	a.log.Info().Str("phase", string(a.entry.Phase)).Bool("container", box != nil).Msg("attempt of an earlier run is taken up")
	a.box = box
	switch {
	case a.entry.Phase == phaseListed:
		return a.perform() // again: the persister answers again
	case box == nil:
		return a.fail(fmt.Errorf("the worker was restarted while the attempt was %s, and it has no container", a.entry.Phase))
	case a.entry.Phase == phaseClaimed:
		return a.fail(errors.New("the worker was restarted before the attempt's container was"))
	case a.entry.Boot != bootID():
		return a.fail(errors.New("the machine was restarted while the attempt ran"))
	}
	a.space, err = a.w.Staging.Resume(a.id.Job, a.id.Number, a.entry.Given)
	if err != nil {
		return a.fail(err)
	}
	return a.perform()
}
