package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/fault"
	"sluice/messages"
)

// A DeadLetter is a message in SLUICE_DEAD.
type DeadLetter struct {
	Sequence uint64              `json:"seq"`
	Letter   string              `json:"letter"` // its own subject: who may publish there is who can have written it
	Reason   string              `json:"reason"`
	Subject  string              `json:"subject"` // where it was published
	Stream   string              `json:"stream,omitempty"`
	Original uint64              `json:"stream_seq,omitempty"` // where in that stream
	By       string              `json:"by"`
	At       string              `json:"at"`
	Header   map[string][]string `json:"header,omitempty"` // the original ones
	Dropped  int                 `json:"dropped_headers,omitempty"`
	Cut      uint64              `json:"cut,omitempty"` // bytes are missing: the whole is at this sequence of its stream
	Data     []byte              `json:"-"`
	Size     int                 `json:"size"`
}

// DeadLetters hands over every dead letter of now, oldest first.
func (c *Conn) DeadLetters(ctx context.Context, handle func(DeadLetter)) error {
	info, err := c.info(ctx, Dead, "")
	if err != nil {
		return fmt.Errorf("open the dead letters: %w", err)
	}
	for seq := info.State.FirstSeq; info.State.Msgs > 0 && seq <= info.State.LastSeq; seq++ {
		raw, err := c.deadFrom(ctx, seq, jetstream.WithGetMsgSubject(">")) // the next one, over gaps
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the dead letters from %d on: %w", seq, err)
		}
		if seq = raw.Sequence; seq <= info.State.LastSeq {
			handle(deadLetter(raw))
		}
	}
	return nil
}

// DeadLetter reads one. It wraps messages.ErrNotFound.
func (c *Conn) DeadLetter(ctx context.Context, seq uint64) (DeadLetter, error) {
	raw, err := c.deadFrom(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return DeadLetter{}, noLetterError(seq)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %d: %w", seq, err)
	}
	return deadLetter(raw), nil
}

// A noLetterError is messages.ErrNotFound, of a dead letter.
type noLetterError uint64

func (e noLetterError) Error() string { return fmt.Sprintf("there is no dead letter %d", uint64(e)) }

// Is reports what the error is taken for.
func (noLetterError) Is(target error) bool { return target == messages.ErrNotFound }

func (c *Conn) deadFrom(ctx context.Context, seq uint64, opts ...jetstream.GetMsgOpt) (raw *jetstream.RawStreamMsg, err error) {
	if seq == 0 {
		return nil, jetstream.ErrMsgNotFound
	}
	err = c.retry(ctx, func(ctx context.Context) error {
		s, err := c.stream(ctx, Dead)
		if err == nil {
			raw, err = s.GetMsg(ctx, seq, opts...)
		}
		return err
	})
	return raw, err
}

func deadLetter(raw *jetstream.RawStreamMsg) DeadLetter {
	dropped, _ := strconv.Atoi(raw.Header.Get(droppedHeaders)) // none if it is not there
	cut, _ := strconv.ParseUint(raw.Header.Get(messages.DeadCut), 10, 64)
	original, _ := strconv.ParseUint(raw.Header.Get(messages.DeadSequence), 10, 64)
	return DeadLetter{
		Letter: raw.Subject, Original: original, Cut: cut, Sequence: raw.Sequence, Data: raw.Data, Size: len(raw.Data), Header: giveHeader(raw.Header), Dropped: dropped,
		Reason: raw.Header.Get(messages.DeadReason), Subject: raw.Header.Get(messages.DeadSubject), Stream: raw.Header.Get(messages.DeadStream),
		By: raw.Header.Get(messages.DeadBy), At: raw.Header.Get(messages.DeadAt),
	}
}

// Forged reports whether a letter says that it comes from elsewhere than what it
// was published on is for. The fleet writes none such.
func (l DeadLetter) Forged() bool {
	place, _ := messages.ParseSubject(l.Subject) // unknown tokens are "_"
	return l.Letter != messages.DeadSubjectOf(place.Backend, place.Workspace, string(place.Job))
}

// streamOf is where messages of a kind of subject are kept.
var streamOf = map[string]string{"request": Requests, "cancel": Requests, "action": Actions, "files": Files, "event": Events}

// RetryDead publishes a dead letter where it came from, byte for byte, and then
// takes it out of the dead letters. Whoever may write a letter may write any
// subject into it, so it goes back to none but the fleet's own queues, and those
// of its own backend: the operator's right to publish is not lent to the letter.
// Requests and cancellations, which no backend may publish, must be the stream's
// own. Headers that act on the server stay away: with its old id it would be
// taken for a copy.
func (c *Conn) RetryDead(ctx context.Context, seq uint64) (DeadLetter, error) {
	l, err := c.DeadLetter(ctx, seq)
	if err != nil {
		return l, err
	}
	place, err := messages.ParseSubject(l.Subject)
	stream := streamOf[place.Kind]
	if err != nil || stream == "" {
		return l, fmt.Errorf("dead letter %d does not come from a queue of the fleet but from %s: it cannot be put back", seq, messages.Quote(l.Subject))
	}
	if l.Forged() {
		return l, fmt.Errorf("dead letter %d says that it comes from %s and was published on %s, where none of that is: it is forged and cannot be put back", seq, messages.Quote(l.Subject), messages.Quote(l.Letter))
	}
	if l.Cut > 0 || stream == Requests {
		if l.Data, err = c.whole(ctx, stream, l); err != nil {
			return l, err
		}
	}
	header := nats.Header(maps.Clone(l.Header))
	maps.DeleteFunc(header, func(key string, _ []string) bool { return ours(key) })
	id := fmt.Sprintf("retry/%s/%d", l.At, seq) // this call's own tries are one
	if _, err := c.publish(ctx, &nats.Msg{Subject: l.Subject, Data: l.Data, Header: header}, jetstream.WithExpectStream(stream), jetstream.WithMsgID(id)); err != nil {
		return l, fmt.Errorf("publish dead letter %d on %s: %w", seq, l.Subject, err)
	}
	fault.At("jetstream.after-put-back")
	return l, c.DropDead(ctx, seq)
}

// whole reads the bytes of a message whose letter is cut, or must be vouched for
// by its stream.
func (c *Conn) whole(ctx context.Context, stream string, l DeadLetter) (data []byte, err error) {
	var raw *jetstream.RawStreamMsg
	err = c.retry(ctx, func(ctx context.Context) error {
		s, err := c.stream(ctx, stream)
		if err == nil {
			raw, err = s.GetMsg(ctx, max(l.Cut, l.Original, 1))
		}
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound), err == nil && (raw.Subject != l.Subject || !bytes.HasPrefix(raw.Data, l.Data) || l.Cut == 0 && len(raw.Data) != len(l.Data)):
		return nil, fmt.Errorf("%s does not keep the message of dead letter %d any more, or never did: it cannot be put back; if its sender still wants it, it can be published again", stream, l.Sequence)
	case err != nil:
		return nil, fmt.Errorf("read the message of dead letter %d in %s: %w", l.Sequence, stream, err)
	}
	return raw.Data, nil
}

// DropDead deletes a dead letter. It wraps messages.ErrNotFound.
func (c *Conn) DropDead(ctx context.Context, seq uint64) error {
	err := c.retry(ctx, func(ctx context.Context) error {
		s, err := c.stream(ctx, Dead)
		if err == nil {
			err = s.DeleteMsg(ctx, seq)
		}
		return err
	})
	if err == nil {
		return nil
	}
	if _, readErr := c.deadFrom(ctx, seq); errors.Is(readErr, jetstream.ErrMsgNotFound) {
		return noLetterError(seq)
	}
	return fmt.Errorf("delete dead letter %d: %w", seq, err)
}
