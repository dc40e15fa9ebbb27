package jetstream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Unread hands over, in order, the messages of a stream on a subject that its
// durable consumer has not settled yet, as of now, until handle returns false.
// It takes nothing away. What waits behind a message that is being settled may
// be among them though it is settled already.
func (c *Conn) Unread(ctx context.Context, stream, consumer, subject string, handle func(Followed) bool) error {
	var info *jetstream.ConsumerInfo
	err := c.retry(ctx, func(ctx context.Context) error {
		durable, err := c.js.Consumer(ctx, stream, consumer) // asks the leader
		if err == nil {
			info = durable.CachedInfo()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look at consumer %s of %s: %w", consumer, stream, err)
	}
	if info.NumPending == 0 && info.NumAckPending == 0 {
		return nil
	}
	start := Start{Sequence: info.AckFloor.Stream + 1}
	look, err := c.ordered(ctx, stream, subject, start)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", stream, err)
	}
	waiting := look.CachedInfo().NumPending
	c.dropConsumer(ctx, stream, look)
	if waiting == 0 { // Follow would wait for the next one
		return nil
	}
	return c.Follow(ctx, stream, subject, start, func(f Followed) bool { return handle(f) && f.Pending > 0 })
}
