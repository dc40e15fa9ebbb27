package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/messages"
)

// A Value is a type that a register keeps.
type Value[T any] interface {
	*T
	messages.Message
}

// A Register keeps values of one type under keys. Values change by
// compare-and-set only, and are read from the leader.
type Register[T any, P Value[T]] struct {
	c      *Conn
	bucket string
}

// JobsRegister, LatestRegister and PlansRegister share a bucket; their keys
// differ (messages.ParseJobsKey).
func (c *Conn) JobsRegister() Register[messages.Job, *messages.Job] {
	return Register[messages.Job, *messages.Job]{c: c, bucket: Jobs}
}

// LatestRegister is the register of an action's newest jobs.
func (c *Conn) LatestRegister() Register[messages.Latest, *messages.Latest] {
	return Register[messages.Latest, *messages.Latest]{c: c, bucket: Jobs}
}

// PlansRegister is the register of plans.
func (c *Conn) PlansRegister() Register[messages.Plan, *messages.Plan] {
	return Register[messages.Plan, *messages.Plan]{c: c, bucket: Jobs}
}

// CommitsRegister is the register of commits.
func (c *Conn) CommitsRegister() Register[messages.Commit, *messages.Commit] {
	return Register[messages.Commit, *messages.Commit]{c: c, bucket: Commits}
}

// SettingsRegister is the register of operators' settings.
func (c *Conn) SettingsRegister() Register[messages.Setting, *messages.Setting] {
	return Register[messages.Setting, *messages.Setting]{c: c, bucket: Fleet}
}

// LeasesRegister is the register of leases: every write carries a time to live.
func (c *Conn) LeasesRegister() Expiring[messages.Lease, *messages.Lease] {
	return Expiring[messages.Lease, *messages.Lease]{Register[messages.Lease, *messages.Lease]{c: c, bucket: Leases}}
}

// PresenceRegister is the register of workers.
func (c *Conn) PresenceRegister() Expiring[messages.Presence, *messages.Presence] {
	return Expiring[messages.Presence, *messages.Presence]{Register[messages.Presence, *messages.Presence]{c: c, bucket: Fleet}}
}

// LeaderRegister is the register of the active planner.
func (c *Conn) LeaderRegister() Expiring[messages.Leader, *messages.Leader] {
	return Expiring[messages.Leader, *messages.Leader]{Register[messages.Leader, *messages.Leader]{c: c, bucket: Fleet}}
}

// subject is where a key's values lie in the stream.
func (r Register[T, P]) subject(key string) string { return "$KV." + r.bucket + "." + key }

// Get reads a key from the leader. It wraps messages.ErrNotFound, and
// messages.ErrUnreadable with an entry that has the revision.
func (r Register[T, P]) Get(ctx context.Context, key string) (messages.Entry[T], error) {
	entry := messages.Entry[T]{Key: key}
	if err := checkKey(key); err != nil {
		return entry, err
	}
	raw, err := r.last(ctx, key)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return entry, fmt.Errorf("read %s of %s: %w", key, r.bucket, messages.ErrNotFound)
	}
	if err != nil {
		return entry, fmt.Errorf("read %s of %s: %w", key, r.bucket, err)
	}
	entry.Revision, entry.At = messages.Revision(raw.Sequence), raw.Time
	switch state(raw.Header) {
	case expired:
		entry.Expired = true
		return entry, nil
	case gone:
		return entry, fmt.Errorf("read %s of %s: %w (it was removed)", key, r.bucket, messages.ErrNotFound)
	}
	value, err := decode[T, P](raw.Data)
	if err != nil {
		return entry, fmt.Errorf("read %s of %s, revision %d: %w", key, r.bucket, raw.Sequence, err)
	}
	entry.Value = value
	return entry, nil
}

// decode reads a value. One that nobody could write back is none.
func decode[T any, P Value[T]](data []byte) (*T, error) {
	if len(data) > messages.MaxPayload {
		return nil, fmt.Errorf("%w: it is %d bytes long, the limit is %d", messages.ErrUnreadable, len(data), messages.MaxPayload)
	}
	value := P(new(T))
	if err := messages.Decode(data, value); err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrUnreadable, err)
	}
	return (*T)(value), nil
}

// last asks the stream's leader, again while no server answers.
func (r Register[T, P]) last(ctx context.Context, key string) (raw *jetstream.RawStreamMsg, err error) {
	err = r.c.retry(ctx, func(ctx context.Context) error {
		s, err := r.c.stream(ctx, "KV_"+r.bucket)
		if err == nil {
			raw, err = s.GetLastMsgForSubject(ctx, r.subject(key))
		}
		return err
	})
	return raw, err
}

// Create writes a key that was never written. It wraps messages.ErrConflict.
func (r Register[T, P]) Create(ctx context.Context, key string, value *T) (messages.Revision, error) {
	return r.put(ctx, key, value, 0, 0)
}

// Update writes a key whose revision is still last. It wraps
// messages.ErrConflict.
func (r Register[T, P]) Update(ctx context.Context, key string, value *T, last messages.Revision) (messages.Revision, error) {
	return r.put(ctx, key, value, last, 0)
}

// put writes by compare-and-set. A conflict that an earlier try of this very
// write made, whose answer was lost, is told apart by reading.
func (r Register[T, P]) put(ctx context.Context, key string, value *T, last messages.Revision, ttl time.Duration) (messages.Revision, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	data, err := messages.Encode(P(value))
	if err != nil {
		return 0, fmt.Errorf("write %s of %s: %w", key, r.bucket, err)
	}
	opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(uint64(last))}
	if ttl > 0 {
		opts = append(opts, jetstream.WithMsgTTL(seconds(ttl)))
	}
	ack, err := r.publish(ctx, key, nil, data, opts)
	if errors.Is(err, messages.ErrConflict) {
		if raw, readErr := r.last(ctx, key); readErr == nil && messages.Revision(raw.Sequence) > last && string(raw.Data) == string(data) && state(raw.Header) == present {
			return messages.Revision(raw.Sequence), nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("write %s of %s: %w", key, r.bucket, err)
	}
	return messages.Revision(ack.Sequence), nil
}

// publish retries the server's spurious contention (10164): another write to
// the subject was in flight, possibly our own last one.
func (r Register[T, P]) publish(ctx context.Context, key string, header nats.Header, data []byte, opts []jetstream.PublishOpt) (*jetstream.PubAck, error) {
	msg := &nats.Msg{Subject: r.c.registers + r.bucket + "." + key, Header: header, Data: data}
	for wait := time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		ack, err := r.c.publish(ctx, msg, opts...)
		var api *jetstream.APIError
		if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant && pause(ctx, wait) {
			continue
		}
		return ack, err
	}
}

// Remove drops a key and its history, if its revision is still last. A marker
// stays for keep, rounded up to seconds, during which the key is not free for
// Create; it wraps messages.ErrConflict.
func (r Register[T, P]) Remove(ctx context.Context, key string, last messages.Revision, keep time.Duration) error {
	if err := checkKey(key); err != nil {
		return err
	}
	header := nats.Header{operationHeader: {"PURGE"}, jetstream.MsgRollup: {jetstream.MsgRollupSubject}}
	opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(uint64(last)), jetstream.WithMsgTTL(seconds(keep))}
	if _, err := r.publish(ctx, key, header, nil, opts); err != nil {
		return fmt.Errorf("remove %s of %s: %w", key, r.bucket, err)
	}
	return nil
}

// What the newest message of a key says about it.
const (
	present = iota
	expired // its time to live ran out
	gone    // somebody removed it
)

const operationHeader = "KV-Operation"

func state(h nats.Header) int {
	switch reason := h.Get(jetstream.MarkerReasonHeader); {
	case reason == "MaxAge":
		return expired
	case reason != "" || h.Get(operationHeader) != "":
		return gone
	}
	return present
}

// seconds rounds a time to live up to what the server takes.
func seconds(d time.Duration) time.Duration {
	return max((d + time.Second - 1).Truncate(time.Second), time.Second)
}

func checkKey(key string) error {
	if key == "" || strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") || strings.Contains(key, "..") || strings.ContainsAny(key, "*> \t\r\n") {
		return fmt.Errorf("%s is not a key", messages.Quote(key))
	}
	return nil
}

// An Expiring register's writes carry a time to live, in whole seconds,
// rounded up. An expired key leaves a marker, whose revision can be compared
// and set; it is not free for Create.
type Expiring[T any, P Value[T]] struct {
	r Register[T, P]
}

// Get reads a key from the leader.
func (e Expiring[T, P]) Get(ctx context.Context, key string) (messages.Entry[T], error) {
	return e.r.Get(ctx, key)
}

// Create writes a key that was never written.
func (e Expiring[T, P]) Create(ctx context.Context, key string, value *T, ttl time.Duration) (messages.Revision, error) {
	return e.r.put(ctx, key, value, 0, ttl)
}

// Update writes a key, or an expired one's marker, whose revision is still last.
func (e Expiring[T, P]) Update(ctx context.Context, key string, value *T, last messages.Revision, ttl time.Duration) (messages.Revision, error) {
	return e.r.put(ctx, key, value, last, ttl)
}

// Announce overwrites a worker's presence.
func (c *Conn) Announce(ctx context.Context, p *messages.Presence, ttl time.Duration) error {
	data, err := messages.Encode(p)
	if err != nil {
		return err
	}
	subject := c.registers + Fleet + "." + messages.PresenceKey(p.Backend, p.Worker)
	_, err = c.publish(ctx, &nats.Msg{Subject: subject, Data: data}, jetstream.WithMsgTTL(seconds(ttl)))
	if err != nil {
		return fmt.Errorf("announce worker %s: %w", p.Worker, err)
	}
	return nil
}
