package worker_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/worker"
)

// cancel does what a planner does for a cancellation.
func (w *world) cancel(a *messages.Action) {
	w.t.Helper()
	w.leases.set(w.t, key(a), func(l *messages.Lease) { l.State, l.Reason = messages.LeaseStopping, "cancelled_by_user" })
	w.controls <- &messages.Control{Kind: messages.ControlStop, Job: a.Job, Attempt: a.Attempt}
	synctest.Wait()
}

func (w *world) lastStage() messages.Stage {
	stages := w.out.stages()
	return stages[len(stages)-1]
}

func TestCancelWhileWaitingForSlots(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		light, heavy, next := newAction("light"), newAction("heavy"), newAction("next")
		heavy.Weight = 2
		b := w.run(light)
		w.deliver(heavy)
		w.deliver(next)
		pass(10 * ttl)
		if n := w.engine.starts(); n != 1 {
			t.Fatalf("%d containers were started, want the light one alone: nothing overtakes a heavy action", n)
		}
		if got := w.leases.state(key(heavy)); got != messages.LeaseHeld {
			t.Errorf("lease of what waits for slots = %s, want it renewed", got)
		}
		w.cancel(heavy)
		if got := w.leases.state(key(heavy)); got != messages.LeaseReleased {
			t.Errorf("lease = %s, want released", got)
		}
		nb := w.box()
		if nb.spec.Attempt.Job != next.Job {
			t.Errorf("started %v, want what came after the cancelled one", nb.spec.Attempt)
		}
		b.end(worker.Exit{})
		nb.end(worker.Exit{})
		pass(time.Second)
		diff(t, "slots", map[string]messages.Slots{"default": {Total: 2}}, w.seen().Pools)
		w.end(r)
	})
}

func TestWeights(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		half := []*messages.Action{newAction("a"), newAction("b"), newAction("c"), newAction("d")}
		heavy := newAction("heavy")
		heavy.Weight = 5 // more than there is: all of it
		var boxes []*box
		for _, a := range half {
			a.Weight = 0.5
			boxes = append(boxes, w.runIfStarted(a)...)
		}
		w.deliver(heavy)
		if n := w.engine.starts(); n < 3 {
			t.Errorf("%d light containers run, want three at least", n)
		}
		for range 10 {
			for _, b := range boxes {
				b.end(worker.Exit{})
			}
			boxes = nil
			pass(time.Second)
			for len(w.engine.started) > 0 {
				boxes = append(boxes, <-w.engine.started)
			}
		}
		if n := w.engine.starts(); n != 5 {
			t.Errorf("%d containers were started, want all five", n)
		}
		diff(t, "slots", map[string]messages.Slots{"default": {Total: 2}}, w.seen().Pools)
		w.end(r)
	})
}

func (w *world) runIfStarted(a *messages.Action) []*box {
	w.deliver(a)
	select {
	case b := <-w.engine.started:
		return []*box{b}
	default:
		return nil
	}
}

func TestCancelWhileStaging(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.extracting(func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		r := w.start(nil)
		a := newAction("a")
		w.deliver(a)
		pass(5 * ttl)
		w.cancel(a)
		diff(t, "stages", []messages.Stage{messages.StagePreparing, messages.StageStopped}, w.out.stages())
		if got := w.leases.state(key(a)); got != messages.LeaseReleased || w.engine.starts() != 0 {
			t.Errorf("lease = %s, %d containers, want released and none", got, w.engine.starts())
		}
		diff(t, "left on the disk", []string(nil), w.left())
		w.end(r)
	})
}

func TestCancelWhileRunning(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a := newAction("a")
		b := w.run(a)
		b.with(func(b *box) { b.deaf = true })
		b.say("said\n")
		w.cancel(a)
		if len(sentOf[*messages.Files](w.out)) != 0 {
			t.Error("files were handed over before the container had ended")
		}
		pass(11 * time.Second) // the grace
		files := w.files()
		if !files.Cancelled || files.ExitCode != 137 || files.Log.Bytes != 5 {
			t.Errorf("files = %+v, want the log of a container that was killed", files)
		}
		b.with(func(b *box) { diff(t, "grace", 10*time.Second, b.stops[0]) })
		if got := w.lastStage(); got != messages.StageStopped {
			t.Errorf("last stage = %s, want stopped", got)
		}
		w.end(r)
	})
}

// TestCancelWhileInspecting: the container has ended, its files are not listed
// yet.
func TestCancelWhileInspecting(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a := newAction("a")
		b := w.run(a)
		b.with(func(b *box) { b.inspect = func() { w.cancelWithin(a) } })
		if err := os.WriteFile(filepath.Join(b.spec.Dir, "out"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		b.end(worker.Exit{})
		pass(2 * time.Second)
		files := w.files()
		if !files.Cancelled || files.Listing.Count != 0 || w.lastStage() != messages.StageStopped {
			t.Errorf("files = %+v, last stage %s, want the log alone", files, w.lastStage())
		}
		w.end(r)
	})
}

// cancelWithin is cancel, from a goroutine of the worker.
func (w *world) cancelWithin(a *messages.Action) {
	w.leases.set(w.t, key(a), func(l *messages.Lease) { l.State, l.Reason = messages.LeaseStopping, "cancelled_by_user" })
	w.controls <- &messages.Control{Kind: messages.ControlStop, Job: a.Job, Attempt: a.Attempt}
	<-time.After(time.Second)
}

// TestEndings: what ends a container besides itself and a cancellation.
func TestEndings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		limits messages.Limits
		do     func(t *testing.T, dir string)
		want   string
		timed  bool
	}{
		{name: "time", limits: messages.Limits{Time: time.Hour}, do: func(*testing.T, string) { pass(time.Hour + time.Second) }, want: "the time limit of 1h0m0s is over", timed: true},
		{name: "the worker's time", limits: messages.Limits{Time: 1000 * time.Hour}, do: func(*testing.T, string) { pass(24*7*time.Hour + time.Second) }, want: "time limit of 168h", timed: true},
		{name: "disk", limits: messages.Limits{Disk: 1 << 20}, do: func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 2<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			pass(10 * time.Second)
		}, want: "wrote more than 1 MiB"},
		{name: "folders without end", do: func(t *testing.T, dir string) {
			nest(t, dir)
			pass(10 * time.Second)
		}, want: "nested deeper"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(t *testing.T, w *world) {
				r := w.start(nil)
				a := newAction("a")
				a.Limits = tc.limits
				b := w.run(a)
				tc.do(t, b.spec.Dir)
				files := w.files()
				if files.TimedOut != tc.timed || !strings.Contains(files.Reason, tc.want) || b.stopped() == 0 {
					t.Errorf("files = %+v, want timed out: %t, reason %q", files, tc.timed, tc.want)
				}
				w.judge(a, messages.Discarded)
				diff(t, "left on the disk", []string(nil), w.left())
				w.end(r)
			})
		})
	}
}

// TestUnlistable: files that cannot be listed by the action's own fault end the
// job, and its log is kept.
func TestUnlistable(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a := newAction("a")
		b := w.run(a)
		nest(t, b.spec.Dir)
		b.end(worker.Exit{})
		synctest.Wait()
		files, events := w.files(), sentOf[*messages.WorkerEvent](w.out)
		last := events[len(events)-1]
		if !files.Cancelled || last.Stage != messages.StageRefused || last.Code != messages.JobError || !strings.Contains(last.Reason, "nested deeper") {
			t.Errorf("files = %+v, last event %+v, want a refusal that says why", files, last)
		}
		w.end(r)
	})
}

func nest(t *testing.T, dir string) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range 250 {
		if err == nil {
			err = unix.Mkdirat(at, "d", 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		next, openErr := unix.Openat(at, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		_ = unix.Close(at)
		at, err = next, openErr
	}
	_ = unix.Close(at)
}
