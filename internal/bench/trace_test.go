package bench

import (
	"testing"
	"time"

	"sluice/jetstream"
)

// TestInstants: each hop is found behind the one before, and the last record
// and outcome are the last ones.
func TestInstants(t *testing.T) {
	t.Parallel()
	const job = "abcdefghijklmnop"
	subjects := []string{
		"sluice.request.bench.w", "$KV.SLUICE_JOBS.bench.w.request.R", "$KV.SLUICE_JOBS.bench.w." + job, "$KV.SLUICE_JOBS.bench.w.latest.noop0",
		"sluice.outcome.bench.R", "sluice.action.bench.default.w." + job, "$KV.SLUICE_LEASES.bench." + job + ".1",
		"sluice.event.worker.bench.w." + job + ".1.preparing", "sluice.event.worker.bench.w." + job + ".1.prepared", "$KV.SLUICE_JOBS.bench.w." + job,
		"sluice.event.worker.bench.w." + job + ".1.executing", "sluice.event.worker.bench.w." + job + ".1.executed", "sluice.files.bench.w." + job,
		"$KV.SLUICE_COMMITS.bench." + job, "sluice.event.persister.bench.w." + job + ".persisted", "$KV.SLUICE_JOBS.bench.w." + job,
		"$KV.SLUICE_LEASES.bench." + job + ".1", "$KV.SLUICE_JOBS.bench.w." + job, "sluice.outcome.bench.R", "sluice.outcome.bench.R",
	}
	want := []int{0, 1, 2, 5, 6, 7, 8, 10, 11, 12, 13, 14, 17, 19}
	var heard []jetstream.Tapped
	began := time.Unix(1000, 0)
	for i, s := range subjects {
		heard = append(heard, jetstream.Tapped{Subject: s, At: began.Add(time.Duration(i) * time.Second)})
	}
	found := instants(heard)
	if len(found) != len(want) {
		t.Fatalf("%d hops, want %d", len(found), len(want))
	}
	for k, at := range found {
		if got := int(at.Sub(began).Seconds()); got != want[k] {
			t.Errorf("%s: message %d, want %d", marks[k].until, got, want[k])
		}
	}
	if kept, err := persistTime(heard); err != nil || kept != 2*time.Second {
		t.Errorf("the persister took %v, %v; want 2s", kept, err)
	}
	if _, err := persistTime(nil); err == nil {
		t.Error("a persister that was not heard took a time")
	}
	for _, at := range instants(heard[:5]) {
		if at.After(began.Add(4 * time.Second)) {
			t.Errorf("a hop that was not heard is at %v", at)
		}
	}
}
