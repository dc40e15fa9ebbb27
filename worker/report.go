package worker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/messages"
)

// A reporter publishes an attempt's stages, in order, without holding the
// attempt up: a server that is away must not stop a container. A stage that is
// soon over is not told: each costs three durable writes (the event, the job's
// record, the outcome), and nobody could have looked.
type reporter struct {
	out    Outbox
	wait   time.Duration // how long a stage must last
	events chan *messages.WorkerEvent
	done   chan struct{}
}

func newReporter(ctx context.Context, out Outbox, wait time.Duration) *reporter {
	r := &reporter{out: out, wait: wait, events: make(chan *messages.WorkerEvent, 16), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for e := range r.events {
			e = r.lasting(e)
			id := fmt.Sprintf("event/%s/%d/%s", e.Job, e.Attempt, e.Stage)
			_ = r.out.Publish(ctx, e.Subject(), e, id) // a hint; its outbox retries until ctx ends
		}
	}()
	return r
}

// lasting returns the first stage from e on that lasts, or ends the attempt.
func (r *reporter) lasting(e *messages.WorkerEvent) *messages.WorkerEvent {
	if r.wait == 0 {
		return e
	}
	timer := time.NewTimer(r.wait)
	defer timer.Stop()
	for !e.Stage.Frees() {
		select {
		case next, open := <-r.events:
			if !open {
				return e
			}
			e = next
			timer.Reset(r.wait)
		case <-timer.C:
			return e
		}
	}
	return e
}

// report queues one event.
func (a *attempt) report(stage messages.Stage, code messages.Code, reason string) {
	act := &a.entry.Action
	const bound = 4000
	if len(reason) > bound {
		reason = strings.ToValidUTF8(reason[:bound], "")
	}
	a.reporter.events <- &messages.WorkerEvent{
		Job: act.Job, Attempt: act.Attempt, Backend: act.Backend, Workspace: act.Workspace, Worker: a.w.cfg.Name,
		Stage: stage, Code: code, Reason: reason, At: time.Now().UTC(),
	}
}

// close publishes what is queued and ends the reporter.
func (r *reporter) close() {
	close(r.events)
	<-r.done
}
