package jetstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/messages"
)

// All hands over every value whose key matches the filter ("" for all), as of
// now, in no order. A value that cannot be decoded is logged and left out: one
// bad record must not stop the rest.
func (r Register[T, P]) All(ctx context.Context, filter string, handle func(messages.Entry[T])) error {
	kv, err := r.open(ctx)
	if err != nil {
		return err
	}
	w, err := kv.WatchFiltered(ctx, []string{orAll(filter)}, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read %s: %w", r.bucket, err)
	}
	defer func() { _ = w.Stop() }() // nothing to save: the consumer goes by itself too
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-w.Updates():
			if !open {
				return fmt.Errorf("read %s: the watch ended early", r.bucket)
			}
			if e == nil {
				return nil
			}
			if entry, ok := r.entry(e); ok && entry.Value != nil {
				handle(entry)
			}
		}
	}
}

// Watch hands over every value whose key matches, then each change, until ctx
// ends. A deleted or expired key comes with a nil Value. After a reconnect all
// values come again: a watch is deaf for seconds after a server's restart, so
// it is made anew. It is a hint: changes in between may be left out.
func (r Register[T, P]) Watch(ctx context.Context, filter string, handle func(messages.Entry[T])) error {
	again, stop := r.c.Reconnected()
	defer stop()
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		began := time.Now()
		err := r.watchOnce(ctx, filter, again, handle)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > 10*time.Second {
			wait = 100 * time.Millisecond
		}
		if err != nil {
			r.c.log.Warn().Err(err).Str("register", r.bucket).Msg("watch is made anew")
		}
		pause(ctx, wait+rand.N(wait))
	}
	return nil
}

// watchOnce watches until the connection was lost and came back.
func (r Register[T, P]) watchOnce(ctx context.Context, filter string, again <-chan struct{}, handle func(messages.Entry[T])) error {
	kv, err := r.open(ctx)
	if err != nil {
		return err
	}
	w, err := kv.WatchFiltered(ctx, []string{orAll(filter)})
	if err != nil {
		return fmt.Errorf("watch %s: %w", r.bucket, err)
	}
	defer func() { _ = w.Stop() }() // the old consumer must not stay
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			return nil
		case e, open := <-w.Updates():
			if !open {
				return fmt.Errorf("watch %s: ended by the server", r.bucket)
			}
			if e == nil {
				continue
			}
			if entry, ok := r.entry(e); ok {
				handle(entry)
			}
		}
	}
}

func (r Register[T, P]) open(ctx context.Context) (jetstream.KeyValue, error) {
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := r.c.js.KeyValue(callCtx, r.bucket)
	if err != nil {
		return nil, fmt.Errorf("open register %s: %w", r.bucket, err)
	}
	return kv, nil
}

func (r Register[T, P]) entry(e jetstream.KeyValueEntry) (messages.Entry[T], bool) {
	entry := messages.Entry[T]{Key: e.Key(), Revision: messages.Revision(e.Revision()), At: e.Created()}
	if e.Operation() != jetstream.KeyValuePut {
		entry.Expired = e.Operation() == jetstream.KeyValuePurge
		return entry, true
	}
	value := P(new(T))
	if err := messages.Decode(e.Value(), value); err != nil {
		r.c.log.Error().Err(err).Str("register", r.bucket).Str("key", e.Key()).Uint64("revision", e.Revision()).Msg("record cannot be read")
		return entry, false
	}
	entry.Value = (*T)(value)
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

func orAll(filter string) string {
	if filter == "" {
		return ">"
	}
	return filter
}
