package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/worker"
)

// TestMetrics: what an attempt used is sampled every ten seconds, whole again
// after a time without answers; a short one is never asked about.
func TestMetrics(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.start(nil)
		short := w.run(newAction("short"))
		pass(9 * time.Second)
		short.end(worker.Exit{})
		synctest.Wait()
		if m := w.files().Metrics; m != nil {
			t.Errorf("metrics of nine seconds = %+v, want none", m)
		}

		long := w.run(newAction("long"))
		pass(25 * time.Second)
		long.with(func(b *box) { b.unseen = true })
		pass(10 * time.Second)
		long.with(func(b *box) { b.unseen = false })
		pass(10 * time.Second)
		long.end(worker.Exit{})
		synctest.Wait()
		sent := sentOf[*messages.Files](w.out)
		diff(t, "metrics", &messages.Metrics{
			CPUSample: 50, CPUSum: 50 * 40, CPUMean: 50, CPUPeak: 50,
			MemSample: 40, MemSum: 10*10 + 20*10 + 40*20, MemMean: (10*10 + 20*10 + 40*20) / 40., MemPeak: 40, Container: "box",
		}, sent[len(sent)-1].Metrics)
	})
}
