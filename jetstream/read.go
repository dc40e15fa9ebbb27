package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/messages"
)

// Next reads the first message of a stream on a subject, which may have
// wildcards, at a sequence or behind it. It is one question and one answer,
// without a consumer: what a role can be granted that must read this stream and
// nothing else. It wraps messages.ErrNotFound.
func (c *Conn) Next(ctx context.Context, stream, subject string, from uint64) (Followed, error) {
	return c.single(ctx, stream, subject, func(ctx context.Context, s jetstream.Stream) (*jetstream.RawStreamMsg, error) {
		return s.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(subject))
	})
}

// Last reads the newest message of a stream on a subject. It wraps
// messages.ErrNotFound.
func (c *Conn) Last(ctx context.Context, stream, subject string) (Followed, error) {
	return c.single(ctx, stream, subject, func(ctx context.Context, s jetstream.Stream) (*jetstream.RawStreamMsg, error) {
		return s.GetLastMsgForSubject(ctx, subject)
	})
}

func (c *Conn) single(ctx context.Context, stream, subject string, get func(context.Context, jetstream.Stream) (*jetstream.RawStreamMsg, error)) (f Followed, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		s, err := c.stream(ctx, stream)
		if err != nil {
			return err
		}
		raw, err := get(ctx, s)
		if err != nil {
			return err
		}
		f = Followed{Subject: raw.Subject, Data: raw.Data, Sequence: raw.Sequence, At: raw.Time, header: raw.Header}
		return nil
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return f, fmt.Errorf("read %s of %s: %w", subject, stream, messages.ErrNotFound)
	}
	if err != nil {
		return f, fmt.Errorf("read %s of %s: %w", subject, stream, err)
	}
	return f, nil
}

// LastSeen returns when a worker of a backend announced itself last; zero if none
// is there.
func (c *Conn) LastSeen(ctx context.Context, backend string) (last time.Time, err error) {
	subject := "$KV." + Fleet + ".worker." + messages.Token(backend) + ".*"
	for from := uint64(0); ; {
		f, err := c.Next(ctx, "KV_"+Fleet, subject, from)
		switch {
		case errors.Is(err, messages.ErrNotFound):
			return last, nil
		case err != nil:
			return last, err
		case state(f.header) == present && f.At.After(last):
			last = f.At
		}
		from = f.Sequence + 1
	}
}

// Hints tells that something was published on a subject: the channel gets a
// value after each message, until stop is called, but values that nobody takes
// are dropped but one, and those of a broken connection are lost. What was
// published, a stream says.
func (c *Conn) Hints(subject string) (hints <-chan struct{}, stop func(), err error) {
	ch := make(chan struct{}, 1)
	sub, err := c.nc.Subscribe(subject, func(*nats.Msg) {
		select {
		case ch <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return ch, func() { _ = sub.Unsubscribe() }, nil // a closed connection has forgotten it already
}
