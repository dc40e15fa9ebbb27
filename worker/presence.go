package worker

import (
	"context"
	"fmt"
	"time"

	"sluice/messages"
)

// presenceTTL is how long a worker that says nothing counts as alive.
const presenceTTL = 45 * time.Second

// presencePause is the least time between two announcements of slots alone:
// they are for people to look at, and each is a durable write.
const presencePause = time.Second

// announce tells the fleet about this worker: every third of the time that it
// counts as alive, when it begins or ceases to take actions, and when its slots
// change.
func (w *Worker) announce(ctx context.Context) {
	ticker := time.NewTicker(presenceTTL / 3)
	defer ticker.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, presenceTTL/3)
		err := w.Fleet.Announce(call, w.presence(), presenceTTL)
		cancel()
		if err != nil && ctx.Err() == nil {
			w.Log.Warn().Err(err).Msg("presence could not be announced")
		}
		pause.Reset(presencePause)
		var slots chan struct{} // heard when the pause is over
		for {
			select {
			case <-ctx.Done():
				w.farewell()
				return
			case <-pause.C:
				slots = w.slots
				continue
			case <-ticker.C:
			case <-w.changed:
			case <-slots:
			}
			break
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
	p := &messages.Presence{
		Worker: w.cfg.Name, Backend: w.cfg.Backend, Host: w.cfg.Host, Version: w.cfg.Version, Pools: map[string]messages.Slots{},
		Since: w.since, At: time.Now().UTC(),
	}
	switch draining, unfit := w.gate.state(); {
	case draining:
		p.Draining, p.Reason = true, "draining"
	case unfit != "":
		p.Draining, p.Reason = true, messages.Clip(unfit)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for pool, r := range w.rooms {
		p.Pools[pool] = messages.Slots{Total: float64(r.total) / one, Used: float64(r.used) / one}
	}
	return p
}

// touch has the presence announced at once.
func (w *Worker) touch() { nudge(w.changed) }

// touchSlots has it announced soon.
func (w *Worker) touchSlots() { nudge(w.slots) }

func nudge(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// healthLook is between two looks at what may keep the worker from working.
const healthLook = 10 * time.Second

// watchHealth keeps looking: a worker that cannot work must not take actions
// and drop them.
func (w *Worker) watchHealth(ctx context.Context) {
	for pause(ctx, healthLook) {
		w.checkHealth(ctx)
		w.sweepStrays(ctx)
	}
}

// checkHealth finds out whether the worker can work, and shuts or opens its
// gate.
func (w *Worker) checkHealth(ctx context.Context) {
	why := w.whyUnfit(ctx)
	if ctx.Err() != nil {
		return
	}
	before := ""
	w.gate.set(func(g *gate) { before, g.unfit = g.unfit, why })
	switch {
	case before == why:
		return
	case why != "":
		w.Log.Error().Str("reason", why).Msg("worker takes nothing until this is mended")
	default:
		w.Log.Info().Msg("worker takes actions again")
	}
	w.touch()
}

func (w *Worker) whyUnfit(ctx context.Context) string {
	free, err := w.Staging.Free()
	if err != nil {
		return err.Error()
	}
	if free < w.cfg.MinFree && w.Staging.DropLeft() {
		if free, err = w.Staging.Free(); err != nil {
			return err.Error()
		}
	}
	if free < w.cfg.MinFree {
		return fmt.Sprintf("staging has less than %d MiB free", w.cfg.MinFree>>20)
	}
	if err := w.journal.check(); err != nil {
		return err.Error()
	}
	if err := w.Runtime.Check(ctx); err != nil {
		return err.Error()
	}
	return ""
}
