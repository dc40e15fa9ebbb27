package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"sluice/messages"
)

// A Queue delivers the messages of one durable pull consumer.
type Queue struct {
	c        *Conn
	stream   string
	consumer string
	by       string        // who parks what cannot be processed, for the dead letters
	ackWait  time.Duration // of the consumer
	workers  int           // deliveries at once in Receive
	first    time.Duration // pause before a second delivery; doubled each time
	longest  time.Duration

	mu     sync.Mutex
	handle jetstream.Consumer
}

// A QueueOption changes a Queue.
type QueueOption func(*Queue)

// Concurrently has Receive handle n messages at once.
func Concurrently(n int) QueueOption { return func(q *Queue) { q.workers = max(n, 1) } }

// Retrying sets the pause before a message is delivered again: first, doubled
// each time, up to longest.
func Retrying(first, longest time.Duration) QueueOption {
	return func(q *Queue) { q.first, q.longest = first, longest }
}

// Queue opens a durable consumer that Provision made. By names the service in
// the dead letters.
func (c *Conn) Queue(stream, consumer, by string, opts ...QueueOption) *Queue {
	q := &Queue{c: c, stream: stream, consumer: consumer, by: by, workers: 1, first: time.Second, longest: 30 * time.Second}
	for _, opt := range opts {
		opt(q)
	}
	return q
}

// pull is how long one request for a message waits at the server.
const pull = 30 * time.Second

// Next waits for the next message until ctx ends. It asks for one message and
// never holds another.
func (q *Queue) Next(ctx context.Context) (*messages.Delivery, error) {
	again, stop := q.c.Reconnected()
	defer stop()
	for wait := 50 * time.Millisecond; ; {
		msg, err := q.next(ctx, again)
		switch {
		case err == nil: // even if ctx has ended: the message is ours now
			return q.delivery(msg), nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrNoMessages), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			wait = 50 * time.Millisecond // nothing yet; ask again
			continue
		}
		q.c.log.Debug().Err(err).Str("consumer", q.consumer).Msg("next message cannot be asked for")
		q.forget()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-again:
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, 5*time.Second)
	}
}

// next asks once. A reconnect breaks the request off: the server that knew of
// it may be gone, and missing heartbeats tell only after ten seconds.
func (q *Queue) next(ctx context.Context, again <-chan struct{}) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, pull)
	defer cancel()
	go func() {
		select {
		case <-again:
			cancel()
		case <-ctx.Done():
		}
	}()
	consumer, err := q.open(ctx)
	if err != nil {
		return nil, err
	}
	return consumer.Next(jetstream.FetchContext(ctx))
}

func (q *Queue) open(ctx context.Context) (jetstream.Consumer, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.handle != nil {
		return q.handle, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	consumer, err := q.c.js.Consumer(ctx, q.stream, q.consumer)
	if err != nil {
		return nil, fmt.Errorf("open consumer %s of %s: %w", q.consumer, q.stream, err)
	}
	q.handle, q.ackWait = consumer, consumer.CachedInfo().Config.AckWait
	return consumer, nil
}

func (q *Queue) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.handle = nil
}

// Receive calls handle for each message until ctx ends. The message stays ours
// while handle runs. Handle's context outlives ctx: to stop receiving is not to
// break off what is in hand.
func (q *Queue) Receive(ctx context.Context, handle func(context.Context, *messages.Delivery) error) error {
	var group errgroup.Group
	for range q.workers {
		group.Go(func() error {
			for {
				d, err := q.Next(ctx)
				if ctx.Err() != nil && err != nil {
					return nil
				}
				if err != nil {
					return err
				}
				q.process(context.WithoutCancel(ctx), d, handle)
			}
		})
	}
	return group.Wait()
}

// process handles one message, keeping it ours meanwhile, and settles it.
func (q *Queue) process(ctx context.Context, d *messages.Delivery, handle func(context.Context, *messages.Delivery) error) {
	ticker := time.NewTicker(max(q.ackWait/3, 10*time.Millisecond))
	defer ticker.Stop()
	done := make(chan error, 1)
	go func() { done <- handle(ctx, d) }()
	for {
		select {
		case <-ticker.C:
			if d.Progress != nil {
				_ = d.Progress() // a missed beat costs a redelivery, no more
			}
		case err := <-done:
			if err != nil {
				q.c.log.Warn().Err(err).Str("subject", d.Subject).Int("tries", d.Tries).Msg("message was not processed")
			}
			if err := d.Settle(ctx, err); err != nil {
				q.c.log.Warn().Err(err).Str("subject", d.Subject).Msg("message could not be settled; it will come again")
			}
			return
		}
	}
}

func (q *Queue) delivery(msg jetstream.Msg) *messages.Delivery {
	d := &messages.Delivery{Subject: msg.Subject(), Header: msg.Headers(), Data: msg.Data(), Tries: 1, Progress: msg.InProgress}
	if meta, err := msg.Metadata(); err == nil {
		d.Tries, d.At = int(meta.NumDelivered), meta.Timestamp
	}
	d.Settle = func(ctx context.Context, err error) error { return q.settle(ctx, msg, d.Tries, err) }
	return d
}

// settle acknowledges, parks or gives back one message.
func (q *Queue) settle(ctx context.Context, msg jetstream.Msg, tries int, err error) error {
	ctx, cancel := context.WithTimeout(ctx, 3*callTimeout)
	defer cancel()
	var parked *messages.Parked
	switch {
	case err == nil:
		return ack(ctx, msg)
	case errors.As(err, &parked):
		if err := q.c.park(ctx, letter{subject: msg.Subject(), stream: q.stream, header: msg.Headers(), data: msg.Data(), reason: parked.Reason, by: q.by}); err != nil {
			return errors.Join(err, msg.NakWithDelay(q.delay(tries)))
		}
		return ack(ctx, msg)
	}
	return msg.NakWithDelay(q.delay(tries))
}

// ack waits for the server's word, so that what was settled does not come back
// when this process dies now.
func ack(ctx context.Context, msg jetstream.Msg) error {
	if err := msg.DoubleAck(ctx); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		return fmt.Errorf("acknowledge %s: %w", msg.Subject(), err)
	}
	return nil
}

func (q *Queue) delay(tries int) time.Duration {
	return min(q.first<<min(max(tries-1, 0), 20), q.longest)
}
