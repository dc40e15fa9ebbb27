package worker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/messages"
)

// A reporter publishes an attempt's stages, in order, without holding the
// attempt up: a server that is away must not stop a container.
type reporter struct {
	out    Outbox
	events chan *messages.WorkerEvent
	done   chan struct{}
}

func newReporter(ctx context.Context, out Outbox) *reporter {
	r := &reporter{out: out, events: make(chan *messages.WorkerEvent, 16), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for e := range r.events {
			id := fmt.Sprintf("event/%s/%d/%s", e.Job, e.Attempt, e.Stage)
			_ = r.out.Publish(ctx, e.Subject(), e, id) // a hint; its outbox retries until ctx ends
		}
	}()
	return r
}

// send queues one event.
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
