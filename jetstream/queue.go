package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/fault"
	"sluice/messages"
)

// A Queue delivers the messages of one durable pull consumer.
type Queue struct {
	c        *Conn
	stream   string
	consumer string
	by       string                      // who parks what cannot be processed, for the dead letters
	workers  int                         // deliveries at once in Receive
	key      func(subject string) string // what is handled one after another; nil for nothing
	first    time.Duration               // pause before a second delivery; doubled each time
	longest  time.Duration
	asking   func() (n int, changed <-chan struct{})
	making   bool         // room in the stream, see room.go
	unlooked atomic.Int64 // bytes to be read before the next look at how full it is

	mu      sync.Mutex
	handle  jetstream.Consumer
	ackWait time.Duration // of the consumer
}

// A QueueOption changes a Queue.
type QueueOption func(*Queue)

// Concurrently has Receive handle n messages at once.
func Concurrently(n int) QueueOption { return func(q *Queue) { q.workers = max(n, 1) } }

// Asking has Receive ask for no more messages than room says; where it says none,
// not before changed is closed.
func Asking(room func() (n int, changed <-chan struct{})) QueueOption {
	return func(q *Queue) { q.asking = room }
}

// InOrder has Receive handle messages with the same key one after another, in
// the order in which they come; one that comes again is out of that order.
func InOrder(key func(subject string) string) QueueOption { return func(q *Queue) { q.key = key } }

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

// settleTimeout bounds settling. What takes longer is delivered again.
const settleTimeout = 30 * time.Second

// pull is how long one request for a message waits at the server.
const pull = 30 * time.Second

// Next waits for the next message until ctx ends. It asks for one message and
// never holds another. A message that arrives in the instant in which ctx ends
// may be lost to this receiver; it comes again after the consumer's ack wait.
func (q *Queue) Next(ctx context.Context) (*messages.Delivery, error) {
	again, stop := q.c.Reconnected()
	defer stop()
	wait := 50 * time.Millisecond
	for failures := 0; ; {
		q.makeRoom(ctx)
		msg, err := q.ask(ctx)
		switch {
		case err == nil && msg != nil: // even if ctx has ended: the message is ours now
			return q.delivery(msg), nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, nats.ErrConnectionClosed):
			return nil, fmt.Errorf("receive from %s: %w", q.consumer, err)
		case err == nil:
			q.unlooked.Store(0)
			failures, wait = 0, 50*time.Millisecond
			continue
		}
		if failures++; failures == 3 {
			q.c.log.Warn().Err(err).Str("stream", q.stream).Str("consumer", q.consumer).Msg("messages cannot be asked for; trying again until they can")
		}
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

// mostAtOnce bounds how many messages are asked for together.
const mostAtOnce = 64

// Some returns up to n messages that wait now, and does not wait for any: for who
// was told that there are some behind the last one. What keeps it from asking,
// Next says. What a lost connection keeps from arriving comes again after the
// consumer's ack wait.
func (q *Queue) Some(ctx context.Context, n int) []*messages.Delivery {
	if ctx.Err() != nil || !q.c.Connected() {
		return nil
	}
	q.makeRoom(ctx)
	consumer, err := q.open(ctx)
	if err != nil {
		return nil
	}
	batch, err := consumer.FetchNoWait(min(n, mostAtOnce))
	if err != nil {
		return nil
	}
	var list []*messages.Delivery
	for msg := range batch.Messages() { // it ends with the answer, or a second after the last message
		list = append(list, q.delivery(msg))
	}
	return list
}

// ask asks once, and returns nil for no message. A lost connection breaks the
// request off: the server that knew of it may be gone, and missing heartbeats
// would tell only after ten seconds.
func (q *Queue) ask(ctx context.Context) (msg jetstream.Msg, err error) {
	if !q.c.Connected() {
		if q.c.nc.IsClosed() {
			return nil, nats.ErrConnectionClosed
		}
		return nil, nats.ErrDisconnected // nats.go leaks a subscription for a pull that it cannot send
	}
	consumer, err := q.open(ctx)
	if err != nil {
		return nil, err
	}
	err = q.c.attempt(ctx, pull, func(ctx context.Context) error {
		msg, err = consumer.Next(jetstream.FetchContext(ctx))
		return err
	})
	if errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoMessages) {
		return nil, nil
	}
	return msg, err
}

// open looks the consumer up, once until something fails.
func (q *Queue) open(ctx context.Context) (consumer jetstream.Consumer, err error) {
	q.mu.Lock()
	consumer = q.handle
	q.mu.Unlock()
	if consumer != nil {
		return consumer, nil
	}
	err = q.c.attempt(ctx, callTimeout, func(ctx context.Context) error {
		consumer, err = q.c.js.Consumer(ctx, q.stream, q.consumer)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open consumer %s of %s: %w", q.consumer, q.stream, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
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
	var group sync.WaitGroup
	defer group.Wait()
	room := make(chan struct{}, q.workers)
	turns := turns{last: map[string]chan struct{}{}}
	for {
		select {
		case room <- struct{}{}: // before asking: what nobody can handle now is for others
		case <-ctx.Done():
			return nil
		}
		if !q.mayAsk(ctx) {
			return nil
		}
		d, err := q.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for list := []*messages.Delivery{d}; len(list) > 0; {
			behind := 0
			for _, d := range list {
				mine := handle
				if q.key != nil {
					mine = turns.take(q.key(d.Subject), handle)
				}
				group.Go(func() {
					defer func() { <-room }()
					q.process(context.WithoutCancel(ctx), d, mine)
				})
				behind = d.Behind
			}
			list = q.more(ctx, room, behind)
		}
	}
}

// mayAsk waits until a message may be asked for; it returns false when ctx ends.
func (q *Queue) mayAsk(ctx context.Context) bool {
	for q.asking != nil {
		n, changed := q.asking()
		if n > 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// more returns messages for which there is room, of those that wait.
func (q *Queue) more(ctx context.Context, room chan struct{}, behind int) []*messages.Delivery {
	n, most := 0, min(behind, mostAtOnce)
	if q.asking != nil {
		allowed, _ := q.asking()
		most = min(most, allowed)
	}
	for full := false; n < most && !full; {
		select {
		case room <- struct{}{}:
			n++
		default:
			full = true
		}
	}
	if n == 0 {
		return nil
	}
	list := q.Some(ctx, n)
	for range n - len(list) {
		<-room
	}
	return list
}

// turns keeps the messages of each key in order.
type turns struct {
	mu   sync.Mutex
	last map[string]chan struct{} // closed when the newest message of a key has been handled
}

// take returns a handler that waits for the one that was taken before it.
func (t *turns) take(key string, handle func(context.Context, *messages.Delivery) error) func(context.Context, *messages.Delivery) error {
	done := make(chan struct{})
	t.mu.Lock()
	before := t.last[key]
	t.last[key] = done
	t.mu.Unlock()
	return func(ctx context.Context, d *messages.Delivery) error {
		defer func() {
			close(done)
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.last[key] == done {
				delete(t.last, key)
			}
		}()
		if before != nil {
			<-before
		}
		return handle(ctx, d)
	}
}

// process handles one message, keeping it ours meanwhile, and settles it.
func (q *Queue) process(ctx context.Context, d *messages.Delivery, handle func(context.Context, *messages.Delivery) error) {
	q.mu.Lock()
	beat := max(q.ackWait/3, 10*time.Millisecond)
	q.mu.Unlock()
	ticker := time.NewTicker(beat)
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
			var parked *messages.Parked
			if err != nil && !errors.As(err, &parked) {
				q.c.log.Warn().Err(err).Str("subject", d.Subject).Int("tries", d.Tries).Msg("message was not processed; it will come again")
			}
			fault.At("jetstream.before-ack")
			if err := d.Settle(ctx, err); err != nil {
				q.c.log.Warn().Err(err).Str("subject", d.Subject).Msg("message could not be settled; it will come again")
			}
			return
		}
	}
}

func (q *Queue) delivery(msg jetstream.Msg) *messages.Delivery {
	q.unlooked.Add(-int64(len(msg.Data()) + len(msg.Subject()) + perMessage))
	d := &messages.Delivery{Subject: msg.Subject(), Header: msg.Headers(), Data: msg.Data(), Tries: 1, Progress: msg.InProgress}
	if meta, err := msg.Metadata(); err == nil {
		d.Tries, d.At, d.Behind = int(meta.NumDelivered), meta.Timestamp, int(min(meta.NumPending, math.MaxInt32)) //nolint:gosec // bounded
	}
	d.Settle = func(ctx context.Context, err error) error { return q.settle(ctx, msg, d.Tries, err) }
	return d
}

// settle acknowledges, parks or gives back one message.
func (q *Queue) settle(ctx context.Context, msg jetstream.Msg, tries int, err error) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var parked *messages.Parked
	switch {
	case err == nil:
		return ack(ctx, msg)
	case errors.As(err, &parked):
		l := letter{subject: msg.Subject(), stream: q.stream, header: msg.Headers(), data: msg.Data(), reason: parked.Reason, by: q.by, id: identity(msg)}
		if meta, err := msg.Metadata(); err == nil {
			l.seq = meta.Sequence.Stream
		}
		if err := q.c.park(ctx, l); err != nil {
			return errors.Join(err, q.giveBack(msg, tries))
		}
		fault.At("jetstream.after-park")
		return ack(ctx, msg)
	case errors.Is(err, context.Canceled): // by one who stops: the next one can have it at once
		if err := errors.Join(msg.Nak(), q.c.nc.FlushWithContext(ctx)); err != nil {
			return fmt.Errorf("give %s back: %w", msg.Subject(), err)
		}
		return nil
	}
	return q.giveBack(msg, tries)
}

// giveBack has a message delivered again after a pause: without one a message
// that fails at once would be tried without rest.
func (q *Queue) giveBack(msg jetstream.Msg, tries int) error {
	if err := msg.NakWithDelay(q.delay(tries)); err != nil {
		return fmt.Errorf("give %s back: %w", msg.Subject(), err)
	}
	return nil
}

// identity names a stored message, so that it is parked once if its ack is lost.
func identity(msg jetstream.Msg) string {
	meta, err := msg.Metadata()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("dead/%s/%d/%d", meta.Stream, meta.Sequence.Stream, meta.Timestamp.UnixNano())
}

// ack waits for the server's word, so that what was settled does not come back
// when this process dies now.
func ack(ctx context.Context, msg jetstream.Msg) error {
	if err := msg.DoubleAck(ctx); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		return fmt.Errorf("acknowledge %s: %w", msg.Subject(), err)
	}
	return nil
}

// delay is the pause before the next try.
func (q *Queue) delay(tries int) time.Duration {
	return min(q.first<<min(max(tries-1, 0), 20), q.longest)
}
