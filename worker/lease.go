package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/messages"
)

// ended is how long the last word on a lease is kept: as long as the marker of
// an expired one. So no zombie can take a fence's expiry for its own.
const ended = 7 * 24 * time.Hour

// errTaken says that another attempt, or an earlier claim, has the lease.
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
	lease  messages.Lease

	mu        sync.Mutex
	revision  messages.Revision
	confirmed time.Time
	over      bool // stopping, fenced or released: not renewed any more
}

// claim takes the lease of an attempt, once and for ever.
func (w *Worker) claim(ctx context.Context, a *messages.Action, nonce string) (*hold, error) {
	h := w.newHold(a, nonce)
	revision, err := w.Leases.Create(ctx, h.key, &h.lease, h.ttl)
	if errors.Is(err, messages.ErrConflict) {
		return nil, errTaken
	}
	if err != nil {
		return nil, fmt.Errorf("claim attempt %d of %s: %w", a.Attempt, a.Job, err)
	}
	h.revision, h.confirmed = revision, time.Now()
	return h, nil
}

func (w *Worker) newHold(a *messages.Action, nonce string) *hold {
	return &hold{
		leases: w.Leases, key: messages.LeaseKey(a.Backend, a.Job, a.Attempt), ttl: w.cfg.LeaseTTL, hard: a.Hard, confirmed: time.Now(),
		lease: messages.Lease{State: messages.LeaseHeld, Owner: w.cfg.Name, Nonce: nonce, Weight: a.Weight, Pool: a.Pool, At: time.Now().UTC()},
	}
}

// renew keeps the lease until ctx ends or it is over, which stop is told. Look
// makes it look at once.
func (h *hold) renew(ctx context.Context, look <-chan struct{}, stop func(error)) {
	ticker := time.NewTicker(h.ttl / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look:
		case <-ticker.C:
		}
		if err := h.beat(ctx); err != nil {
			stop(err)
			return
		}
	}
}

// beat renews once. Its error says why the attempt must stop; trouble on the
// way is none, but in a hard pool when it lasts a whole time to live.
func (h *hold) beat(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, h.ttl/4)
	defer cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return nil
	}
	revision, err := h.leases.Update(call, h.key, &h.lease, h.revision, h.ttl)
	if errors.Is(err, messages.ErrConflict) {
		return h.settle(call)
	}
	if err == nil {
		h.revision, h.confirmed = revision, time.Now()
		return nil
	}
	return h.unconfirmed()
}

// settle finds out who changed the lease: an earlier write of our own, the
// clock, or the planner.
func (h *hold) settle(ctx context.Context) error {
	now, err := h.leases.Get(ctx, h.key)
	switch {
	case errors.Is(err, messages.ErrNotFound):
		h.over = true
		return &stopped{"its lease was deleted"}
	case err != nil:
		return h.unconfirmed()
	case now.Expired:
		revision, err := h.leases.Update(ctx, h.key, &h.lease, now.Revision, h.ttl)
		if err != nil {
			return h.unconfirmed() // fenced this very moment, perhaps: the next beat tells
		}
		h.revision, h.confirmed = revision, time.Now()
		return nil
	case now.Value.State == messages.LeaseHeld && now.Value.Owner == h.lease.Owner && now.Value.Nonce == h.lease.Nonce:
		h.revision, h.confirmed = now.Revision, time.Now()
		return nil
	}
	h.over, h.revision = true, now.Revision
	return &stopped{fmt.Sprintf("the lease is %s (%s)", now.Value.State, now.Value.Reason)}
}

func (h *hold) unconfirmed() error {
	if h.hard && time.Since(h.confirmed) > h.ttl {
		h.over = true
		return &stopped{"no renewal was confirmed for a whole time to live, and the pool has a hard limit"}
	}
	return nil
}

// release gives the lease up: its slots are free. A lease that is fenced or
// gone needs no release.
func (h *hold) release(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.lease.State = messages.LeaseReleased
	for {
		revision, err := h.leases.Update(ctx, h.key, &h.lease, h.revision, ended)
		if err == nil {
			h.revision = revision
			return nil
		}
		if !errors.Is(err, messages.ErrConflict) {
			return fmt.Errorf("release lease %s: %w", h.key, err)
		}
		now, err := h.leases.Get(ctx, h.key)
		switch {
		case errors.Is(err, messages.ErrNotFound):
			return nil
		case err != nil:
			return fmt.Errorf("release lease %s: %w", h.key, err)
		case now.Value != nil && (now.Value.Nonce != h.lease.Nonce || now.Value.State == messages.LeaseFenced || now.Value.State == messages.LeaseReleased):
			return nil
		}
		h.revision = now.Revision
	}
}
