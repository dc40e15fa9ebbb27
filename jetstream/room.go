package jetstream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// MakingRoom has Next delete messages that were settled, the oldest first, when
// the stream is more than half full. It is for a stream that refuses what is new
// when it is full, so that nothing unread is lost, and keeps what was read as
// long as there is room.
func MakingRoom() QueueOption { return func(q *Queue) { q.making = true } }

// lookEvery is how much is read between two looks at how full the stream is,
// in bytes.
const lookEvery = 64 << 10

// perMessage is about what a message takes beside its bytes.
const perMessage = 128

// makeRoom looks whether the stream is too full, when it is time to. What fails
// is done at the next look: at the latest when a pull has ended without a
// message.
func (q *Queue) makeRoom(ctx context.Context) {
	if !q.making || q.unlooked.Load() > 0 {
		return
	}
	err := q.c.attempt(ctx, callTimeout, q.dropSettled)
	if err != nil && ctx.Err() == nil {
		q.c.log.Warn().Err(err).Str("stream", q.stream).Msg("what was read cannot be deleted to make room; when the stream is full it refuses what is new")
	}
	q.unlooked.Store(lookEvery)
}

// dropSettled deletes the oldest settled messages of a stream of which more than
// half is taken. What is not settled yet is not touched.
func (q *Queue) dropSettled(ctx context.Context) error {
	s, err := q.c.stream(ctx, q.stream)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", q.stream, err)
	}
	info, err := s.Info(ctx)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", q.stream, err)
	}
	have := info.State
	// Half of a small stream may be less than the largest message.
	bound := max(0, min(info.Config.MaxBytes/2, info.Config.MaxBytes-q.c.nc.MaxPayload()-lookEvery))
	if info.Config.MaxBytes <= 0 || have.Msgs == 0 || int64(have.Bytes) <= bound { //nolint:gosec // of a disk
		return nil
	}
	consumer, err := q.c.js.Consumer(ctx, q.stream, q.consumer) // asks the leader
	if err != nil {
		return fmt.Errorf("look at consumer %s of %s: %w", q.consumer, q.stream, err)
	}
	over := have.Bytes - uint64(bound) //nolint:gosec // not negative
	upTo := min(have.FirstSeq+over*have.Msgs/have.Bytes+1, consumer.CachedInfo().AckFloor.Stream+1)
	if upTo <= have.FirstSeq {
		return nil // all of it is unread
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(upTo)); err != nil {
		return fmt.Errorf("delete what was read from %s: %w", q.stream, err)
	}
	q.c.log.Info().Str("stream", q.stream).Uint64("from", have.FirstSeq).Uint64("to", upTo-1).Msg("messages that were read were deleted to make room")
	return nil
}
