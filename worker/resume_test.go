package worker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/worker"
)

// TestDrain: to stop is not to cancel.
func TestDrain(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a, late := newAction("a"), newAction("late")
		b := w.run(a)
		r.stop()
		synctest.Wait()
		w.deliver(late)
		pass(24 * time.Hour)
		if n := w.engine.starts(); n != 1 || len(w.inbox) != 1 {
			t.Errorf("%d containers were started, %d actions wait, want one each: a worker that stops takes nothing", n, len(w.inbox))
		}
		if p := w.seen(); !p.Draining || p.Reason != "draining" || b.stopped() != 0 {
			t.Errorf("presence = %+v, stops %d, want draining and a container that goes on", p, b.stopped())
		}
		if got := w.leases.state(key(a)); got != messages.LeaseHeld {
			t.Errorf("lease = %s, want it renewed to the end", got)
		}
		b.end(worker.Exit{})
		if err := <-r.done; err != nil {
			t.Errorf("Run: %v", err)
		}
		diff(t, "stages", whole, w.out.stages())
	})
}

// TestLeave: when the grace is over, or at the second signal, containers stay
// for the next worker of this name, which misses nothing.
func TestLeave(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		leave func(w *world, r *running)
	}{
		{"second signal", func(w *world, r *running) { w.abandon(r) }},
		{"grace", func(w *world, r *running) {
			began := time.Now()
			w.end(r)
			if took := time.Since(began); took != time.Hour {
				w.t.Errorf("Run returned after %s, want an hour", took)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(t *testing.T, w *world) {
				r := w.start(func(c *worker.Config) { c.Drain = time.Hour })
				a := newAction("a")
				b := w.run(a)
				b.say("before ")
				pass(time.Second)
				tc.leave(w, r)
				if b.stopped() != 0 || w.engine.count() != 1 || w.leases.state(key(a)) != messages.LeaseHeld {
					t.Errorf("stops %d, containers %d, lease %s: want all left as it was", b.stopped(), w.engine.count(), w.leases.state(key(a)))
				}
				b.say("between ")
				pass(5 * ttl)

				r = w.start(nil)
				if got := w.leases.state(key(a)); got != messages.LeaseHeld {
					t.Errorf("lease = %s, want it revived", got)
				}
				diff(t, "slots", map[string]messages.Slots{"default": {Total: 2, Used: 1}}, w.seen().Pools)
				b.say("after\n")
				if err := os.WriteFile(filepath.Join(b.spec.Dir, "out"), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
				pass(time.Second)
				b.end(worker.Exit{Code: 4})
				synctest.Wait()
				files := w.files()
				if files.ExitCode != 4 || files.Cancelled || files.Listing.Count != 1 || files.Given[0] != "code" {
					t.Errorf("files = %+v, want exit 4 and the new file", files)
				}
				diff(t, "log file", "before between after\n", w.logFile(a))
				var live strings.Builder
				for _, c := range sentOf[*messages.LogChunk](w.out) {
					if c.Offset != int64(live.Len()) {
						t.Errorf("a chunk begins at %d, want %d: no piece twice", c.Offset, live.Len())
					}
					live.WriteString(c.Text)
				}
				diff(t, "live log", "before between after\n", live.String())
				w.judge(a, messages.Persisted)
				diff(t, "left on the disk", []string(nil), w.left())
				w.end(r)
			})
		})
	}
}

// TestRestart at each phase that the journal knows.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		// until brings an attempt to where the worker is killed.
		until func(w *world, a *messages.Action)
		// gone is done while no worker runs.
		gone func(w *world, a *messages.Action)
		want messages.Stage // the last one; "" if the attempt goes on
		why  string
	}{
		{name: "claimed", want: messages.StageErrored, why: "no container",
			until: func(w *world, a *messages.Action) {
				w.extracting(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
				w.deliver(a)
			}},
		{name: "started, without a container", want: messages.StageErrored, why: "no container",
			until: func(w *world, a *messages.Action) { w.run(a) },
			gone:  func(w *world, _ *messages.Action) { w.engine.forget() }},
		{name: "started, staging gone", want: messages.StageErrored, why: "resume",
			until: func(w *world, a *messages.Action) { w.run(a) },
			gone:  func(w *world, a *messages.Action) { _ = os.RemoveAll(filepath.Join(w.dir, "staging", string(a.Job))) }},
		{name: "started, machine restarted", want: messages.StageErrored, why: "machine",
			until: func(w *world, a *messages.Action) { w.run(a) },
			gone: func(w *world, a *messages.Action) {
				w.editJournal(a, func(s string) string { return strings.Replace(s, `"boot":"`, `"boot":"another`, -1) })
			}},
		{name: "started, cancelled meanwhile", want: messages.StageStopped,
			until: func(w *world, a *messages.Action) { w.run(a) },
			gone: func(w *world, a *messages.Action) {
				w.leases.set(w.t, key(a), func(l *messages.Lease) { l.State = messages.LeaseStopping })
			}},
		{name: "ended, not handed over", want: messages.StageFinalizing,
			until: func(w *world, a *messages.Action) { w.run(a) },
			gone:  func(w *world, a *messages.Action) { w.engine.of(attemptOf(a)).end(worker.Exit{}) }},
		{name: "listed, not published", want: messages.StageFinalizing,
			until: func(w *world, a *messages.Action) {
				w.out.refusing(func(m messages.Message) error {
					if _, ok := m.(*messages.Files); ok {
						return errBlocks
					}
					return nil
				})
				w.run(a).end(worker.Exit{})
				synctest.Wait()
			},
			gone: func(w *world, _ *messages.Action) { w.out.refusing(nil) }},
		{name: "published, not judged", want: messages.StageFinalizing,
			until: func(w *world, a *messages.Action) {
				w.run(a).end(worker.Exit{})
				synctest.Wait()
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(t *testing.T, w *world) {
				r := w.start(nil)
				a := newAction("a")
				tc.until(w, a)
				w.abandon(r)
				if tc.gone != nil {
					tc.gone(w, a)
				}
				w.extracting(nil)
				r = w.start(nil)
				pass(time.Minute)
				events := sentOf[*messages.WorkerEvent](w.out)
				last := events[len(events)-1]
				if last.Stage != tc.want || !strings.Contains(last.Reason, tc.why) {
					t.Errorf("last event = %+v, want %s with %q", last, tc.want, tc.why)
				}
				if got := w.leases.state(key(a)); got != messages.LeaseReleased {
					t.Errorf("lease = %s, want released", got)
				}
				if n := w.engine.count(); n != 0 {
					t.Errorf("%d containers are left", n)
				}
				if tc.want != messages.StageErrored {
					w.files()
					w.judge(a, messages.Persisted)
				}
				diff(t, "left on the disk", []string(nil), w.left())
				diff(t, "slots", map[string]messages.Slots{"default": {Total: 2}}, w.seen().Pools)
				b := w.run(newAction("next")) // all slots are free again
				b.end(worker.Exit{})
				w.end(r)
			})
		})
	}
}

func attemptOf(a *messages.Action) worker.Attempt {
	return worker.Attempt{Job: a.Job, Number: a.Attempt, Backend: a.Backend}
}

func (w *world) editJournal(a *messages.Action, edit func(string) string) {
	w.t.Helper()
	pages, err := filepath.Glob(filepath.Join(w.dir, "state", "journal", "*.page"))
	edited := 0
	for _, path := range pages {
		data, e := os.ReadFile(path)
		if e == nil && strings.Contains(string(data), string(a.Job)) {
			e = os.WriteFile(path, []byte(edit(string(data))), 0o600)
			edited++
		}
		err = errors.Join(err, e)
	}
	if err != nil || edited != 1 {
		w.t.Fatalf("%d of %d pages were edited: %v", edited, len(pages), err)
	}
}

// TestStrays: containers of this worker that no journal entry speaks of go, with
// what they left; another backend's stay.
func TestStrays(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		stray, other := newAction("stray"), newAction("other")
		for _, a := range []*messages.Action{stray, other} {
			id := attemptOf(a)
			if a == other {
				id.Backend = "elsewhere"
			}
			if _, err := w.engine.Start(ctx, worker.Spec{Attempt: id}); err != nil {
				t.Fatal(err)
			}
		}
		dir := filepath.Join(w.dir, "staging", string(stray.Job), "1")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "owner"), []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
		r := w.start(nil)
		if w.engine.of(attemptOf(stray)) != nil || w.engine.count() != 1 {
			t.Errorf("%d containers are left, want the other backend's alone", w.engine.count())
		}
		diff(t, "left on the disk", []string(nil), w.left())
		w.end(r)
	})
}

// TestContainerOfNoAttempt: a container whose making was not answered goes when
// the engine answers again; another backend's stays.
func TestContainerOfNoAttempt(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		other := attemptOf(newAction("other"))
		other.Backend = "elsewhere"
		if _, err := w.engine.Start(t.Context(), worker.Spec{Attempt: other}); err != nil {
			t.Fatal(err)
		}
		<-w.engine.started
		w.engine.mute = errors.New("no answer")
		a := newAction("a")
		w.deliver(a)
		w.engine.set(w.engine.mute)
		pass(time.Minute)
		if w.engine.count() != 2 {
			t.Errorf("%d containers while the engine is away, want both", w.engine.count())
		}
		w.engine.set(nil)
		w.engine.mute = nil
		pass(time.Minute)
		if w.engine.count() != 1 || w.engine.of(other) == nil {
			t.Errorf("%d containers are left, want the other backend's alone", w.engine.count())
		}
		diff(t, "left on the disk", []string(nil), w.left())
		b := w.run(newAction("b")) // one in hand is left alone
		<-w.engine.started
		pass(time.Minute)
		if w.engine.count() != 2 {
			t.Errorf("%d containers, want the one that runs and the other backend's", w.engine.count())
		}
		b.end(worker.Exit{})
		w.end(r)
	})
}

// TestContainerMadeLate: an engine makes what a process asked for that has died
// since. It goes, whenever it comes.
func TestContainerMadeLate(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		for _, after := range []time.Duration{time.Second, time.Hour} {
			pass(after)
			if _, err := w.engine.Start(t.Context(), worker.Spec{Attempt: attemptOf(newAction("late"))}); err != nil {
				t.Fatal(err)
			}
			<-w.engine.started
			within := 15 * time.Second
			if after == time.Hour {
				within = 15 * time.Minute
			}
			pass(within)
			if n := w.engine.count(); n != 0 {
				t.Errorf("%s after the start there are %d containers %s later, want none", after, n, within)
			}
		}
		w.end(r)
	})
}

// TestNoSweepBeforeResume: what an earlier process left is not swept by one that
// is stopped before it took that up.
func TestNoSweepBeforeResume(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		b := w.run(newAction("a"))
		w.abandon(r)
		w.engine.set(errors.New("no engine answers"))
		w.engine.drain = time.Hour
		r = w.start(nil)
		r.stop()
		pass(time.Second)
		w.engine.set(nil)
		w.end(r)
		if w.engine.count() != 1 || b.stopped() != 0 {
			t.Errorf("%d containers are left of one that runs", w.engine.count())
		}
		w.engine.drain = 0
		r = w.start(nil)
		b.end(worker.Exit{})
		w.end(r)
	})
}

// TestEngineComesLate: a machine that starts has its worker before its engine.
func TestEngineComesLate(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a := newAction("a")
		b := w.run(a)
		w.abandon(r)
		w.engine.set(errors.New("no engine answers"))
		r = w.start(nil)
		pass(5 * ttl)
		if got := w.leases.state(key(a)); got != messages.LeaseHeld {
			t.Errorf("lease = %s while the engine is away, want it renewed", got)
		}
		if p := w.seen(); p.Reason != "no engine answers" {
			t.Errorf("presence = %+v, want it to say why nothing is taken", p)
		}
		w.engine.set(nil)
		pass(ttl)
		b.end(worker.Exit{})
		synctest.Wait()
		w.files()
		w.end(r)

		// Stopped while it waits, it leaves all as it was.
		a = newAction("b")
		r = w.start(nil)
		w.run(a)
		w.abandon(r)
		w.engine.set(errors.New("no engine answers"))
		r = w.start(nil)
		w.end(r)
		if n := len(w.left()); n < 2 {
			t.Errorf("on the disk: %v, want the attempt as it was", w.left())
		}
	})
}

// TestTwoWorkers: the second of a name would remove the first one's containers.
func TestTwoWorkers(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		second := w.start(nil)
		if err := <-second.done; err == nil || !strings.Contains(err.Error(), "another worker uses this folder") {
			t.Errorf("Run of a second worker = %v, want an error that says so", err)
		}
		second.stop()
		w.end(r)
		w.end(w.start(nil)) // the folder is free again
	})
}

// TestBrokenJournal: what an entry spoke of must not be lost without a word.
func TestBrokenJournal(t *testing.T) {
	t.Parallel()
	const old, page = "x.1.json", "x.page" // an earlier version's, and ours
	for _, tc := range []struct{ name, content string }{
		{old, "{"},
		{old, "{}"},
		{old, `{"phase":"listed"}`},
		{old, `{"phase":"dancing"}`},
		{page, "{\n"},
		{page, "\n{\"phase\":\"listed\"}\n{"},
	} {
		inWorld(t, func(t *testing.T, w *world) {
			w.end(w.start(nil))
			path := filepath.Join(w.dir, "state", "journal", tc.name)
			if err := errors.Join(os.WriteFile(path, []byte(tc.content), 0o600), os.WriteFile(path+".new", nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			r := w.start(nil)
			if err := <-r.done; err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("Run with entry %q = %v, want an error that names the file", tc.content, err)
			}
			r.stop()
		})
	}
}
