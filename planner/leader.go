package planner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"sluice/messages"
)

// errDeposed ends a session: another planner is, or may be, the active one.
var errDeposed = errors.New("another planner is active")

// A reign is the time in which this planner is the active one.
type reign struct {
	value    messages.Leader
	revision messages.Revision
	renewed  time.Time     // when the last renewal was confirmed, by this machine's clock
	ahead    time.Duration // of the server's clock, against this machine's
}

// acquire waits until the leader key is free and takes it.
func (p *Planner) acquire(ctx context.Context) (*reign, error) {
	r := &reign{value: p.fault}
	r.value.Owner, r.value.Nonce, r.value.Since = p.cfg.Name, rand.Text(), p.Now()
	ctx, cancel := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		// A watch that fails costs time: the key is looked at again after a TTL.
		_ = p.Leader.Watch(ctx, messages.LeaderKey, func(messages.Entry[messages.Leader]) {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	defer func() { cancel(); <-watch }()
	for waiting := false; ; {
		free, err := p.claim(ctx, r)
		switch {
		case err != nil:
			return nil, err
		case free:
			return r, nil
		case !waiting:
			waiting = true
			p.log.Info().Msg("another planner is active; waiting for it to end")
		}
		timer := time.NewTimer(p.cfg.LeaderTTL)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// claim takes the key if nobody holds it.
func (p *Planner) claim(ctx context.Context, r *reign) (bool, error) {
	entry, err := p.Leader.Get(ctx, messages.LeaderKey)
	at := p.Now()
	switch {
	case errors.Is(err, messages.ErrNotFound):
		r.revision, err = p.Leader.Create(ctx, messages.LeaderKey, &r.value, p.cfg.LeaderTTL)
	case err != nil:
		return false, fmt.Errorf("read the leader: %w", err)
	case entry.Expired:
		r.revision, err = p.Leader.Update(ctx, messages.LeaderKey, &r.value, entry.Revision, p.cfg.LeaderTTL)
	default:
		return false, nil
	}
	if errors.Is(err, messages.ErrConflict) {
		return false, nil // the watch tells when it is free again
	}
	if err != nil {
		return false, fmt.Errorf("take the leader key: %w", err)
	}
	r.renewed = at
	if entry, err = p.Leader.Get(ctx, messages.LeaderKey); err == nil {
		r.ahead = entry.At.Sub(at)
	}
	return true, nil
}

// renew keeps the key until ctx ends. It fails as soon as another planner may
// have taken over.
func (p *Planner) renew(ctx context.Context, r *reign) error {
	ticker := time.NewTicker(p.cfg.LeaderRenew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if p.Now().Before(r.renewed.Add(-time.Second)) { // alarms would ring late: begin anew, and look at everything
			return errors.New("this machine's clock was set back")
		}
		left := p.cfg.LeaderTTL - p.Now().Sub(r.renewed) - p.cfg.LeaderTTL/10
		if left <= 0 {
			return fmt.Errorf("%w: the leader key could not be renewed for %v", errDeposed, p.cfg.LeaderTTL)
		}
		if err := p.renewOnce(ctx, r, left); errors.Is(err, errDeposed) {
			return err
		} else if err != nil && ctx.Err() == nil {
			p.log.Warn().Err(err).Msg("leader key was not renewed")
		}
	}
}

func (p *Planner) renewOnce(ctx context.Context, r *reign, left time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	at := p.Now()
	revision, err := p.Leader.Update(ctx, messages.LeaderKey, &r.value, r.revision, p.cfg.LeaderTTL)
	if errors.Is(err, messages.ErrConflict) {
		entry, readErr := p.Leader.Get(ctx, messages.LeaderKey)
		switch {
		case readErr != nil:
			return readErr
		case entry.Value == nil || entry.Value.Nonce != r.value.Nonce:
			return errDeposed
		}
		r.revision = entry.Revision // an earlier renewal of ours, whose answer was lost
		return nil
	}
	if err != nil {
		return err
	}
	r.revision, r.renewed = revision, at
	return nil
}

// resign lets another planner take over at once.
func (p *Planner) resign(ctx context.Context, r *reign) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := p.Leader.Update(ctx, messages.LeaderKey, &r.value, r.revision, time.Second); err != nil {
		p.log.Debug().Err(err).Msg("leader key was not given back; it expires by itself")
	}
}
