package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/fault"
	"sluice/messages"
)

// Publish encodes a message, publishes it, and returns when the server has
// stored it. A lost connection or a late answer is tried again until ctx ends.
// The id saves the copy of what was stored in the last minutes and is still
// there; empty means that only this call's own tries are known by one. It wraps
// messages.ErrQueued and messages.ErrFull.
func (c *Conn) Publish(ctx context.Context, subject string, m messages.Message, id string) error {
	data, err := messages.Encode(m)
	if err != nil {
		return err
	}
	if id == "" {
		id = rand.Text()
	}
	if _, err = c.publish(ctx, &nats.Msg{Subject: subject, Data: data}, jetstream.WithMsgID(id)); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	return nil
}

// PublishAll publishes messages as Publish does, and returns an error or nil for
// each. They are sent in this order, none waits for the one before to be stored;
// what the server does not answer is sent again, behind the others.
func (c *Conn) PublishAll(ctx context.Context, list []messages.Outgoing) []error {
	errs := make([]error, len(list))
	if len(list) == 1 {
		errs[0] = c.Publish(ctx, list[0].Subject, list[0].Message, list[0].ID)
		return errs
	}
	sent := make([]jetstream.PubAckFuture, len(list))
	for i, o := range list {
		if o.ID == "" {
			o.ID = rand.Text()
			list[i].ID = o.ID
		}
		var data []byte
		if data, errs[i] = messages.Encode(o.Message); errs[i] != nil {
			continue
		}
		sent[i], errs[i] = c.js.PublishMsgAsync(&nats.Msg{Subject: o.Subject, Data: data}, jetstream.WithMsgID(o.ID), jetstream.WithRetryAttempts(0)) // which would come later, in any order
	}
	for i, o := range list {
		if sent[i] != nil {
			select {
			case <-sent[i].Ok():
				continue
			case errs[i] = <-sent[i].Err():
			case <-ctx.Done():
				errs[i] = ctx.Err()
			}
		}
		if ctx.Err() == nil && unreachable(errs[i]) {
			errs[i] = c.Publish(ctx, o.Subject, o.Message, o.ID)
		} else {
			errs[i] = fmt.Errorf("publish on %s: %w", o.Subject, storeError(errs[i]))
		}
	}
	return errs
}

// publish stores one message, trying again while the server cannot be reached.
func (c *Conn) publish(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	var ack *jetstream.PubAck
	silent := 0
	err := c.retry(ctx, func(ctx context.Context) (err error) {
		try := &nats.Msg{Subject: msg.Subject, Data: msg.Data, Header: nats.Header{}} // options write into the header
		maps.Copy(try.Header, msg.Header)
		fault.At("jetstream.before-publish")
		ack, err = c.js.PublishMsg(ctx, try, opts...)
		if err == nil {
			fault.At("jetstream.after-publish")
		}
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			if silent++; silent == 3 && c.noStream(ctx, msg.Subject) {
				return fmt.Errorf("no stream on the server takes %s: run `sluice topology --apply`", msg.Subject)
			}
		}
		return err
	})
	return ack, storeError(err)
}

// noStream reports whether the server says that no stream takes a subject. One
// that is without a leader for the moment is said to be there.
func (c *Conn) noStream(ctx context.Context, subject string) bool {
	_, err := c.js.StreamNameBySubject(ctx, subject)
	return errors.Is(err, jetstream.ErrStreamNotFound)
}

// storeError gives the server's refusals the names of messages.
func storeError(err error) error {
	var api *jetstream.APIError
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w for the server: %w", messages.ErrTooLarge, err)
	}
	if !errors.As(err, &api) {
		return err
	}
	switch {
	case api.ErrorCode == codeMessageTooLarge:
		return fmt.Errorf("%w for its stream: %w", messages.ErrTooLarge, err)
	case api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
		return fmt.Errorf("%w: %w", messages.ErrConflict, err)
	case api.ErrorCode == codeStreamStoreFailed && strings.Contains(api.Description, "per subject"):
		return fmt.Errorf("%w: %w", messages.ErrQueued, err)
	case api.ErrorCode == codeStreamStoreFailed, api.ErrorCode == codeInsufficientResources:
		return fmt.Errorf("%w: %w", messages.ErrFull, err)
	}
	return err
}

// FilesQueued reports whether a files message on a subject waits for its
// persister, or is with it.
func (c *Conn) FilesQueued(ctx context.Context, subject string) (bool, error) {
	n, err := c.Count(ctx, Files, subject)
	return n > 0, err
}

// PurgeAction takes a queued action out of SLUICE_ACTIONS, if it is there.
func (c *Conn) PurgeAction(ctx context.Context, subject string) error {
	err := c.retry(ctx, func(ctx context.Context) error {
		s, err := c.stream(ctx, Actions)
		if err != nil {
			return err
		}
		return s.Purge(ctx, jetstream.WithPurgeSubject(subject))
	})
	if err != nil {
		return fmt.Errorf("purge %s: %w", subject, err)
	}
	return nil
}
