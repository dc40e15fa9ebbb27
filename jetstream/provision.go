package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Provision makes the server's streams, registers and consumers what the
// topology says. It may be repeated; it never deletes.
func (c *Conn) Provision(ctx context.Context, t Topology) error {
	if err := t.Validate(); err != nil {
		return err
	}
	for _, config := range t.streams() {
		if err := c.ensureStream(ctx, config); err != nil {
			return fmt.Errorf("provision stream %s: %w", config.Name, err)
		}
	}
	for _, want := range t.consumers() {
		if _, err := c.js.CreateOrUpdateConsumer(ctx, want.stream, want.config); err != nil {
			return fmt.Errorf("provision consumer %s of %s: %w", want.config.Durable, want.stream, err)
		}
	}
	return nil
}

func (c *Conn) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	have, err := c.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = c.js.CreateStream(ctx, want)
		return err
	}
	if err != nil {
		return err
	}
	if len(streamDiffs(want, have.CachedInfo().Config)) == 0 {
		return nil
	}
	_, err = c.js.UpdateStream(ctx, want)
	return err
}

// A Difference is one thing on the server that is not as the topology says.
type Difference struct {
	What string `json:"what"` // "stream SLUICE_ACTIONS: max_bytes"
	Have string `json:"have"`
	Want string `json:"want"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s is %s, should be %s", d.What, d.Have, d.Want)
}

// Check compares the server with the topology and changes nothing.
func (c *Conn) Check(ctx context.Context, t Topology) ([]Difference, error) {
	var diffs []Difference
	for _, want := range t.streams() {
		have, err := c.js.Stream(ctx, want.Name)
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
		have, err := c.js.Consumer(ctx, want.stream, want.config.Durable)
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

func streamDiffs(want, have jetstream.StreamConfig) []Difference {
	var diffs []Difference
	add := func(field string, h, w any) {
		if hs, ws := fmt.Sprint(h), fmt.Sprint(w); hs != ws {
			diffs = append(diffs, Difference{"stream " + want.Name + ": " + field, hs, ws})
		}
	}
	limit := func(n int64) int64 { // the server writes "no limit" as -1
		if n == 0 {
			return -1
		}
		return n
	}
	subjects := func(s []string) string {
		s = slices.Clone(s)
		slices.Sort(s)
		return strings.Join(s, " ")
	}
	add("subjects", subjects(have.Subjects), subjects(want.Subjects))
	add("retention", have.Retention, want.Retention)
	add("discard", have.Discard, want.Discard)
	add("discard_new_per_subject", have.DiscardNewPerSubject, want.DiscardNewPerSubject)
	add("max_msgs", limit(have.MaxMsgs), limit(want.MaxMsgs))
	add("max_msgs_per_subject", limit(have.MaxMsgsPerSubject), limit(want.MaxMsgsPerSubject))
	add("max_bytes", limit(have.MaxBytes), limit(want.MaxBytes))
	add("max_msg_size", limit(int64(have.MaxMsgSize)), limit(int64(want.MaxMsgSize)))
	add("max_age", have.MaxAge, want.MaxAge)
	add("storage", have.Storage, want.Storage)
	add("replicas", have.Replicas, want.Replicas)
	add("duplicates", have.Duplicates, want.Duplicates)
	add("allow_direct", have.AllowDirect, want.AllowDirect)
	add("allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL)
	add("subject_delete_marker_ttl", have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL)
	add("allow_rollup", have.AllowRollup, want.AllowRollup)
	add("deny_delete", have.DenyDelete, want.DenyDelete)
	add("persist_mode", have.PersistMode, want.PersistMode)
	return diffs
}

func consumerDiffs(what string, want, have jetstream.ConsumerConfig) []Difference {
	var diffs []Difference
	add := func(field string, h, w any) {
		if hs, ws := fmt.Sprint(h), fmt.Sprint(w); hs != ws {
			diffs = append(diffs, Difference{what + ": " + field, hs, ws})
		}
	}
	add("filter", have.FilterSubject, want.FilterSubject)
	add("ack_policy", have.AckPolicy, want.AckPolicy)
	add("ack_wait", have.AckWait, want.AckWait)
	add("max_deliver", have.MaxDeliver, want.MaxDeliver)
	add("max_ack_pending", have.MaxAckPending, want.MaxAckPending)
	add("max_waiting", have.MaxWaiting, want.MaxWaiting)
	add("backoff", have.BackOff, want.BackOff)
	add("inactive_threshold", have.InactiveThreshold, want.InactiveThreshold)
	return diffs
}

// A Row describes a stream, register or consumer for people.
type Row struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // stream, register, consumer
	Subjects string `json:"subjects"`
	Keeps    string `json:"keeps"`
	Why      string `json:"why"`
}

// Rows lists the whole topology for people.
func (t Topology) Rows() []Row {
	var rows []Row
	for _, s := range t.streams() {
		r := Row{Name: s.Name, Kind: "stream", Subjects: strings.Join(s.Subjects, " "), Why: s.Description, Keeps: "limits"}
		if bucket, ok := strings.CutPrefix(s.Name, "KV_"); ok {
			r.Name, r.Kind, r.Subjects, r.Keeps = bucket, "register", bucket, fmt.Sprintf("history %d", s.MaxMsgsPerSubject)
		}
		if s.Retention == jetstream.WorkQueuePolicy {
			r.Keeps = "work queue"
		}
		r.Keeps += fmt.Sprintf(", %d MiB", s.MaxBytes>>20)
		rows = append(rows, r)
	}
	for _, c := range t.consumers() {
		rows = append(rows, Row{Name: c.config.Durable, Kind: "consumer", Subjects: c.config.FilterSubject, Keeps: c.stream, Why: "durable pull consumer"})
	}
	return rows
}
