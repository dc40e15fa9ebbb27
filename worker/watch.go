package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/messages"
)

// An ending says who ended a container. The zero value: it did, by itself.
type ending struct {
	stopped  bool // the planner, or a lost lease
	timedOut bool
	reason   string
}

// diskLook is the pause between two looks at how much an attempt has written.
const diskLook = 5 * time.Second

// stopAgain is the pause before a container that does not end is stopped once
// more.
const stopAgain = 5 * time.Second

// waitForEnd waits for a container's end, and brings it about when the attempt
// is stopped, is at its time limit, or has written too much.
func (a *attempt) waitForEnd() (Exit, ending, error) {
	type result struct {
		exit Exit
		err  error
	}
	ctx, cancel := context.WithCancel(a.life)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()

	ended := make(chan result, 1)
	helpers.Go(func() {
		exit, err := a.box.Wait(ctx)
		ended <- result{exit, err}
	})
	limits := a.w.limits(&a.entry.Action)
	tooMuch := make(chan string, 1)
	helpers.Go(func() { a.watchDisk(ctx, limits.Disk, tooMuch) })
	helpers.Go(func() { a.meter(ctx) })
	limit := time.NewTimer(limits.Time - time.Since(a.entry.Began))
	defer limit.Stop()

	var end ending
	stop := func(why ending) {
		if end != (ending{}) {
			return
		}
		end = why
		a.log.Info().Str("reason", why.reason).Msg("container is stopped")
		helpers.Go(func() { a.stopBox(ctx) })
	}
	asked := a.ctx.Done()
	for {
		select {
		case r := <-ended:
			return r.exit, end, r.err
		case <-asked:
			asked = nil
			var why *stopped
			if errors.As(a.ended(), &why) {
				stop(ending{stopped: true, reason: why.reason})
			}
		case <-limit.C:
			stop(ending{timedOut: true, reason: fmt.Sprintf("the time limit of %s is over", limits.Time)})
		case why := <-tooMuch:
			stop(ending{reason: why})
		}
	}
}

// stopBox stops the container until ctx ends, which is when it has ended: an
// engine that does not answer now may answer later.
func (a *attempt) stopBox(ctx context.Context) {
	for {
		if err := a.box.Stop(ctx, a.w.cfg.StopGrace); err != nil && ctx.Err() == nil {
			a.log.Error().Err(err).Msg("container could not be stopped; it is tried again")
		}
		if !pause(ctx, stopAgain) {
			return
		}
	}
}

// watchDisk measures what the attempt writes. It tells once.
func (a *attempt) watchDisk(ctx context.Context, limit int64, tell chan<- string) {
	for pause(ctx, diskLook) {
		used, err := a.w.Staging.Used(ctx, a.space, limit)
		var failure *messages.Failure
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &failure):
			tell <- failure.Detail
			return
		case err != nil:
			a.log.Warn().Err(err).Msg("what the attempt writes cannot be measured")
		case used > limit:
			tell <- fmt.Sprintf("the action wrote more than %d MiB, which is its limit", limit>>20)
			return
		}
	}
}
