package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Start says from where a stream is followed.
type Start struct {
	Since    time.Time // from the first message stored at or after; zero is from the beginning
	Sequence uint64    // from this message on, if not 0
	New      bool      // only what comes from now on

	newest bool // of each subject, then what comes
}

// A Followed is a message of a stream, read and left there.
type Followed struct {
	Subject  string
	Data     []byte
	Sequence uint64
	At       time.Time
	Pending  uint64 // messages of the filter that wait behind it

	header nats.Header
}

// ID is the id that the message was published with, if any.
func (f Followed) ID() string { return f.header.Get(nats.MsgIdHdr) }

// Follow hands over the messages of a stream on a subject, in order and each
// once, through lost connections, until ctx ends or handle returns false.
func (c *Conn) Follow(ctx context.Context, stream, subject string, start Start, handle func(Followed) bool) error {
	info, err := c.info(ctx, stream, "") // a stream that is missing later may be so for a moment, in a cluster
	if err != nil {
		return orEnded(ctx, fmt.Errorf("follow %s: %w", stream, err))
	}
	if start.New { // by number, or a reconnect before the first message would leave some out
		start = Start{Sequence: info.State.LastSeq + 1}
	}
	again, stop := c.Reconnected()
	defer stop()
	wait := 100 * time.Millisecond
	for failures := 0; ; {
		last, done, err := c.followOnce(ctx, stream, subject, start, handle)
		if done || ctx.Err() != nil {
			return nil
		}
		if last > 0 {
			start, wait, failures = Start{Sequence: last + 1}, 100*time.Millisecond, 0
		}
		if errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("follow %s: %w", stream, err)
		}
		if failures++; failures == 3 {
			c.log.Warn().Err(err).Str("stream", stream).Msg("stream cannot be followed; trying again until it can")
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-again:
		case <-timer.C:
		}
		timer.Stop()
		pause(ctx, rand.N(100*time.Millisecond)) // those whom a restart has cut off come back one by one
		wait = min(2*wait, 5*time.Second)
	}
}

// followOnce follows until something breaks that the consumer cannot mend.
func (c *Conn) followOnce(ctx context.Context, stream, subject string, start Start, handle func(Followed) bool) (last uint64, done bool, err error) {
	consumer, err := c.ordered(ctx, stream, subject, start)
	if err != nil {
		return 0, false, err
	}
	defer func() { c.dropConsumer(ctx, stream, consumer) }()
	iter, err := consumer.Messages(jetstream.PullExpiry(20*time.Second), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return 0, false, err
	}
	defer iter.Stop()
	for {
		msg, err := iter.Next(jetstream.NextContext(ctx))
		if err != nil {
			return last, false, err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return last, false, err
		}
		last = meta.Sequence.Stream
		f := Followed{Subject: msg.Subject(), Data: msg.Data(), Sequence: last, At: meta.Timestamp, Pending: meta.NumPending, header: msg.Headers()}
		if ctx.Err() != nil || !handle(f) {
			return last, true, nil
		}
	}
}

// ordered makes an ordered consumer: one that the client makes anew behind the
// last message when it missed one, heard no heartbeat, or has reconnected. It
// asks for many messages at once, which is right where nothing is taken away.
func (c *Conn) ordered(ctx context.Context, stream, subject string, start Start) (jetstream.Consumer, error) {
	config := jetstream.OrderedConsumerConfig{
		FilterSubjects:    []string{subject},
		InactiveThreshold: time.Minute, // for one whose maker died
		MaxResetAttempts:  1,           // a second is ours to make: theirs does not hear ctx
	}
	switch {
	case start.Sequence > 0:
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, start.Sequence
	case start.newest:
		config.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	case !start.Since.IsZero():
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &start.Since
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.js.OrderedConsumer(ctx, stream, config)
}

// dropConsumer deletes a reader's consumer: a server bears only so many. One
// that cannot be deleted now goes by itself.
func (c *Conn) dropConsumer(ctx context.Context, stream string, consumer jetstream.Consumer) {
	info := consumer.CachedInfo()
	if info == nil || !c.Connected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = c.js.DeleteConsumer(ctx, stream, info.Name)
}

// Count returns how many messages a stream holds on a subject, which may have
// wildcards; on all of them if it is empty.
func (c *Conn) Count(ctx context.Context, stream, subject string) (uint64, error) {
	info, err := c.info(ctx, stream, subject)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", stream, err)
	}
	if subject == "" {
		return info.State.Msgs, nil
	}
	var n uint64
	for _, held := range info.State.Subjects {
		n += held
	}
	return n, nil
}

// info asks the stream's leader.
func (c *Conn) info(ctx context.Context, stream, subject string) (info *jetstream.StreamInfo, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		s, err := c.stream(ctx, stream)
		if err != nil {
			return err
		}
		var opts []jetstream.StreamInfoOpt
		if subject != "" {
			opts = append(opts, jetstream.WithSubjectFilter(subject))
		}
		info, err = s.Info(ctx, opts...)
		return err
	})
	return info, err
}
