package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"sluice/messages"
)

// Send publishes without storing: the fast path of control messages. It may
// be lost.
func (c *Conn) Send(subject string, m messages.Message) error {
	data, err := messages.Encode(m)
	if err != nil {
		return err
	}
	if err := c.nc.Publish(subject, data); err != nil {
		return fmt.Errorf("send on %s: %w", subject, err)
	}
	return nil
}

// Controls hears the control messages of one worker.
type Controls struct {
	Conn    *Conn
	Backend string
	Worker  string
}

// Listen hands over each control message, one at a time, until ctx ends. What
// cannot be decoded is dropped with a log line.
func (l Controls) Listen(ctx context.Context, handle func(*messages.Control)) error {
	return l.Conn.hear(ctx, messages.ControlSubject(l.Backend, l.Worker), nil, func(data []byte) error {
		var control messages.Control
		if err := messages.Decode(data, &control); err != nil {
			return err
		}
		handle(&control)
		return nil
	})
}

// Verdicts hears the persister's events of one backend.
type Verdicts struct {
	Conn    *Conn
	Backend string
}

// Follow hands over each event when the server has stored it, one at a time,
// until ctx ends. What is published while the connection is lost is not heard:
// missed is called when that may have been.
func (v Verdicts) Follow(ctx context.Context, handle func(context.Context, *messages.PersisterEvent), missed func()) error {
	return v.Conn.hear(ctx, messages.VerdictSubjects(v.Backend), missed, func(data []byte) error {
		var event messages.PersisterEvent
		if err := messages.Decode(data, &event); err != nil {
			return err
		}
		handle(ctx, &event)
		return nil
	})
}

// hear hands over what is published on a subject, one message at a time, until
// ctx ends, and calls missed, if it is given, when some may have been lost.
func (c *Conn) hear(ctx context.Context, subject string, missed func(), handle func(data []byte) error) error {
	sub, err := c.nc.SubscribeSync(subject)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // a closed connection has forgotten it already
	if missed == nil {
		missed = func() {}
	}
	var watch sync.WaitGroup
	defer watch.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	again, stop := c.Reconnected()
	defer stop()
	watch.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-again:
				missed()
			}
		}
	})
	for {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrBadSubscription):
			return fmt.Errorf("listen on %s: %w", subject, err)
		case err != nil:
			c.log.Warn().Err(err).Str("subject", subject).Msg("messages were lost")
			missed()
			continue
		}
		if err := handle(m.Data); err != nil {
			c.log.Warn().Err(err).Str("subject", m.Subject).Msg("message cannot be read")
		}
	}
}
