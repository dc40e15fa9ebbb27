package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/worker"
)

// TestMissedVerdict: a verdict that does not come is asked for, more and more
// rarely, and again when the connection was lost or the worker is started.
func TestMissedVerdict(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a, judged := newAction("a"), newAction("judged")
		w.run(judged).end(worker.Exit{})
		synctest.Wait()
		w.judge(judged, messages.Persisted)
		w.run(a).end(worker.Exit{})
		synctest.Wait()
		asked := func(when string, want int) {
			t.Helper()
			n := 0
			for _, f := range sentOf[*messages.Files](w.out) {
				if f.Job == a.Job {
					n++
				}
			}
			if n != want {
				t.Errorf("%s: %d files messages, want %d", when, n, want)
			}
		}
		pass(50 * time.Second)
		asked("before a minute", 1)
		pass(30 * time.Second)
		asked("after a minute", 2)
		pass(5 * time.Minute)
		asked("after six", 3)
		pass(240 * time.Hour)
		asked("after ten days", 5)
		w.lost <- struct{}{}
		synctest.Wait()
		asked("after the connection was lost", 6)
		w.end(r)
		r = w.start(nil)
		asked("after a restart", 7)
		w.judge(a, messages.Persisted)
		diff(t, "left on the disk", []string(nil), w.left())
		pass(time.Hour)
		asked("after the verdict", 7)
		if n := len(sentOf[*messages.Files](w.out)); n != 8 {
			t.Errorf("%d files messages in all, want 8: what was judged is not asked for", n)
		}
		w.end(r)
	})
}
