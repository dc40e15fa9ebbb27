package worker

import (
	"context"
	"time"
)

// A container may be left that no attempt speaks of any more: the engine did not
// answer when it was to be removed, or it makes one, late, that was asked for by
// a process that has died since or has given up waiting. An engine tells nobody
// what it is about to make: so the containers are looked through for a while,
// and now and then.
const (
	strayWhile = 2 * time.Minute  // after a start or a failure, at each look at the worker's health
	strayLook  = 10 * time.Minute // at any time
)

// suspect has the containers looked through for a while.
func (w *Worker) suspect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.strays = time.Now().Add(strayWhile)
}

// suspects reports whether it is time to look through the containers. That is
// not before what an earlier process left is taken up.
func (w *Worker) suspects(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.strays.IsZero() && (now.Before(w.strays) || now.Sub(w.swept) >= strayLook)
}

// sweepStrays removes the containers that belong to no attempt in hand, if it is
// time to look for them and the engine answers.
func (w *Worker) sweepStrays(ctx context.Context) {
	if _, unfit := w.gate.state(); unfit != "" || !w.suspects(time.Now()) {
		return
	}
	boxes, err := w.Runtime.Find(ctx)
	if err != nil {
		w.suspect()
		return
	}
	w.mu.Lock()
	w.swept = time.Now()
	w.mu.Unlock()
	for _, box := range boxes {
		id := box.Attempt()
		if id.Backend != w.cfg.Backend || w.has(id) {
			continue
		}
		if ctx.Err() != nil {
			return // asked after has: a worker that leaves drops its attempts, and their containers stay
		}
		log := w.Log.With().Str("job", string(id.Job)).Int("attempt", id.Number).Logger()
		if err := box.Remove(ctx); err != nil {
			log.Warn().Err(err).Msg("container of no attempt could not be removed; it is tried again")
			w.suspect()
			continue
		}
		log.Warn().Msg("container of no attempt is removed")
	}
}
