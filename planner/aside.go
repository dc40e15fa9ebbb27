package planner

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
)

// aside runs what nothing waits for: a stream that does not answer must not hold
// up the others. What still runs since the last time is not begun again.
func (s *session) aside(runs *atomic.Bool, do func(context.Context)) {
	if !runs.CompareAndSwap(false, true) {
		return
	}
	s.group.Go(func() error {
		defer runs.Store(false)
		do(s.ctx)
		return nil
	})
}

// sweepQueues removes what the queues keep and nobody is given again.
func (s *session) sweepQueues() {
	pools := map[string][]string{}
	for _, b := range s.backends {
		pools[b.name] = slices.Collect(maps.Keys(b.pools()))
	}
	s.aside(&s.sweeping, func(ctx context.Context) {
		for backend, list := range pools {
			if err := s.Actions.SweepQueues(ctx, backend, list); err != nil && ctx.Err() == nil {
				s.log.Warn().Err(err).Str("backend", backend).Msg("queues could not be looked through for what is settled; tried again at the next pass")
			}
		}
	})
}

// lookAtRoom warns of each stream that has become more than half full, once.
func (s *session) lookAtRoom() {
	s.aside(&s.looking, func(ctx context.Context) {
		crowded, err := s.Room.Crowded(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn().Err(err).Msg("it could not be looked how full the streams are; tried again at the next pass")
			}
			return
		}
		for name, warning := range crowded {
			if s.crowded[name] == "" {
				s.log.Warn().Str("stream", name).Msg(warning)
			}
		}
		s.crowded = crowded
	})
}

// pools are those of a backend's workers and of its jobs in flight.
func (b *backend) pools() map[string]bool {
	pools := map[string]bool{}
	for _, w := range b.workers {
		if w.presence != nil {
			for pool := range w.presence.Pools {
				pools[pool] = true
			}
		}
	}
	for _, j := range b.tried {
		pools[j.record.Pool] = true
	}
	return pools
}
