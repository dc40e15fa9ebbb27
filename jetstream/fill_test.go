package jetstream_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
)

// TestFills: each stream and register says how full it is; one that is more than
// half full says what to do, and requests that were read do not count.
func TestFills(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	fills := func() map[string]jetstream.Fill {
		t.Helper()
		list, err := f.Fills(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		byName := map[string]jetstream.Fill{}
		for _, fill := range list {
			byName[fill.Name] = fill
		}
		return byName
	}
	crowded := func(want ...string) {
		t.Helper()
		got, err := f.Crowded(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range got {
			names = append(names, name)
		}
		if slices.Sort(names); !slices.Equal(names, want) {
			t.Errorf("crowded: %v, want %v", got, want)
		}
	}
	for _, row := range jetstreamtest.Topology().Rows() {
		if _, there := fills()[row.Name]; !there && row.Kind != "consumer" {
			t.Errorf("%s does not say how full it is", row.Name)
		}
	}
	for name, fill := range fills() {
		if fill.MaxBytes <= 0 || fill.Percent != 0 || fill.Warning != "" {
			t.Errorf("at the beginning %s: %+v", name, fill)
		}
	}
	crowded()

	fill := func(stream, subject string, percent uint64) (published int) {
		t.Helper()
		for have := f.stream(t, stream); have.State.Bytes*100/uint64(have.Config.MaxBytes) <= percent; have = f.stream(t, stream) {
			if _, err := f.js.Publish(t.Context(), subject, bytes.Repeat([]byte{'x'}, 800<<10)); err != nil {
				t.Fatal(err)
			}
			published++
		}
		return published
	}
	fill(jetstream.Dead, "sluice.dead.tpp.ws.x", 40)
	crowded()
	fill(jetstream.Dead, "sluice.dead.tpp.ws.x", 51)
	fill(jetstream.Logs, "sluice.log.tpp.job.1", 51)
	fill(jetstream.Events, "sluice.event.worker.tpp.x", 51)
	crowded(jetstream.Dead)
	if got := fills()[jetstream.Dead]; !strings.Contains(got.Warning, "SLUICE_DEAD is 5") || !strings.Contains(got.Warning, "sluice dead drop") || got.Messages < 2 || got.Bytes < 256<<10 {
		t.Errorf("dead letters: %+v", got)
	}

	// Unread requests count, read ones do not: they go when room is needed.
	n := fill(jetstream.Requests, request(1).Subject(), 51)
	crowded(jetstream.Dead, jetstream.Requests)
	q := f.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner")
	for range n / 2 {
		if err := next(t, q).Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	crowded(jetstream.Dead)
}
