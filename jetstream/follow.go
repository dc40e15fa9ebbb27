package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/messages"
)

// A Start says from where a stream is followed.
type Start struct {
	Since    time.Time // from the first message stored at or after; zero is from the beginning
	Sequence uint64    // from this message on, if not 0
	New      bool      // only what comes from now on
}

// A Followed is a message of a stream, read and left there.
type Followed struct {
	Subject  string
	Data     []byte
	Sequence uint64
	At       time.Time
	Pending  uint64 // messages of the filter that wait behind it
}

// Follow hands over the messages of a stream on a subject, in order and each
// once, through lost connections, until ctx ends or handle returns false.
func (c *Conn) Follow(ctx context.Context, stream, subject string, start Start, handle func(Followed) bool) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		last, done, err := c.followOnce(ctx, stream, subject, start, handle)
		if done || ctx.Err() != nil {
			return nil
		}
		if last > 0 {
			start, wait = Start{Sequence: last + 1}, 100*time.Millisecond
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("follow %s: %w", stream, err)
		}
		c.log.Debug().AnErr("cause", err).Str("stream", stream).Msg("following is begun again")
		if !pause(ctx, wait) {
			return nil
		}
	}
}

func (c *Conn) followOnce(ctx context.Context, stream, subject string, start Start, handle func(Followed) bool) (last uint64, done bool, err error) {
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}}
	switch {
	case start.Sequence > 0:
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, start.Sequence
	case start.New:
		config.DeliverPolicy = jetstream.DeliverNewPolicy
	case !start.Since.IsZero():
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &start.Since
	}
	open, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	consumer, err := c.js.OrderedConsumer(open, stream, config)
	if err != nil {
		return 0, false, err
	}
	iter, err := consumer.Messages()
	if err != nil {
		return 0, false, err
	}
	unlink := context.AfterFunc(ctx, iter.Stop)
	defer unlink()
	defer iter.Stop()
	for {
		msg, err := iter.Next()
		if err != nil {
			return last, false, err
		}
		f := Followed{Subject: msg.Subject(), Data: msg.Data()}
		if meta, err := msg.Metadata(); err == nil {
			f.Sequence, f.At, f.Pending = meta.Sequence.Stream, meta.Timestamp, meta.NumPending
		}
		last = f.Sequence
		if !handle(f) {
			return last, true, nil
		}
	}
}

// Verdicts follows the persister's events of one backend.
type Verdicts struct {
	Conn    *Conn
	Backend string
}

// Follow hands over the events since a time until ctx ends.
func (v Verdicts) Follow(ctx context.Context, since time.Time, handle func(context.Context, *messages.PersisterEvent)) error {
	subject := messages.Prefix + ".event.persister." + messages.Token(v.Backend) + ".>"
	return v.Conn.Follow(ctx, Events, subject, Start{Since: since}, func(f Followed) bool {
		var event messages.PersisterEvent
		if err := messages.Decode(f.Data, &event); err != nil {
			v.Conn.log.Warn().Err(err).Str("subject", f.Subject).Msg("event cannot be read")
			return true
		}
		handle(ctx, &event)
		return true
	})
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

// Count returns how many messages a stream holds on a subject; on all of them
// if it is empty.
func (c *Conn) Count(ctx context.Context, stream, subject string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", stream, err)
	}
	if subject == "" {
		return s.CachedInfo().State.Msgs, nil
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", stream, err)
	}
	return info.State.Subjects[subject], nil
}
