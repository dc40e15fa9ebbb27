package worker

import (
	"context"
	"time"

	"sluice/messages"
)

// meterEvery is the pause between two samples of what a container uses, and
// before the first: most actions of a busy fleet never come to it.
const meterEvery = 10 * time.Second

// meter samples what the container uses until ctx ends. A worker that takes an
// attempt over begins anew: its first sample of the processors stands for all
// of the time since the container began, as the engine adds them up.
func (a *attempt) meter(ctx context.Context) {
	var m messages.Metrics
	began, used := a.entry.Began, time.Duration(0)
	last := began
	for pause(ctx, meterEvery) {
		usage, err := a.box.Usage(ctx)
		now := time.Now()
		seconds, runtime := now.Sub(last).Seconds(), now.Sub(began).Seconds()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.log.Debug().Err(err).Msg("what the container uses cannot be had")
			continue
		case seconds <= 0 || runtime <= 0: // the clock was set back
			last = now
			continue
		}
		m.Add(max((usage.CPU-used).Seconds(), 0)/seconds*100, float64(usage.Memory)/(1<<20), seconds, runtime)
		m.Container = usage.Container
		last, used = now, usage.CPU
		a.metrics = &m
	}
}
