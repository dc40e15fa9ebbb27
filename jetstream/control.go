package jetstream

import (
	"context"
	"errors"
	"fmt"

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

// Listen hands over each control message until ctx ends.
func (l Controls) Listen(ctx context.Context, handle func(*messages.Control)) error {
	return l.Conn.Listen(ctx, l.Backend, l.Worker, handle)
}

// Listen hands over each control message to this worker, one at a time, until
// ctx ends. What cannot be decoded is dropped with a log line.
func (c *Conn) Listen(ctx context.Context, backend, worker string, handle func(*messages.Control)) error {
	subject := messages.ControlSubject(backend, worker)
	sub, err := c.nc.SubscribeSync(subject)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // a closed connection has forgotten it already
	for {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrBadSubscription):
			return fmt.Errorf("listen on %s: %w", subject, err)
		case err != nil:
			c.log.Warn().Err(err).Str("subject", subject).Msg("control messages were lost")
			continue
		}
		var control messages.Control
		if err := messages.Decode(m.Data, &control); err != nil {
			c.log.Warn().Err(err).Str("subject", m.Subject).Msg("control message cannot be read")
			continue
		}
		handle(&control)
	}
}
