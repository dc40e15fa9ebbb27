package worker

import (
	"context"
	"fmt"
	"time"

	"sluice/messages"
)

// presenceTTL is how long a worker that says nothing counts as alive.
const presenceTTL = 45 * time.Second

// announce tells the fleet about this worker: every third of the time that it
// counts as alive, and whenever its slots change.
func (w *Worker) announce(ctx context.Context) {
	ticker := time.NewTicker(presenceTTL / 3)
	defer ticker.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, presenceTTL/3)
		err := w.Fleet.Announce(call, w.presence(), presenceTTL)
		cancel()
		if err != nil && ctx.Err() == nil {
			w.Log.Warn().Err(err).Msg("presence could not be announced")
		}
		select {
		case <-ctx.Done():
			w.farewell()
			return
		case <-ticker.C:
		case <-w.changed:
		}
	}
}

// farewell makes the fleet forget this worker soon.
func (w *Worker) farewell() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	p := w.presence()
	p.Draining, p.Reason = true, "stopped"
	_ = w.Fleet.Announce(ctx, p, time.Second) // or it is forgotten in 45 seconds
}

func (w *Worker) presence() *messages.Presence {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &messages.Presence{
		Worker: w.cfg.Name, Backend: w.cfg.Backend, Host: w.cfg.Host, Version: w.cfg.Version, Pools: map[string]messages.Slots{},
		Draining: w.draining, Since: w.since, At: time.Now().UTC(),
	}
	for pool, r := range w.rooms {
		p.Pools[pool] = messages.Slots{Total: float64(r.total) / one, Used: float64(r.used) / one}
	}
	switch {
	case w.draining:
		p.Reason = "draining"
	case w.unfit != "":
		p.Draining, p.Reason = true, w.unfit
	}
	return p
}

// touch has the presence announced soon.
func (w *Worker) touch() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *Worker) setDraining(on bool) {
	w.mu.Lock()
	changed := w.draining != on
	w.draining = on
	if changed && !on {
		close(w.opened)
		w.opened = make(chan struct{})
	}
	w.mu.Unlock()
	w.touch()
}

func (w *Worker) occupy(pool string, weight int64) {
	w.mu.Lock()
	w.rooms[pool].used += weight
	w.mu.Unlock()
	w.touch()
}

// vacate frees an attempt's slots, once.
func (w *Worker) vacate(a *attempt, weight int64) {
	r := w.rooms[a.entry.Action.Pool]
	w.mu.Lock()
	if a.freed {
		w.mu.Unlock()
		return
	}
	a.freed = true
	r.used -= weight
	w.mu.Unlock()
	r.free.Release(weight)
	w.touch()
}

// unfitPause is between two looks at what keeps the worker from working.
const unfitPause = 10 * time.Second

// waitUntilFit returns when the worker can work, or ctx ends: a worker that
// cannot must not take actions and drop them.
func (w *Worker) waitUntilFit(ctx context.Context) error {
	for {
		w.mu.Lock()
		draining, opened := w.draining, w.opened
		w.mu.Unlock()
		if !draining {
			why := w.whyUnfit(ctx)
			w.setUnfit(why)
			if why == "" {
				return ctx.Err()
			}
		}
		timer := time.NewTimer(unfitPause)
		select {
		case <-ctx.Done():
		case <-opened:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (w *Worker) whyUnfit(ctx context.Context) string {
	free, err := w.Staging.Free()
	if err != nil {
		return err.Error()
	}
	if free < w.cfg.MinFree {
		return fmt.Sprintf("staging has %d MiB free, %d MiB are needed", free>>20, w.cfg.MinFree>>20)
	}
	if err := w.Runtime.Check(ctx); err != nil && ctx.Err() == nil {
		return err.Error()
	}
	return ""
}

func (w *Worker) setUnfit(why string) {
	w.mu.Lock()
	changed := w.unfit != why
	w.unfit = why
	w.mu.Unlock()
	if !changed {
		return
	}
	if why != "" {
		w.Log.Error().Str("reason", why).Msg("worker takes nothing until this is mended")
	} else {
		w.Log.Info().Msg("worker takes actions again")
	}
	w.touch()
}
