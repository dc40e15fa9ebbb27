package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/messages"
)

// A Stuck message is the oldest that a consumer has not done with, though it was
// delivered again and again.
type Stuck struct {
	Stream   string    `json:"stream"`
	Consumer string    `json:"consumer"`
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Since    time.Time `json:"since"`
	Tries    int       `json:"tries"`  // about how often it, and what is younger and in hand, was delivered again
	Waiting  uint64    `json:"behind"` // messages that nobody was given yet
}

// mostAgain is how often a message may well come again: its receiver dies, or
// waits for something for a moment.
const mostAgain = 5

// Stuck tells which queues of the fleet have not got past a message for longer
// than an age.
func (c *Conn) Stuck(ctx context.Context, age time.Duration) (list []Stuck, err error) {
	for _, stream := range []string{Requests, Events, Actions, Files} {
		var consumers []*jetstream.ConsumerInfo
		err := c.retry(ctx, func(ctx context.Context) error {
			s, err := c.stream(ctx, stream)
			if err != nil {
				return err
			}
			lister := s.ListConsumers(ctx)
			consumers = nil
			for info := range lister.Info() {
				consumers = append(consumers, info)
			}
			return lister.Err()
		})
		if err != nil {
			return nil, fmt.Errorf("list the consumers of %s: %w", stream, err)
		}
		for _, info := range consumers {
			// Each delivery has a number; those of the oldest message and of all after
			// it lie above the floor.
			again := int(info.Delivered.Consumer-info.AckFloor.Consumer) - info.NumAckPending
			if info.NumRedelivered == 0 || again < mostAgain {
				continue
			}
			subject := info.Config.FilterSubject
			if subject == "" {
				subject = ">"
			}
			oldest, err := c.Next(ctx, stream, subject, info.AckFloor.Stream+1)
			if errors.Is(err, messages.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if time.Since(oldest.At) >= age {
				list = append(list, Stuck{
					Stream: stream, Consumer: info.Name, Subject: oldest.Subject, Sequence: oldest.Sequence,
					Since: oldest.At, Tries: again + 1, Waiting: info.NumPending,
				})
			}
		}
	}
	return list, nil
}

// String says what is stuck, and what an operator can do.
func (s Stuck) String() string {
	text := fmt.Sprintf("message %d of %s (%s) has waited since %s and was tried about %d times, %d are behind it: the log of its reader says why",
		s.Sequence, s.Stream, messages.Quote(s.Subject), s.Since.Local().Format(time.DateTime), s.Tries, s.Waiting)
	if s.Consumer == PlannerConsumer {
		text += "; it becomes a dead letter by itself, after 100 tries"
	}
	return text + fmt.Sprintf("; `nats stream rmm %s %d` takes it out", s.Stream, s.Sequence)
}
