package worker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
)

// TestJournalFails: an attempt that was claimed and cannot be journaled is given
// back at once, so that it is run elsewhere; and the worker takes nothing more
// until the journal can be written.
func TestJournalFails(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		journal := filepath.Join(w.dir, "state", "journal")
		move := func(from, to string) {
			t.Helper()
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		move(journal, journal+".away")
		a := newAction("a")
		w.deliver(a)
		diff(t, "deliveries", []error{nil}, w.deliveries())
		diff(t, "stages", []messages.Stage{messages.StageErrored}, w.out.stages())
		if got := w.leases.state(key(a)); got != messages.LeaseReleased {
			t.Errorf("lease = %s, want it released", got)
		}
		if e := sentOf[*messages.WorkerEvent](w.out); len(e) != 1 || !strings.Contains(e[0].Reason, "write journal") {
			t.Errorf("events: %+v", e)
		}

		b := newAction("b")
		w.deliver(b) // the worker had asked for it already
		if list := w.deliveries(); len(list) != 1 || list[0] == nil {
			t.Errorf("the next action was settled with %v, want it given back", list)
		}
		if got := w.leases.state(key(b)); got != "none" {
			t.Errorf("the next action's lease = %s, want none", got)
		}
		if p := w.seen(); !p.Draining || !strings.Contains(p.Reason, "journal cannot be written") {
			t.Errorf("presence = %+v, want it to say why nothing is taken", p)
		}

		move(journal+".away", journal)
		pass(time.Minute)
		if p := w.seen(); p.Draining {
			t.Errorf("presence = %+v, want actions to be taken again", p)
		}
		w.run(b)
		synctest.Wait()
		diff(t, "on the disk", 2, len(w.left()))
		w.abandon(r)
	})
}
