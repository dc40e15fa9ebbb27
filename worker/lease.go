package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/internal/fault"
	"sluice/messages"
)

// ended is how long the last word on a lease is kept: as long as the marker of
// an expired one. So no zombie can take a fence's expiry for its own.
const ended = 7 * 24 * time.Hour

// errTaken says that another worker, or an earlier claim, has the attempt.
var errTaken = errors.New("the attempt was claimed already")

// A stopped cause says that the planner, or a lost connection, ended an
// attempt.
type stopped struct{ reason string }

func (s *stopped) Error() string { return "stopped: " + s.reason }

// A hold is the lease of one attempt, held.
type hold struct {
	leases Leases
	key    string
	ttl    time.Duration
	hard   bool // an unconfirmed lease is a lost one

	mu        sync.Mutex
	lease     messages.Lease
	revision  messages.Revision
	confirmed time.Time // when the last write that the server confirmed was sent
	over      bool      // it is not renewed any more
	gone      bool      // fenced or deleted: there is nothing to release
}

func (w *Worker) newHold(a *messages.Action, nonce string) *hold {
	now := time.Now()
	return &hold{
		leases: w.Leases, key: messages.LeaseKey(a.Backend, a.Job, a.Attempt), ttl: w.cfg.LeaseTTL, hard: a.Hard, confirmed: now,
		lease: messages.Lease{State: messages.LeaseHeld, Owner: w.cfg.Name, Nonce: nonce, Weight: a.Weight, Pool: a.Pool, At: now.UTC()},
	}
}

// claim takes the lease of an attempt, once and for ever. The nonce is this
// process's: a claim whose answer was lost is known again when the action is
// delivered again. Who has the attempt in hand must not call it.
func (w *Worker) claim(ctx context.Context, a *messages.Action) (*hold, error) {
	h := w.newHold(a, w.nonce)
	revision, err := h.leases.Create(ctx, h.key, &h.lease, h.ttl)
	if err == nil {
		h.revision = revision
		return h, nil
	}
	if !errors.Is(err, messages.ErrConflict) {
		return nil, fmt.Errorf("claim attempt %d of %s: %w", a.Attempt, a.Job, err)
	}
	now, err := h.leases.Get(ctx, h.key)
	switch {
	case errors.Is(err, messages.ErrNotFound), errors.Is(err, messages.ErrUnreadable):
		return nil, errTaken // deleted or overwritten by hand: never claimed again
	case err != nil:
		return nil, fmt.Errorf("claim attempt %d of %s: %w", a.Attempt, a.Job, err)
	case !h.mine(now.Value):
		return nil, errTaken
	}
	h.revision = now.Revision
	return h, nil
}

// mine reports whether a lease is this claim's, and still to be renewed.
func (h *hold) mine(l *messages.Lease) bool {
	return l != nil && l.State == messages.LeaseHeld && l.Owner == h.lease.Owner && l.Nonce == h.lease.Nonce
}

// renew keeps the lease until ctx ends or it is over, which stop is told. Look
// makes it look at once.
func (h *hold) renew(ctx context.Context, look <-chan struct{}, stop func(error)) {
	ticker := time.NewTicker(h.ttl / 4)
	defer ticker.Stop()
	late := time.NewTimer(h.ttl)
	defer late.Stop()
	for {
		if late.Stop(); h.hard {
			late.Reset(time.Until(h.deadline()))
		}
		select {
		case <-ctx.Done():
			return
		case <-look:
		case <-ticker.C:
		case <-late.C:
		}
		if err := h.beat(ctx); err != nil {
			stop(err)
			return
		}
	}
}

// deadline is when a lease in a hard pool counts as lost, unless it is
// confirmed before.
func (h *hold) deadline() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.confirmed.Add(h.ttl)
}

// beat renews once. Its error says why the attempt must stop; trouble on the
// way is none, but in a hard pool when it lasts a whole time to live.
func (h *hold) beat(ctx context.Context) error {
	fault.At("worker.before-renewal")
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return nil
	}
	wait := h.ttl / 4
	if left := time.Until(h.confirmed.Add(h.ttl)); h.hard && left < wait {
		wait = max(left, 0)
	}
	call, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if h.revision == 0 { // taken over from an earlier process
		if err := h.settle(call); err != nil || h.revision == 0 {
			return err
		}
	}
	sent := time.Now()
	revision, err := h.leases.Update(call, h.key, &h.lease, h.revision, h.ttl)
	if errors.Is(err, messages.ErrConflict) {
		return h.settle(call)
	}
	if err != nil {
		return h.unconfirmed()
	}
	h.revision, h.confirmed = revision, sent
	return nil
}

// settle finds out who changed the lease: an earlier write of our own, the
// clock, or the planner.
func (h *hold) settle(ctx context.Context) error {
	sent := time.Now()
	now, err := h.leases.Get(ctx, h.key)
	switch {
	case errors.Is(err, messages.ErrNotFound):
		h.over, h.gone = true, true
		return &stopped{"its lease was deleted"}
	case err != nil:
		return h.unconfirmed()
	case now.Expired || now.Value == nil:
		revision, err := h.leases.Update(ctx, h.key, &h.lease, now.Revision, h.ttl)
		if err != nil {
			return h.unconfirmed() // fenced this very moment, perhaps: the next beat tells
		}
		h.revision, h.confirmed = revision, sent
		return nil
	case h.mine(now.Value):
		h.revision = now.Revision
		if since := now.At; since.After(h.confirmed) && since.Before(sent) {
			h.confirmed = since // an earlier write of ours, whose answer was lost
		}
		return nil
	}
	h.over, h.revision = true, now.Revision
	h.gone = now.Value.Nonce != h.lease.Nonce || now.Value.State == messages.LeaseFenced || now.Value.State == messages.LeaseReleased
	reason := now.Value.Reason
	if reason == "" {
		reason = "no reason is given"
	}
	return &stopped{fmt.Sprintf("the lease is %s (%s)", now.Value.State, reason)}
}

func (h *hold) unconfirmed() error {
	if h.hard && time.Since(h.confirmed) >= h.ttl {
		h.over = true
		return &stopped{"no renewal was confirmed for a whole time to live, and the pool has a hard limit"}
	}
	return nil
}

// release gives the lease up: its slots are free. One that is fenced or gone
// needs no release, and keeps the planner's word.
func (h *hold) release(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.lease.State = messages.LeaseReleased
	for !h.gone {
		_, err := h.leases.Update(ctx, h.key, &h.lease, h.revision, ended)
		if err == nil {
			h.gone = true
			return nil
		}
		if !errors.Is(err, messages.ErrConflict) {
			return fmt.Errorf("release lease %s: %w", h.key, err)
		}
		now, err := h.leases.Get(ctx, h.key)
		switch {
		case errors.Is(err, messages.ErrNotFound):
			h.gone = true
		case err != nil:
			return fmt.Errorf("release lease %s: %w", h.key, err)
		case now.Value != nil:
			h.gone = now.Value.Nonce != h.lease.Nonce || !now.Value.Counts()
		}
		h.revision = now.Revision
	}
	return nil
}
