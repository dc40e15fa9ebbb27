package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/messages"
)

// Error codes of the server that nats.go has no name for.
const (
	codeInsufficientResources = 10023 // the store or the account is full
	codeStreamStoreFailed     = 10077 // a limit of the stream was reached
)

// Publish encodes a message, publishes it, and returns when the server has
// stored it. A lost connection or a late answer is tried again until ctx ends.
// The id saves the copy of what was stored before; empty means none. It wraps
// messages.ErrQueued and messages.ErrFull.
func (c *Conn) Publish(ctx context.Context, subject string, m messages.Message, id string) error {
	data, err := messages.Encode(m)
	if err != nil {
		return err
	}
	_, err = c.publish(ctx, &nats.Msg{Subject: subject, Data: data}, publishOptions(id)...)
	if err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	return nil
}

func publishOptions(id string) []jetstream.PublishOpt {
	if id == "" {
		return nil
	}
	return []jetstream.PublishOpt{jetstream.WithMsgID(id)}
}

// publish stores one message, trying again while the server cannot be reached.
func (c *Conn) publish(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	again, stop := c.Reconnected()
	defer stop()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		ack, err := c.publishOnce(ctx, msg, opts)
		if err == nil || !unreachable(err) || ctx.Err() != nil {
			return ack, storeError(err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w (%w)", ctx.Err(), err)
		case <-again:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (c *Conn) publishOnce(ctx context.Context, msg *nats.Msg, opts []jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	clone := &nats.Msg{Subject: msg.Subject, Data: msg.Data, Header: nats.Header{}}
	for k, v := range msg.Header {
		clone.Header[k] = v
	}
	return c.js.PublishMsg(ctx, clone, opts...)
}

// unreachable reports whether an error means that no server answered.
func unreachable(err error) bool {
	for _, target := range []error{
		nats.ErrNoResponders, nats.ErrTimeout, nats.ErrDisconnected, nats.ErrReconnectBufExceeded, nats.ErrConnectionReconnecting, nats.ErrStaleConnection,
		jetstream.ErrNoStreamResponse, context.DeadlineExceeded,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code == 503 && api.ErrorCode != codeInsufficientResources && api.ErrorCode != codeStreamStoreFailed
}

// storeError gives the server's refusals the names of messages.
func storeError(err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch {
	case api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
		return fmt.Errorf("%w: %w", messages.ErrConflict, err)
	case api.ErrorCode == codeStreamStoreFailed && strings.Contains(api.Description, "per subject"):
		return fmt.Errorf("%w: %w", messages.ErrQueued, err)
	case api.ErrorCode == codeStreamStoreFailed, api.ErrorCode == codeInsufficientResources:
		return fmt.Errorf("%w: %w", messages.ErrFull, err)
	}
	return err
}

// Send publishes without storing: the fast path of control messages. It may
// be lost.
func (c *Conn) Send(subject string, m messages.Message) error {
	data, err := messages.Encode(m)
	if err != nil {
		return err
	}
	return c.nc.Publish(subject, data)
}

// PurgeAction takes a queued action out of SLUICE_ACTIONS, if it is there.
func (c *Conn) PurgeAction(ctx context.Context, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, Actions)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(subject))
	}
	if err != nil {
		return fmt.Errorf("purge %s: %w", subject, err)
	}
	return nil
}

// Listen hands over each control message to this worker until ctx ends. What
// cannot be decoded is dropped with a log line.
func (c *Conn) Listen(ctx context.Context, backend, worker string, handle func(*messages.Control)) error {
	subject := messages.ControlSubject(backend, worker)
	sub, err := c.nc.Subscribe(subject, func(m *nats.Msg) {
		var control messages.Control
		if err := messages.Decode(m.Data, &control); err != nil {
			c.log.Warn().Err(err).Str("subject", m.Subject).Msg("control message cannot be read")
			return
		}
		handle(&control)
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	<-ctx.Done()
	return errors.Join(sub.Unsubscribe(), nil)
}
