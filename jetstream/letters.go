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

// A letter is a message that is given up.
type letter struct {
	subject string
	stream  string
	header  map[string][]string
	data    []byte
	reason  string
	by      string
}

// Bounds of what a dead letter keeps beside the bytes.
const (
	maxReason = 2000     // bytes
	maxHeader = 16 << 10 // bytes of the original headers
)

// park stores a letter with the dead and returns when it is on the disk.
func (c *Conn) park(ctx context.Context, l letter) error {
	place, _ := messages.ParseSubject(l.subject) // unknown tokens are "_"
	msg := &nats.Msg{Subject: messages.DeadSubjectOf(place.Backend, place.Workspace, string(place.Job)), Data: l.data, Header: nats.Header{}}
	size := 0
	for key, values := range l.header {
		for _, v := range values {
			size += len(key) + len(v)
		}
		if size <= maxHeader && !ours(key) {
			msg.Header[key] = values
		}
	}
	reason := l.reason
	if len(reason) > maxReason {
		reason = reason[:maxReason] + "…"
	}
	msg.Header.Set(messages.DeadReason, oneLine(reason))
	msg.Header.Set(messages.DeadSubject, l.subject)
	msg.Header.Set(messages.DeadStream, l.stream)
	msg.Header.Set(messages.DeadBy, l.by)
	msg.Header.Set(messages.DeadAt, time.Now().UTC().Format(time.RFC3339))
	if _, err := c.publish(ctx, msg); err != nil {
		return fmt.Errorf("put a message of %s into the dead letters: %w", l.subject, err)
	}
	c.log.Error().Str("subject", l.subject).Str("reason", reason).Msg("message was put into the dead letters")
	return nil
}

// Park puts a message that never was in a queue, or is in none any more, into
// the dead letters.
func (c *Conn) Park(ctx context.Context, subject string, m messages.Message, by, reason string) error {
	data, err := messages.Encode(m)
	if err != nil {
		return err
	}
	return c.park(ctx, letter{subject: subject, data: data, reason: reason, by: by})
}

// ours reports whether a header is one that the server or the dead letters
// give a meaning to.
func ours(key string) bool {
	switch key {
	case messages.DeadReason, messages.DeadSubject, messages.DeadStream, messages.DeadBy, messages.DeadAt:
		return true
	}
	return len(key) > 5 && key[:5] == "Nats-"
}

func oneLine(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < ' ' || r == 0x7f {
			out[i] = ' '
		}
	}
	return string(out)
}

// A DeadLetter is a message in SLUICE_DEAD.
type DeadLetter struct {
	Sequence uint64              `json:"seq"`
	Reason   string              `json:"reason"`
	Subject  string              `json:"subject"` // where it was published
	Stream   string              `json:"stream,omitempty"`
	By       string              `json:"by"`
	At       string              `json:"at"`
	Header   map[string][]string `json:"header,omitempty"` // the original ones
	Data     []byte              `json:"-"`
	Size     int                 `json:"size"`
}

// DeadLetters hands over every dead letter, oldest first.
func (c *Conn) DeadLetters(ctx context.Context, handle func(DeadLetter)) error {
	s, err := c.stream(ctx, Dead)
	if err != nil {
		return fmt.Errorf("open the dead letters: %w", err)
	}
	info, err := s.Info(ctx)
	if err != nil {
		return fmt.Errorf("open the dead letters: %w", err)
	}
	if info.State.Msgs == 0 {
		return nil
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		raw, err := s.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // deleted, or put back
		}
		if err != nil {
			return fmt.Errorf("read dead letter %d: %w", seq, err)
		}
		handle(deadLetter(raw))
	}
	return nil
}

// DeadLetter reads one.
func (c *Conn) DeadLetter(ctx context.Context, seq uint64) (DeadLetter, error) {
	s, err := c.stream(ctx, Dead)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("open the dead letters: %w", err)
	}
	raw, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", seq, messages.ErrNotFound)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %d: %w", seq, err)
	}
	return deadLetter(raw), nil
}

func deadLetter(raw *jetstream.RawStreamMsg) DeadLetter {
	l := DeadLetter{
		Sequence: raw.Sequence, Data: raw.Data, Size: len(raw.Data), Header: map[string][]string{},
		Reason: raw.Header.Get(messages.DeadReason), Subject: raw.Header.Get(messages.DeadSubject), Stream: raw.Header.Get(messages.DeadStream),
		By: raw.Header.Get(messages.DeadBy), At: raw.Header.Get(messages.DeadAt),
	}
	for key, values := range raw.Header {
		if !ours(key) {
			l.Header[key] = values
		}
	}
	return l
}

// RetryDead publishes a dead letter where it came from, byte for byte, and then
// takes it out of the dead letters.
func (c *Conn) RetryDead(ctx context.Context, seq uint64) (DeadLetter, error) {
	l, err := c.DeadLetter(ctx, seq)
	if err != nil {
		return l, err
	}
	if l.Subject == "" {
		return l, fmt.Errorf("dead letter %d does not say where it came from", seq)
	}
	if _, err := c.publish(ctx, &nats.Msg{Subject: l.Subject, Data: l.Data, Header: l.Header}); err != nil {
		return l, fmt.Errorf("publish dead letter %d on %s: %w", seq, l.Subject, err)
	}
	return l, c.DropDead(ctx, seq)
}

// DropDead deletes a dead letter.
func (c *Conn) DropDead(ctx context.Context, seq uint64) error {
	s, err := c.stream(ctx, Dead)
	if err == nil {
		err = s.DeleteMsg(ctx, seq)
	}
	if err != nil {
		return fmt.Errorf("delete dead letter %d: %w", seq, err)
	}
	return nil
}
