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
	wait   time.Duration   // how long a stage must last
	heard  <-chan struct{} // closed when the persister has told what became of the files
	events chan *messages.WorkerEvent
	done   chan struct{}
}

func newReporter(ctx context.Context, out Outbox, wait time.Duration, heard <-chan struct{}) *reporter {
	r := &reporter{out: out, wait: wait, heard: heard, events: make(chan *messages.WorkerEvent, 16), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for e := range r.events {
			if e = r.lasting(ctx, e); e == nil {
				continue
			}
			id := fmt.Sprintf("event/%s/%d/%s", e.Job, e.Attempt, e.Stage)
			_ = r.out.Publish(ctx, e.Subject(), e, id) // a hint; its outbox retries until ctx ends
		}
	}()
	return r
}

// longestUntold bounds for how long it is not told that an attempt has ended: a
// planner that knows it asks for the files' message where no verdict comes.
const longestUntold = time.Second

// lasting returns the first stage from e on that lasts, or ends the attempt; nil
// if all that were left was to wait for the persister, and that is over. That
// the attempt takes up no slot any more is told by its lease.
func (r *reporter) lasting(ctx context.Context, e *messages.WorkerEvent) *messages.WorkerEvent {
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
	if e.Stage == messages.StageFinalizing {
		timer.Reset(min(r.wait, longestUntold))
		select {
		case <-r.heard:
			return nil
		case <-timer.C:
		case <-ctx.Done():
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
