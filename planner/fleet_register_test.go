package planner_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/messages"
)

// An item is what stands under a key: bytes, or the marker of an expiry.
type item struct {
	data     []byte
	revision messages.Revision
	at       time.Time
	timer    *time.Timer
}

type value[T any] interface {
	*T
	messages.Message
}

// A register is a view of a bucket.
type register[T any, P value[T]] struct {
	c      *Conn
	bucket string
}

func (r register[T, P]) Get(ctx context.Context, key string) (messages.Entry[T], error) {
	if err := r.c.read(ctx); err != nil {
		return messages.Entry[T]{}, err
	}
	r.c.f.mu.Lock()
	defer r.c.f.mu.Unlock()
	it := r.c.f.buckets[r.bucket][key]
	if it == nil {
		return messages.Entry[T]{Key: key}, messages.ErrNotFound
	}
	return entry[T, P](key, it)
}

func entry[T any, P value[T]](key string, it *item) (messages.Entry[T], error) {
	e := messages.Entry[T]{Key: key, Revision: it.revision, At: it.at, Expired: it.data == nil}
	if it.data == nil {
		return e, nil
	}
	v := P(new(T))
	if err := messages.Decode(it.data, v); err != nil {
		return e, fmt.Errorf("%w: %w", messages.ErrUnreadable, err)
	}
	e.Value = (*T)(v)
	return e, nil
}

func (r register[T, P]) Create(ctx context.Context, key string, v *T) (messages.Revision, error) {
	return r.put(ctx, key, v, 0, 0)
}

func (r register[T, P]) Update(ctx context.Context, key string, v *T, last messages.Revision) (messages.Revision, error) {
	return r.put(ctx, key, v, last, 0)
}

func (r register[T, P]) put(ctx context.Context, key string, v *T, last messages.Revision, ttl time.Duration) (revision messages.Revision, err error) {
	data, err := messages.Encode(P(v))
	if err != nil {
		return 0, err
	}
	if key == messages.LeaderKey { // renewed by the clock: not one of the steps that a crash can fall between
		if err := r.c.alive(ctx); err != nil {
			return 0, err
		}
		return r.c.f.put(r.bucket, key, data, last, ttl)
	}
	err = r.c.write(ctx, func() error {
		revision, err = r.c.f.put(r.bucket, key, data, last, ttl)
		return err
	})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

func (f *Fleet) put(bucket, key string, data []byte, last messages.Revision, ttl time.Duration) (messages.Revision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := f.buckets[bucket]
	if keys == nil {
		keys = map[string]*item{}
		f.buckets[bucket] = keys
	}
	old := keys[key]
	if old == nil && last != 0 || old != nil && old.revision != last {
		return 0, messages.ErrConflict
	}
	return f.set(bucket, key, data, ttl), nil
}

// set writes whatever stood there, and is called with the lock held.
func (f *Fleet) set(bucket, key string, data []byte, ttl time.Duration) messages.Revision {
	if f.buckets[bucket] == nil {
		f.buckets[bucket] = map[string]*item{}
	}
	if old := f.buckets[bucket][key]; old != nil && old.timer != nil {
		old.timer.Stop()
	}
	f.revision++
	it := &item{data: data, revision: f.revision, at: time.Now()}
	f.buckets[bucket][key] = it
	if ttl > 0 {
		it.timer = time.AfterFunc(ttl, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.buckets[bucket][key] == it {
				f.set(bucket, key, nil, 0)
			}
		})
	}
	for w := range f.watchers {
		if w.bucket == bucket && matches(w.filter, key) {
			w.add(key, it)
		}
	}
	return it.revision
}

func (r register[T, P]) All(ctx context.Context, filter string, handle func(messages.Entry[T])) error {
	if err := r.c.read(ctx); err != nil {
		return err
	}
	r.c.f.mu.Lock()
	var list []messages.Entry[T]
	for key, it := range r.c.f.buckets[r.bucket] {
		if matches(filter, key) && it.data != nil {
			e, err := entry[T, P](key, it)
			if err != nil {
				continue
			}
			list = append(list, e)
		}
	}
	r.c.f.mu.Unlock()
	for _, e := range list {
		handle(e)
	}
	return nil
}

// A watcher has a line of changes of its own.
type watcher struct {
	bucket, filter string
	f              *Fleet
	line           []change
	more           chan struct{}
}

type change struct {
	key string
	it  *item
}

func (w *watcher) add(key string, it *item) {
	w.line = append(w.line, change{key, it})
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (r register[T, P]) Watch(ctx context.Context, filter string, handle func(messages.Entry[T])) error {
	f := r.c.f
	w := &watcher{bucket: r.bucket, filter: filter, f: f, more: make(chan struct{}, 1)}
	f.mu.Lock()
	for key, it := range f.buckets[r.bucket] {
		if matches(filter, key) {
			w.add(key, it)
		}
	}
	f.watchers[w] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, w)
	}()
	for {
		f.mu.Lock()
		line := w.line
		w.line = nil
		f.mu.Unlock()
		for _, c := range line {
			if r.c.alive(ctx) != nil {
				return nil
			}
			if e, err := entry[T, P](c.key, c.it); err == nil {
				handle(e)
			}
		}
		if len(line) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.more:
		}
	}
}

// An expiring register's writes have a time to live.
type expiring[T any, P value[T]] struct {
	register[T, P]
}

func (e expiring[T, P]) Create(ctx context.Context, key string, v *T, ttl time.Duration) (messages.Revision, error) {
	return e.put(ctx, key, v, 0, ttl)
}

func (e expiring[T, P]) Update(ctx context.Context, key string, v *T, last messages.Revision, ttl time.Duration) (messages.Revision, error) {
	return e.put(ctx, key, v, last, ttl)
}

// matches is how the server matches a filter with a key.
func matches(filter, key string) bool {
	want, have := strings.Split(filter, "."), strings.Split(key, ".")
	for i, token := range want {
		if token == ">" {
			return len(have) > i
		}
		if i >= len(have) || token != "*" && token != have[i] {
			return false
		}
	}
	return len(want) == len(have)
}

// mutate puts bytes under a key, whatever stood there; nil takes it out.
func (f *Fleet) mutate(bucket, key string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if data == nil {
		delete(f.buckets[bucket], key)
		return
	}
	f.set(bucket, key, data, 0)
}
