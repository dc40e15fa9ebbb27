package worker_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/worker"
)

func (w *world) pulls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting
}

// TestUnfit: a worker that cannot work takes nothing, says why, and goes on by
// itself.
func TestUnfit(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		if w.pulls() != 1 {
			t.Fatalf("%d requests for an action wait, want one", w.pulls())
		}
		w.engine.set(errors.New("the engine is away"))
		// The next action meets the fault before anybody has looked.
		w.deliver(newAction("a"))
		if settled := w.deliveries(); len(settled) != 1 || settled[0] == nil || w.leases.state(key(newAction("a"))) != "none" {
			t.Errorf("deliveries = %v, want the action given back, unclaimed", settled)
		}
		if p := w.seen(); !p.Draining || p.Reason != "the engine is away" || w.pulls() != 0 {
			t.Errorf("presence = %+v, %d requests wait, want no request and the reason", p, w.pulls())
		}
		w.engine.set(nil)
		pass(15 * time.Second)
		if p := w.seen(); p.Draining || p.Reason != "" || w.pulls() != 1 {
			t.Errorf("presence = %+v, %d requests wait, want one again", p, w.pulls())
		}
		// A fault while nothing comes is seen too.
		w.engine.set(errors.New("the engine is away"))
		pass(15 * time.Second)
		if w.pulls() != 0 {
			t.Errorf("%d requests wait, want none", w.pulls())
		}
		w.end(r)
	})
}

func TestDiskFloor(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(func(c *worker.Config) { c.MinFree = math.MaxInt64 })
		if p := w.seen(); !p.Draining || !strings.Contains(p.Reason, "staging has less than") || w.pulls() != 0 {
			t.Errorf("presence = %+v, %d requests wait, want no request and the reason", p, w.pulls())
		}
		w.end(r)
	})
}

// TestDrainByCommand: what is in hand goes on, nothing is taken, until the
// worker is opened again.
func TestDrainByCommand(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		b := w.run(newAction("a"))
		w.controls <- &messages.Control{Kind: messages.ControlDrain}
		synctest.Wait()
		w.deliver(newAction("b"))
		pass(time.Hour)
		if p := w.seen(); p.Reason != "draining" || len(w.inbox) != 1 || b.stopped() != 0 {
			t.Errorf("presence = %+v, %d actions wait, want draining and one", p, len(w.inbox))
		}
		w.controls <- &messages.Control{Kind: messages.ControlOpen}
		w.box().end(worker.Exit{})
		b.end(worker.Exit{})
		w.end(r)
	})
}

// TestPresence is announced while nothing happens, too.
func TestPresence(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(func(c *worker.Config) { c.Version, c.Host = "1.2.3", "machine" })
		before := w.announcements()
		pass(time.Minute)
		if n := w.announcements() - before; n < 3 {
			t.Errorf("%d announcements in a minute, want three at least", n)
		}
		if p := w.seen(); p.Version != "1.2.3" || p.Host != "machine" || p.Worker != name || p.Backend != backend {
			t.Errorf("presence = %+v", p)
		}
		w.end(r)
	})
}

// TestSlotsSeen: slots that are taken and freed many times a second are announced
// once.
func TestSlotsSeen(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		before := w.announcements()
		for _, job := range []string{"a", "b", "c", "d"} {
			w.run(newAction(job)).end(worker.Exit{})
			synctest.Wait()
		}
		if n := w.announcements() - before; n > 1 {
			t.Errorf("%d announcements of four short actions, want one at most", n)
		}
		b := w.run(newAction("e"))
		pass(time.Second)
		if got := w.seen().Pools["default"].Used; got != 1 {
			t.Errorf("%v slots are used, want one", got)
		}
		b.end(worker.Exit{})
		w.end(r)
	})
}

// TestStageWait: of an attempt's stages those are told that last, and its end.
func TestStageWait(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(func(c *worker.Config) { c.StageWait = 100 * time.Millisecond })
		b := w.run(newAction("a"))
		pass(time.Minute)
		b.end(worker.Exit{})
		pass(time.Second) // the persister has not answered
		diff(t, "stages", []messages.Stage{messages.StageExecuting, messages.StageFinalizing}, w.out.stages())
		w.end(r)
	})
}

// TestSoonPersisted: where the persister is done at once, that the files wait for
// it is not told: the attempt's lease has freed its slot.
func TestSoonPersisted(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(func(c *worker.Config) { c.StageWait = 100 * time.Millisecond })
		a := newAction("a")
		b := w.run(a)
		pass(time.Minute)
		b.end(worker.Exit{})
		synctest.Wait()
		if got := w.leases.state(key(a)); got != messages.LeaseReleased {
			t.Errorf("lease = %s, want it released as soon as the files are handed over", got)
		}
		w.judge(a, messages.Persisted)
		pass(time.Minute)
		diff(t, "stages", []messages.Stage{messages.StageExecuting}, w.out.stages())
		diff(t, "left", []string(nil), w.left())
		w.end(r)
	})
}

// TestLeftUntold: a worker that stops does not wait for a persister that is away.
func TestLeftUntold(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(func(c *worker.Config) { c.StageWait = time.Hour })
		a := newAction("a")
		w.run(a).end(worker.Exit{})
		synctest.Wait()
		began := time.Now()
		w.end(r)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %v to stop", took)
		}
	})
}

// TestFullStream: what an attempt left waits until the stream takes it.
func TestFullStream(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		w.out.refusing(func(m messages.Message) error {
			if _, ok := m.(*messages.Files); ok {
				return messages.ErrFull
			}
			return nil
		})
		a := newAction("a")
		w.run(a).end(worker.Exit{})
		pass(time.Hour)
		if len(sentOf[*messages.Files](w.out)) != 0 || w.leases.state(key(a)) != messages.LeaseHeld {
			t.Errorf("lease = %s, want it held while the files wait", w.leases.state(key(a)))
		}
		w.out.refusing(nil)
		pass(time.Minute)
		diff(t, "stages", whole, w.out.stages())
		w.end(r)
	})
}

// TestNoServer: without a server containers run on and end, their slots are
// held, and all is told when it is back.
func TestNoServer(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a := newAction("a")
		b := w.run(a)
		w.out.refusing(func(messages.Message) error { return errBlocks })
		w.leases.break_(true, false)
		for range 100 {
			b.say(strings.Repeat("x", 60<<10) + "\n")
			pass(10 * time.Second)
		}
		b.end(worker.Exit{})
		pass(time.Minute)
		if got := len(w.logFile(a)); got < 1<<20 || got > 1<<20+100 {
			t.Errorf("the log's file has %d bytes, want the head and the tail, 1 MiB", got)
		}
		w.out.refusing(nil)
		w.leases.break_(false, false)
		pass(time.Minute)
		diff(t, "stages", whole, w.out.stages())
		if files := w.files(); files.Log.Cut == 0 || files.Log.Bytes < 1<<20 {
			t.Errorf("log = %+v, want it cut in the middle", files.Log)
		}
		if got := w.leases.state(key(a)); got != messages.LeaseReleased {
			t.Errorf("lease = %s, want released", got)
		}
		w.end(r)
	})
}

// TestFailingService: a worker that is deaf to verdicts takes nothing more, and
// says so; what it has in hand ends.
func TestFailingService(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		b := w.run(newAction("a"))
		w.verdicts <- nil
		synctest.Wait()
		if w.pulls() != 0 {
			t.Errorf("%d requests for an action wait, want none", w.pulls())
		}
		b.end(worker.Exit{})
		if err := <-r.done; !errors.Is(err, errDown) {
			t.Errorf("Run = %v, want the service's error", err)
		}
		diff(t, "stages", whole, w.out.stages())
	})
}
