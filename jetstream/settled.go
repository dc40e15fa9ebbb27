package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// SweepQueues removes from the work queues of a backend what their consumers
// have settled and the server has kept all the same. Servers of a cluster that
// are killed leave such messages: no consumer is given them again, and as a
// queue takes one action of a job, they would keep its next one out for ever.
func (c *Conn) SweepQueues(ctx context.Context, backend string, pools []string) error {
	errs := []error{c.sweepQueue(ctx, Files, PersisterConsumer(backend))}
	for _, pool := range slices.Sorted(slices.Values(pools)) {
		errs = append(errs, c.sweepQueue(ctx, Actions, WorkerConsumer(backend, pool)))
	}
	return errors.Join(errs...)
}

// sweepQueue purges what a consumer has settled, and every message before it:
// of what it is for, and nothing that waits or is in somebody's hand.
func (c *Conn) sweepQueue(ctx context.Context, stream, consumer string) error {
	err := c.retry(ctx, func(ctx context.Context) error {
		s, err := c.stream(ctx, stream)
		if err != nil {
			return err
		}
		info, err := s.Info(ctx)
		if err != nil {
			return err
		}
		have, err := c.js.Consumer(ctx, stream, consumer)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil // nobody takes from it
		}
		if err != nil {
			return err
		}
		settled := have.CachedInfo()
		if info.State.Msgs == 0 || info.State.FirstSeq > settled.AckFloor.Stream {
			return nil
		}
		return s.Purge(ctx, jetstream.WithPurgeSubject(settled.Config.FilterSubject), jetstream.WithPurgeSequence(settled.AckFloor.Stream+1))
	})
	if err != nil {
		return fmt.Errorf("remove what %s has settled from %s: %w", consumer, stream, err)
	}
	return nil
}
