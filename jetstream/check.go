package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// A Difference is one thing on the server that is not as the topology says.
type Difference struct {
	What string `json:"what"` // "stream SLUICE_ACTIONS: max_bytes"
	Have string `json:"have"`
	Want string `json:"want"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s is %s, should be %s", d.What, d.Have, d.Want)
}

// Check compares the server with the topology and changes nothing. What a
// topology does not name (other backends' consumers, other streams) is none of
// its business.
func (c *Conn) Check(ctx context.Context, t Topology) ([]Difference, error) {
	var diffs []Difference
	for _, want := range t.streams() {
		var have jetstream.Stream
		err := c.patiently(ctx, "stream "+want.Name, func(ctx context.Context) (err error) {
			have, err = c.js.Stream(ctx, want.Name)
			return err
		})
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			diffs = append(diffs, Difference{"stream " + want.Name, "missing", "there"})
		case err != nil:
			return nil, fmt.Errorf("look at stream %s: %w", want.Name, err)
		default:
			diffs = append(diffs, streamDiffs(want, have.CachedInfo().Config)...)
		}
	}
	for _, want := range t.consumers() {
		what := fmt.Sprintf("consumer %s of %s", want.config.Durable, want.stream)
		var have jetstream.Consumer
		err := c.patiently(ctx, what, func(ctx context.Context) (err error) {
			have, err = c.js.Consumer(ctx, want.stream, want.config.Durable)
			return err
		})
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
			diffs = append(diffs, Difference{what, "missing", "there"})
		case err != nil:
			return nil, fmt.Errorf("look at %s: %w", what, err)
		default:
			diffs = append(diffs, consumerDiffs(what, want.config, have.CachedInfo().Config)...)
		}
	}
	return diffs, nil
}

// differences collects what differs, field by field.
type differences struct {
	of   string
	list []Difference
}

func (d *differences) add(field string, have, want any) {
	if h, w := fmt.Sprint(have), fmt.Sprint(want); h != w {
		d.list = append(d.list, Difference{d.of + ": " + field, h, w})
	}
}

func streamDiffs(want, have jetstream.StreamConfig) []Difference {
	d := differences{of: "stream " + want.Name}
	d.add("subjects", sorted(have.Subjects), sorted(want.Subjects))
	d.add("description", have.Description, want.Description)
	d.add("retention", have.Retention, want.Retention)
	d.add("discard", have.Discard, want.Discard)
	d.add("discard_new_per_subject", have.DiscardNewPerSubject, want.DiscardNewPerSubject)
	d.add("max_msgs", unlimited(have.MaxMsgs), unlimited(want.MaxMsgs))
	d.add("max_msgs_per_subject", unlimited(have.MaxMsgsPerSubject), unlimited(want.MaxMsgsPerSubject))
	d.add("max_bytes", unlimited(have.MaxBytes), unlimited(want.MaxBytes))
	d.add("max_msg_size", unlimited(int64(have.MaxMsgSize)), unlimited(int64(want.MaxMsgSize)))
	d.add("max_consumers", unlimited(int64(have.MaxConsumers)), unlimited(int64(want.MaxConsumers)))
	d.add("max_age", have.MaxAge, want.MaxAge)
	d.add("storage", have.Storage, want.Storage)
	d.add("replicas", have.Replicas, want.Replicas)
	d.add("duplicates", have.Duplicates, want.Duplicates)
	d.add("no_ack", have.NoAck, want.NoAck)
	d.add("sealed", have.Sealed, want.Sealed)
	d.add("mirror", have.Mirror != nil, want.Mirror != nil)
	d.add("sources", len(have.Sources), len(want.Sources))
	d.add("republish", repeats(have.RePublish), repeats(want.RePublish))
	d.add("subject_transform", have.SubjectTransform != nil, want.SubjectTransform != nil)
	d.add("allow_direct", have.AllowDirect, want.AllowDirect)
	d.add("allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL)
	d.add("subject_delete_marker_ttl", have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL)
	d.add("allow_rollup", have.AllowRollup, want.AllowRollup)
	d.add("deny_delete", have.DenyDelete, want.DenyDelete)
	d.add("deny_purge", have.DenyPurge, want.DenyPurge)
	d.add("persist_mode", have.PersistMode, want.PersistMode)
	return d.list
}

func consumerDiffs(what string, want, have jetstream.ConsumerConfig) []Difference {
	d := differences{of: what}
	d.add("filter", sorted(filters(have)), sorted(filters(want)))
	d.add("deliver_policy", have.DeliverPolicy, want.DeliverPolicy)
	d.add("ack_policy", have.AckPolicy, want.AckPolicy)
	d.add("ack_wait", have.AckWait, want.AckWait)
	d.add("max_deliver", have.MaxDeliver, want.MaxDeliver)
	d.add("max_ack_pending", have.MaxAckPending, want.MaxAckPending)
	d.add("max_waiting", have.MaxWaiting, want.MaxWaiting)
	d.add("max_request_batch", have.MaxRequestBatch, want.MaxRequestBatch)
	d.add("max_request_expires", have.MaxRequestExpires, want.MaxRequestExpires)
	d.add("max_request_max_bytes", have.MaxRequestMaxBytes, want.MaxRequestMaxBytes)
	d.add("backoff", have.BackOff, want.BackOff)
	d.add("inactive_threshold", have.InactiveThreshold, want.InactiveThreshold)
	d.add("headers_only", have.HeadersOnly, want.HeadersOnly)
	d.add("mem_storage", have.MemoryStorage, want.MemoryStorage)
	d.add("priority_policy", have.PriorityPolicy, want.PriorityPolicy)
	return d.list
}

func repeats(r *jetstream.RePublish) string {
	if r == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s on %s, headers only %t", r.Source, r.Destination, r.HeadersOnly)
}

// unlimited writes a bound: the server has -1 where a configuration has none.
func unlimited(n int64) string {
	if n <= 0 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}

func filters(c jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return append(slices.Clone(c.FilterSubjects), c.FilterSubject)
	}
	return c.FilterSubjects
}

func sorted(s []string) string { return strings.Join(slices.Sorted(slices.Values(s)), " ") }
