package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/internal/fault"
	"sluice/messages"
)

// take asks for actions of one pool while there is room for them. What came is
// claimed while more is asked for: a claim waits for the server and the disk.
func (w *Worker) take(ctx, life context.Context, pool string) error {
	r := w.rooms[pool]
	for behind := 0; ; {
		n := r.reserve(ctx, behind)
		if n == 0 {
			return nil // told to stop
		}
		list, err := w.next(ctx, pool, n)
		r.free.Release(int64(n-len(list)) * r.pull())
		if len(list) == 0 && (err != nil || ctx.Err() != nil) {
			return err
		}
		behind = 0
		var heavy <-chan struct{}
		for _, d := range list {
			behind = d.Behind
			if fitted := w.begin(life, d, pool, heavy == nil); fitted != nil {
				heavy = fitted
			}
		}
		if heavy == nil {
			continue
		}
		select {
		case <-heavy:
		case <-ctx.Done():
			return nil
		}
	}
}

// begin begins with what a delivery asks for. Of an action that takes more than
// was reserved for it, it returns what is closed once it has all its slots, or
// will never have them; if none is to wait for that it is given back.
func (w *Worker) begin(life context.Context, d *messages.Delivery, pool string, mayWait bool) (heavy <-chan struct{}) {
	r := w.rooms[pool]
	action, err := w.read(d, pool)
	waits := err == nil && r.weight(action) > r.pull()
	if waits && !mayWait || err != nil {
		r.free.Release(r.pull())
		w.hands.Go(func() {
			if err != nil {
				w.refuse(life, d, err)
			} else {
				w.settle(life, d, context.Canceled) // for another worker, at once
			}
		})
		return nil
	}
	fitted := make(chan struct{})
	w.occupy(r, r.pull())
	w.hands.Go(func() {
		a := w.accept(life, d, action, fitted)
		if a == nil {
			w.occupy(r, -r.pull())
			r.free.Release(r.pull())
			close(fitted)
			return
		}
		w.finish(a, a.perform())
	})
	if !waits {
		return nil
	}
	return fitted
}

// next waits for an action of a pool, or looks for n. It returns none when ctx
// ends or when the worker was told to take nothing meanwhile.
func (w *Worker) next(ctx context.Context, pool string, n int) (list []*messages.Delivery, err error) {
	open := w.gate.wait(ctx)
	if open == nil {
		return nil, nil
	}
	pull, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(open, cancel)()
	if n > 1 {
		list = w.Inboxes[pool].Some(pull, n)
	} else {
		var d *messages.Delivery
		d, err = w.Inboxes[pool].Next(pull)
		list = []*messages.Delivery{d}
	}
	switch {
	case err != nil && pull.Err() != nil, len(list) == 0:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("ask for an action of pool %s: %w", pool, err)
	}
	fault.At("worker.after-take")
	// It may have come with the last breath of the request, or while the engine
	// died: another worker can have it.
	w.checkHealth(ctx)
	if pull.Err() != nil || open.Err() != nil {
		for _, d := range list {
			w.hands.Go(func() { w.settle(context.WithoutCancel(ctx), d, errors.New("the worker takes nothing now")) })
		}
		return nil, nil
	}
	return list, nil
}

// read reads the action of a delivery. Its error parks what is not one of this
// pool's.
func (w *Worker) read(d *messages.Delivery, pool string) (*messages.Action, error) {
	action := &messages.Action{}
	if err := messages.Decode(d.Data, action); err != nil {
		return nil, messages.Park("not an action: %w", err)
	}
	if action.Subject() != d.Subject || action.Backend != w.cfg.Backend || action.Pool != pool {
		return nil, messages.Park("the action is for %s, it came on %s to pool %s of %s", action.Subject(), d.Subject, pool, w.cfg.Backend)
	}
	return action, nil
}

// accept claims the lease of an action's attempt, writes the journal, and
// settles the message: from then on the lease is all that counts. It returns
// nil if the attempt is not ours, or cannot be.
func (w *Worker) accept(life context.Context, d *messages.Delivery, action *messages.Action, fitted chan struct{}) *attempt {
	ctx, cancel := context.WithTimeout(life, w.cfg.LeaseTTL)
	defer cancel()
	a, err := w.tryAccept(ctx, life, action, fitted)
	if errors.Is(err, errTaken) {
		w.Log.Debug().Str("subject", d.Subject).Msg("action was taken before")
		err = nil
	}
	if err != nil {
		w.refuse(life, d, err)
		return nil
	}
	w.settle(life, d, nil)
	if a != nil {
		fault.At("worker.after-ack")
	}
	return a
}

// refuse parks a delivery, or gives it back, and says why.
func (w *Worker) refuse(ctx context.Context, d *messages.Delivery, why error) {
	w.Log.Warn().Err(why).Str("subject", d.Subject).Msg("action was not taken")
	w.settle(ctx, d, why)
}

// settle ends a delivery. If that fails the message comes again, meets the
// lease, and is forgotten.
func (w *Worker) settle(ctx context.Context, d *messages.Delivery, verdict error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.LeaseTTL/4)
	defer cancel()
	if err := d.Settle(ctx, verdict); err != nil {
		w.Log.Debug().Err(err).Str("subject", d.Subject).Msg("action could not be settled")
	}
}

func (w *Worker) tryAccept(ctx, life context.Context, action *messages.Action, fitted chan struct{}) (*attempt, error) {
	e := &entry{Phase: phaseClaimed, Action: *action, Nonce: w.nonce, Claimed: time.Now().UTC(), Boot: bootID()}
	id := e.attempt()
	if err := w.reserve(id); err != nil {
		return nil, err
	}
	defer w.unreserve(id)
	hold, err := w.claim(ctx, action)
	if err != nil {
		return nil, err
	}
	fault.At("worker.after-claim")
	a := w.newAttempt(life, e, hold, fitted)
	w.add(a)
	if err := w.journal.write(e); err != nil {
		// Claimed, it is nobody else's: the planner must hear that it failed here.
		w.hands.Go(func() { w.finish(a, a.fail(err)) })
		return nil, nil
	}
	fault.At("worker.after-journal")
	a.log.Info().Msg("attempt was claimed")
	return a, nil
}

// errClaiming says that this process is about to claim the attempt: its message
// came twice, and must not be settled before the claim is known.
var errClaiming = errors.New("the attempt is being claimed")

// reserve keeps other deliveries of an attempt out while it is claimed: a second
// claim by the same process would count as its own.
func (w *Worker) reserve(id Attempt) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.attempts[id] != nil:
		return errTaken
	case w.claiming[id]:
		return errClaiming
	}
	w.claiming[id] = true
	return nil
}

func (w *Worker) unreserve(id Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.claiming, id)
}
