package jetstream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/messages"
)

// batch is how many values one request reads.
const batch = 500

// All hands over every value whose key matches the filter ("" for all), as of
// now, in no order; one that changes meanwhile may come twice, the newer one
// later. A value that cannot be decoded is logged and left out: one bad record
// must not stop the rest. With three replicas it may be older than what Get
// reads, so whoever acts on it compares and sets.
func (r Register[T, P]) All(ctx context.Context, filter string, handle func(messages.Entry[T])) error {
	seen := map[string]messages.Revision{} // a second try begins at the beginning
	err := r.c.insist(ctx, func(ctx context.Context) error {
		return r.scan(ctx, filter, func(f Followed) {
			entry, ok := r.entry(f)
			if !ok || entry.Value == nil || seen[entry.Key] >= entry.Revision {
				return
			}
			seen[entry.Key] = entry.Revision
			handle(entry)
		})
	})
	if err != nil {
		return fmt.Errorf("read all of %s: %w", r.bucket, err)
	}
	return nil
}

// scan reads the newest message of each key through a consumer of its own. It
// is done when nothing waits behind the last one: a key that is written while
// the scan goes on moves behind the others, and must not be missed.
func (r Register[T, P]) scan(ctx context.Context, filter string, handle func(Followed)) error {
	stream := "KV_" + r.bucket
	open, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	consumer, err := r.c.js.CreateConsumer(open, stream, jetstream.ConsumerConfig{
		FilterSubject: r.filter(filter), DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return err
	}
	defer func() { r.c.dropConsumer(ctx, stream, consumer) }()
	pending := consumer.CachedInfo().NumPending
	for got, empty := uint64(0), 0; pending > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, err := consumer.FetchNoWait(batch)
		if err != nil {
			return fmt.Errorf("%w: %w", errMissed, err)
		}
		before := got
		for msg := range list.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				return err
			}
			if got++; meta.Sequence.Consumer != got {
				return errMissed
			}
			pending = meta.NumPending
			handle(Followed{Subject: msg.Subject(), Data: msg.Data(), Sequence: meta.Sequence.Stream, At: meta.Timestamp, header: msg.Headers()})
		}
		if err := list.Error(); err != nil { // the server stops, or the consumer is gone
			return fmt.Errorf("%w: %w", errMissed, err)
		}
		if got > before {
			empty = 0
			continue
		}
		if pending, err = r.c.behind(ctx, consumer, got); err != nil { // is there nothing, or was it lost?
			return err
		}
		if empty++; empty == 3 {
			return errMissed
		}
	}
	return nil
}

// behind asks how many messages wait for a consumer that has delivered so many.
func (c *Conn) behind(ctx context.Context, consumer jetstream.Consumer, delivered uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := consumer.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errMissed, err)
	}
	if info.Delivered.Consumer != delivered {
		return 0, errMissed
	}
	return info.NumPending, nil
}

// errMissed says that the connection broke off amid a scan: it has to be made
// again, as for a server that did not answer.
var errMissed = fmt.Errorf("values were missed: %w", nats.ErrTimeout)

// Watch hands over every value whose key matches, then each change, until ctx
// ends. A removed or expired key comes with a nil Value. It goes on by itself
// after a reconnect. It is a hint: changes in between may be left out, and
// values may come again.
func (r Register[T, P]) Watch(ctx context.Context, filter string, handle func(messages.Entry[T])) error {
	return r.c.Follow(ctx, "KV_"+r.bucket, r.filter(filter), Start{newest: true}, func(f Followed) bool {
		if entry, ok := r.entry(f); ok {
			handle(entry)
		}
		return true
	})
}

// filter turns a filter of keys ("" for all) into one of subjects.
func (r Register[T, P]) filter(keys string) string {
	if keys == "" {
		keys = ">"
	}
	return r.subject(keys)
}

// entry reads a value, and reports whether it can be read.
func (r Register[T, P]) entry(f Followed) (messages.Entry[T], bool) {
	entry := messages.Entry[T]{Key: strings.TrimPrefix(f.Subject, r.subject("")), Revision: messages.Revision(f.Sequence), At: f.At}
	if s := state(f.header); s != present {
		entry.Expired = s == expired
		return entry, true
	}
	value, err := decode[T, P](f.Data)
	if err != nil {
		if seen, _ := r.c.garbled.Swap(f.Subject, f.Sequence); seen == f.Sequence {
			return entry, false
		}
		r.c.log.Error().Err(err).Str("register", r.bucket).Str("key", entry.Key).Uint64("revision", f.Sequence).Msg("record cannot be read")
		return entry, false
	}
	entry.Value = value
	return entry, true
}

// All hands over every value whose key matches.
func (e Expiring[T, P]) All(ctx context.Context, filter string, handle func(messages.Entry[T])) error {
	return e.r.All(ctx, filter, handle)
}

// Watch hands over every value whose key matches, then each change.
func (e Expiring[T, P]) Watch(ctx context.Context, filter string, handle func(messages.Entry[T])) error {
	return e.r.Watch(ctx, filter, handle)
}
