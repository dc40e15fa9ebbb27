package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/jetstream"
)

// A mark is an instant in a job's life: the first message whose subject has all
// of these parts. What a worker tells of a stage goes its own way, and may come
// behind what it did next: then the next hop took no time.
type mark struct {
	until string // what was done by then
	parts []string
	last  bool // the last such message, not the first
}

// marks are the hops of one job, in order. What runs beside them (the records
// and outcomes of what the worker reports) is not in the way.
var marks = []mark{
	{until: "request on its way to the server", parts: []string{"sluice.request."}},
	{until: "project read, plan decided and written", parts: []string{"KV.SLUICE_JOBS.", ".request."}},
	{until: "job's record created", parts: []string{"KV.SLUICE_JOBS.", "JOB"}},
	{until: "admitted and dispatched", parts: []string{"sluice.action.", "JOB"}},
	{until: "taken by a worker, lease claimed", parts: []string{"KV.SLUICE_LEASES.", "JOB"}},
	{until: "journal written, slot taken", parts: []string{"sluice.event.worker.", "JOB", ".preparing"}},
	{until: "image looked up, workspace laid out", parts: []string{"sluice.event.worker.", "JOB", ".prepared"}},
	{until: "journal written, container started", parts: []string{"sluice.event.worker.", "JOB", ".executing"}},
	{until: "container ran to its end, log complete", parts: []string{"sluice.event.worker.", "JOB", ".executed"}},
	{until: "inspected, journal written, files reported", parts: []string{"sluice.files.", "JOB"}},
	{until: "matched, copied, made durable, committed", parts: []string{"KV.SLUICE_COMMITS.", "JOB"}},
	{until: "made visible, verdict", parts: []string{"sluice.event.persister.", "JOB"}},
	{until: "final record", parts: []string{"KV.SLUICE_JOBS.", "JOB"}, last: true},
	{until: "outcome told", parts: []string{"sluice.outcome."}, last: true},
}

// trace: where the time of one no-op job goes, hop by hop.
func trace(ctx context.Context, b *Bench) error {
	f, err := b.startFleet(ctx, "traced", "--stage-wait=0") // each stage is a mark
	if err != nil {
		return err
	}
	n := b.rounds(20)
	gaps := make([][]time.Duration, len(marks)+1)
	for i := range n + 1 {
		b.say("round %d of %d", i, n)
		var began, ended time.Time
		heard, err := f.hear(ctx, func() error {
			began = time.Now()
			err := f.run(ctx, f.study.Source, fmt.Sprintf("trace-%d", i), "noop0")
			ended = time.Now()
			return err
		})
		if err != nil {
			return err
		}
		if i == 0 {
			continue // warm
		}
		at := began
		for k, instant := range instants(heard) {
			if instant.IsZero() {
				return fmt.Errorf("nothing was heard of: %s", marks[k].until)
			}
			gaps[k] = append(gaps[k], max(instant.Sub(at), 0))
			if instant.After(at) {
				at = instant
			}
		}
		gaps[len(marks)] = append(gaps[len(marks)], ended.Sub(began))
	}
	for k, m := range marks {
		b.add(m.until, "ms", times(gaps[k]), "", Sample{}, "")
	}
	b.add("the whole, submit to outcome", "ms", times(gaps[len(marks)]), "", Sample{}, "")
	return nil
}

// instants finds the marks in what was heard.
func instants(heard []jetstream.Tapped) []time.Time {
	id := jobOf(heard)
	found := make([]time.Time, len(marks))
	for k, m := range marks {
		for _, message := range heard {
			if !m.in(message.Subject, id) {
				continue
			}
			if found[k] = message.At; !m.last {
				break
			}
		}
	}
	return found
}

func (m mark) in(subject, job string) bool {
	for _, part := range m.parts {
		if part == "JOB" {
			part = job
		}
		if !strings.Contains(subject, part) {
			return false
		}
	}
	return true
}
