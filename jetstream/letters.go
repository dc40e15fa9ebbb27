package jetstream

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

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
	id      string // "" for none
	seq     uint64 // in its stream; 0 if it is in none
}

// Bounds of what a dead letter keeps beside the bytes.
const (
	maxReason = 2000     // bytes
	maxHeader = 16 << 10 // bytes of the original headers
)

// originalPrefix stands before an original header that means something to the
// server or to the dead letters, so that it is kept and means nothing.
const originalPrefix = "Sluice-Original-"

// droppedHeaders counts original headers that could not be kept.
const droppedHeaders = "Sluice-Dropped-Headers"

// park stores a letter with the dead and returns when it is on the disk.
func (c *Conn) park(ctx context.Context, l letter) error {
	place, _ := messages.ParseSubject(l.subject) // unknown tokens are "_"
	msg := &nats.Msg{
		Subject: messages.DeadSubjectOf(place.Backend, place.Workspace, string(place.Job)),
		Header:  keepHeader(l.header),
		Data:    l.data,
	}
	reason := oneLine(l.reason, maxReason)
	msg.Header.Set(messages.DeadReason, reason)
	msg.Header.Set(messages.DeadSubject, l.subject)
	msg.Header.Set(messages.DeadStream, l.stream)
	msg.Header.Set(messages.DeadBy, oneLine(l.by, maxReason))
	msg.Header.Set(messages.DeadAt, time.Now().UTC().Format(time.RFC3339))
	if l.seq > 0 {
		msg.Header.Set(messages.DeadSequence, strconv.FormatUint(l.seq, 10))
	}
	var opts []jetstream.PublishOpt
	if l.id != "" {
		opts = append(opts, jetstream.WithMsgID(l.id))
	}
	c.shorten(msg, l.seq)
	if _, err := c.publish(ctx, msg, opts...); err != nil {
		return fmt.Errorf("put a message of %s into the dead letters: %w", l.subject, err)
	}
	c.log.Error().Str("subject", l.subject).Str("reason", reason).Msg("message was put into the dead letters")
	return nil
}

// publishHeaders is room for those that a publish adds, in bytes.
const publishHeaders = 1 << 10

// shorten cuts the bytes of a letter that is larger than what the server takes.
// Only a message that filled the server's max_payload to the brim needs it: a
// request (the other streams take less), on a server whose max_payload is
// smaller than deploy/nats has it.
func (c *Conn) shorten(msg *nats.Msg, seq uint64) {
	over := func() int { return msg.Size() - len(msg.Subject) + publishHeaders - int(c.nc.MaxPayload()) }
	if over() <= 0 {
		return
	}
	msg.Header.Set(messages.DeadCut, strconv.FormatUint(seq, 10))
	msg.Data = msg.Data[:max(len(msg.Data)-over(), 0)]
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

// keepHeader copies original headers, in the order of their names, as far as
// there is room and the client can write them. None acts on the server again.
func keepHeader(original map[string][]string) nats.Header {
	kept := nats.Header{}
	size, dropped := 0, 0
	for _, key := range slices.Sorted(maps.Keys(original)) {
		name := key
		if ours(key) {
			name = originalPrefix + key
		}
		for _, v := range original[key] {
			line := len(name) + len(": ") + len(v) + len("\r\n")
			if !writable(key) || size+line > maxHeader {
				dropped++
				continue
			}
			size += line
			kept[name] = append(kept[name], v)
		}
	}
	if dropped > 0 {
		kept.Set(droppedHeaders, strconv.Itoa(dropped))
	}
	return kept
}

// giveHeader undoes keepHeader, as far as the original headers were kept.
func giveHeader(kept map[string][]string) map[string][]string {
	original := map[string][]string{}
	for key, values := range kept {
		if name, was := strings.CutPrefix(key, originalPrefix); was {
			original[name] = values
		} else if !ours(key) {
			original[key] = values
		}
	}
	return original
}

// ours reports whether a header is one that the server or the dead letters
// give a meaning to. It asks for more than they do, who know one spelling.
func ours(key string) bool {
	key = strings.ToLower(key)
	return strings.HasPrefix(key, "nats-") || strings.HasPrefix(key, "sluice-")
}

// writable reports whether nats.go sends a header of this name: a token of RFC
// 9110. It reads more, and would refuse the whole letter.
func writable(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// oneLine makes a sentence fit for a header's value.
func oneLine(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
