package worker

import "context"

// A container may be left that no attempt speaks of any more: the engine did
// not answer when it was made, or when it was to be removed. It is looked for as
// soon as the engine answers again.

// suspect has the containers looked through.
func (w *Worker) suspect() { w.strays.Store(true) }

// sweepStrays removes the containers that belong to no attempt in hand, if
// there may be any.
func (w *Worker) sweepStrays(ctx context.Context) {
	if _, unfit := w.gate.state(); unfit != "" || !w.strays.Swap(false) {
		return
	}
	boxes, err := w.Runtime.Find(ctx)
	if err != nil {
		w.suspect()
		return
	}
	for _, box := range boxes {
		id := box.Attempt()
		if id.Backend != w.cfg.Backend || w.has(id) {
			continue
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
