package worker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
	"sluice/worker"
)

func (w *world) noSecret(where, text, secret string) {
	w.t.Helper()
	if strings.Contains(text, secret) {
		w.t.Errorf("%s has the secret", where)
	}
}

func diff(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s mismatch (-want +got):\n%s", what, d)
	}
}

// whole is what a worker reports of an attempt that goes well.
var whole = []messages.Stage{
	messages.StagePreparing, messages.StagePrepared, messages.StageExecuting, messages.StageExecuted, messages.StageFinalizing,
}

func TestAttempt(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a := newAction("a")
		b := w.run(a)
		if got := w.leases.state(key(a)); got != messages.LeaseHeld {
			t.Errorf("lease = %s, want held", got)
		}
		diff(t, "deliveries", []error{nil}, w.deliveries())
		pass(time.Second)
		diff(t, "slots", map[string]messages.Slots{"default": {Total: 2, Used: 1}}, w.seen().Pools)
		if err := os.WriteFile(filepath.Join(b.spec.Dir, "out.csv"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		b.say("hello\n")
		pass(time.Hour) // the lease is renewed all the time
		if got := w.leases.state(key(a)); got != messages.LeaseHeld {
			t.Errorf("lease after an hour = %s, want held", got)
		}
		b.end(worker.Exit{Code: 3, OOMKilled: true})
		synctest.Wait()

		files := w.files()
		if files.ExitCode != 3 || !files.OOMKilled || files.TimedOut || files.Cancelled || files.ImageDigest != "sha256:image" || files.Worker != name {
			t.Errorf("files = %+v, want exit 3, out of memory", files)
		}
		diff(t, "listing", messages.Path("out.csv"), files.Listing.Files[0].Path)
		diff(t, "given", []messages.Path{"code"}, files.Given)
		diff(t, "log file", "hello\n", w.logFile(a))
		diff(t, "log", messages.Log{Bytes: 6, Digest: messages.Digest([]byte("hello\n"))}, files.Log)
		diff(t, "stages", whole, w.out.stages())
		chunks := sentOf[*messages.LogChunk](w.out)
		if len(chunks) != 2 || chunks[0].Text != "hello\n" || !chunks[1].Last || chunks[1].Offset != 6 {
			t.Errorf("chunks = %+v, want the line and the end", chunks)
		}
		if got := w.leases.state(key(a)); got != messages.LeaseReleased {
			t.Errorf("lease = %s, want released", got)
		}
		if n := w.engine.count(); n != 0 {
			t.Errorf("%d containers are left", n)
		}
		diff(t, "slots", map[string]messages.Slots{"default": {Total: 2}}, w.seen().Pools)
		if len(w.left()) != 2 {
			t.Errorf("on the disk: %v, want journal entry and staging until the verdict", w.left())
		}
		w.judge(a, messages.Persisted)
		diff(t, "left on the disk", []string(nil), w.left())
		w.end(r)
		if p := w.seen(); !p.Draining {
			t.Errorf("last presence = %+v, want it to say that the worker stopped", p)
		}
	})
}

// TestNotOurs: what is claimed, or was meant for another, is not run.
func TestNotOurs(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		taken, fenced, expired := newAction("taken"), newAction("fenced"), newAction("expired")
		w.leases.set(t, key(taken), func(l *messages.Lease) { l.State, l.Owner = messages.LeaseHeld, "w2" })
		w.leases.set(t, key(fenced), func(l *messages.Lease) { l.State = messages.LeaseFenced })
		w.leases.set(t, key(expired), func(l *messages.Lease) { l.State, l.Owner = messages.LeaseHeld, "w2" })
		w.leases.entries[key(expired)].expires = time.Now()
		for _, a := range []*messages.Action{taken, fenced, expired} {
			w.deliver(a)
		}
		diff(t, "deliveries", []error{nil, nil, nil}, w.deliveries())

		elsewhere, otherPool := newAction("x"), newAction("y")
		elsewhere.Backend, otherPool.Pool = "other", "db"
		w.deliver(elsewhere)
		w.deliver(otherPool)
		w.deliverRaw(newAction("z").Subject(), []byte("{"))
		w.deliverRaw(newAction("z").Subject(), []byte(`{"schema":2}`))
		data, _ := messages.Encode(newAction("a"))
		w.deliverRaw(newAction("b").Subject(), data)
		settled := w.deliveries()
		for i, err := range settled {
			var parked *messages.Parked
			if !errors.As(err, &parked) {
				t.Errorf("delivery %d was settled with %v, want it parked", i, err)
			}
		}
		if n := w.engine.starts(); n != 0 || len(settled) != 5 {
			t.Errorf("%d containers were started, %d deliveries parked, want none and 5", n, len(settled))
		}
		w.end(r)
	})
}

// TestRedelivery: an action that comes again while it is in hand, or whose claim
// was not answered, runs once.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a := newAction("a")
		w.leases.break_(false, true)
		w.deliver(a)
		if settled := w.deliveries(); len(settled) != 1 || settled[0] == nil {
			t.Fatalf("an unanswered claim was settled with %v, want an error: the action must come again", settled)
		}
		w.leases.break_(false, false)
		b := w.run(a)
		w.deliver(a)
		w.deliver(a)
		if w.engine.starts() != 1 {
			t.Errorf("%d containers, want one", w.engine.starts())
		}
		diff(t, "deliveries", []error{nil, nil, nil}, w.deliveries())
		b.end(worker.Exit{})
		synctest.Wait()
		w.deliver(a)
		w.judge(a, messages.Persisted)
		w.deliver(a)
		if w.engine.starts() != 1 {
			t.Errorf("%d containers were started, want one", w.engine.starts())
		}
		w.end(r)
	})
}

// TestFaults: whose fault it is that an attempt does not start.
func TestFaults(t *testing.T) {
	t.Parallel()
	failure := messages.Failf(messages.JobError, "there is no such thing; choose another")
	for _, tc := range []struct {
		name  string
		image error
		code  error
		down  bool
		want  messages.Stage
		event string
	}{
		{name: "no such image", image: failure, want: messages.StageRefused, event: "choose another"},
		{name: "registry away", image: errors.New("timeout"), want: messages.StageErrored, event: "could not be staged: timeout"},
		{name: "bad source", code: failure, want: messages.StageRefused, event: "choose another"},
		{name: "git away", code: errors.New("no route"), want: messages.StageErrored, event: "no route"},
		{name: "engine away", down: true, want: messages.StageErrored, event: "could not start its container"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(t *testing.T, w *world) {
				w.engine.image = func(string) (string, error) { return "", tc.image }
				w.extracting(func(context.Context, string) error {
					if tc.down {
						w.engine.set(errors.New("no engine"))
					}
					return tc.code
				})
				r := w.start(nil)
				a := newAction("a")
				w.deliver(a)
				events := sentOf[*messages.WorkerEvent](w.out)
				last := events[len(events)-1]
				if last.Stage != tc.want || !strings.Contains(last.Reason, tc.event) || tc.want == messages.StageRefused && last.Code != messages.JobError {
					t.Errorf("last event = %+v, want %s with %q", last, tc.want, tc.event)
				}
				if got := w.leases.state(key(a)); got != messages.LeaseReleased {
					t.Errorf("lease = %s, want released", got)
				}
				diff(t, "left on the disk", []string(nil), w.left())
				w.end(r)
			})
		})
	}
}

// TestKeepFailed: what an attempt left that a fault of ours ended is kept where
// that is set, and not what was refused.
func TestKeepFailed(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.keepFailed = time.Hour
		w.extracting(func(context.Context, string) error {
			w.engine.set(errors.New("no engine"))
			return nil
		})
		r := w.start(nil)
		w.deliver(newAction("ours"))
		w.engine.set(nil)
		if left := w.left(); len(left) != 1 || !strings.HasPrefix(left[0], filepath.Join(w.dir, "staging")) {
			t.Errorf("left %q, want the attempt's staging and no journal entry", left)
		}
		w.engine.image = func(string) (string, error) { return "", messages.Failf(messages.JobError, "no such image") }
		w.deliver(newAction("theirs"))
		if left := w.left(); len(left) != 1 {
			t.Errorf("left %q, want no more", left)
		}
		pass(time.Hour + time.Second)
		diff(t, "left after an hour", []string(nil), w.left())
		w.end(r)
	})
}

// TestEnvironment: secrets and the network are for database actions alone, and
// leave the worker by no other way.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	var log strings.Builder
	inWorld(t, func(t *testing.T, w *world) {
		w.log = &log
		r := w.start(func(c *worker.Config) {
			c.Pools = map[string]float64{"default": 10}
			c.Databases = map[string]string{"default": "db://full:" + secret, "slice": "db://slice:" + secret}
			c.DBEnv = []messages.EnvVar{{Name: "TOKEN", Value: secret}}
			c.Env = []messages.EnvVar{{Name: "PLAIN", Value: "yes"}}
			c.ImageEnv = map[string][]messages.EnvVar{"stata-mp": {{Name: "STATA_LICENSE", Value: secret}}}
			c.Network = worker.Network{Name: "jobrunner-db", DNS: []string{"192.0.2.0"}}
			c.Hosts = func(context.Context) []string { return []string{"db:192.0.2.9"} }
		})
		for dataset, want := range map[string]string{"": "db://full:" + secret, "full": "db://full:" + secret, "default": "db://full:" + secret, "slice": "db://slice:" + secret} {
			a := newAction("db" + dataset)
			a.Database, a.Dataset = true, dataset
			a.Env = []messages.EnvVar{{Name: "DATABASE_URL", Value: "not this"}}
			b := w.run(a)
			env := environment(b)
			if env["DATABASE_URL"] != want || env["TOKEN"] != secret || env["OPENSAFELY_BACKEND"] != backend || env["HOME"] != "/tmp" || b.spec.Network.Name != "jobrunner-db" || !slices.Equal(b.spec.Network.Hosts, []string{"db:192.0.2.9"}) {
				t.Errorf("dataset %q: environment %v, network %v, want %s", dataset, env, b.spec.Network, want)
			}
			b.end(worker.Exit{})
		}
		stata := newAction("stata")
		stata.Image = "stata-mp:v1"
		b := w.run(stata)
		diff(t, "environment of Stata", map[string]string{"HOME": "/tmp", "OPENSAFELY_BACKEND": backend, "PLAIN": "yes", "STATA_LICENSE": secret}, environment(b))
		b.end(worker.Exit{})
		b = w.run(newAction("plain"))
		diff(t, "environment", map[string]string{"HOME": "/tmp", "OPENSAFELY_BACKEND": backend, "PLAIN": "yes"}, environment(b))
		diff(t, "network", worker.Network{}, b.spec.Network)
		b.end(worker.Exit{})
		pinned := newAction("pinned")
		pinned.Digest = "sha256:" + strings.Repeat("ab", 32)
		b = w.run(pinned)
		if want := pinned.Image + "@" + pinned.Digest; b.spec.Image != want {
			t.Errorf("a pinned image runs as %s, want %s", b.spec.Image, want)
		}
		b.end(worker.Exit{})
		unknown := newAction("unknown")
		unknown.Database, unknown.Dataset = true, "nowhere"
		w.deliver(unknown)
		refused := false
		for _, e := range sentOf[*messages.WorkerEvent](w.out) {
			refused = refused || e.Stage == messages.StageRefused && e.Job == unknown.Job && strings.Contains(e.Reason, "nowhere")
		}
		if !refused {
			t.Error("an action for a database that is not there was not refused")
		}
		w.secrets(secret)
		w.end(r)
	})
	if strings.Contains(log.String(), secret) {
		t.Error("the worker's log has the secret")
	}
}

func environment(b *box) map[string]string {
	env := map[string]string{}
	for _, v := range b.spec.Env {
		env[v.Name] = v.Value
	}
	return env
}

// TestSlowClaim: while one attempt is being claimed, others are taken. Its message
// that comes again meanwhile is given back: it must not be settled before the
// claim is known, nor claimed a second time.
func TestSlowClaim(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		a, b := newAction("a"), newAction("b")
		slow := make(chan struct{})
		w.leases.slow = map[string]chan struct{}{key(a): slow}
		r := w.start(func(c *worker.Config) { c.Pools["default"] = 4 })
		w.deliver(a)
		pass(time.Minute)
		if got := w.seen().Pools["default"].Used; got != 1 {
			t.Errorf("%v slots are said to be used while an attempt is claimed, want 1", got)
		}
		w.run(b)
		diff(t, "deliveries", []error{nil}, w.deliveries())
		w.deliver(a)
		if list := w.deliveries(); len(list) != 1 || list[0] == nil {
			t.Errorf("the second copy was settled with %v, want it given back", list)
		}
		close(slow)
		w.box()
		diff(t, "deliveries", []error{nil}, w.deliveries())
		w.deliver(a)
		diff(t, "a third copy", []error{nil}, w.deliveries())
		w.abandon(r)
	})
}

// TestSome: what waits is taken together, as far as there is room. Of two heavy
// actions among that one waits for its slots, and the other is given back: each
// would have what the other waits for.
func TestSome(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		names := []string{"one", "two", "heavy", "heavier", "five", "six"}
		for _, name := range names {
			a := newAction(name)
			if strings.HasPrefix(name, "heav") {
				a.Weight = 3
			}
			data, err := messages.Encode(a)
			if err != nil {
				t.Fatal(err)
			}
			w.queue(a.Subject(), data)
		}
		r := w.start(func(c *worker.Config) { c.Pools["default"] = 5 })
		// The first alone, then the four that there is room for; the sixth waits.
		boxes := map[string]*box{}
		for range 3 {
			b := w.box()
			boxes[b.spec.Action] = b
		}
		if len(boxes) != 3 || boxes["one"] == nil || boxes["two"] == nil || boxes["five"] == nil {
			t.Fatalf("started: %v, want one, two and five", boxes)
		}
		given := 0
		for _, err := range w.deliveries() {
			if errors.Is(err, context.Canceled) {
				given++
			} else if err != nil {
				t.Errorf("settled with %v", err)
			}
		}
		if given != 1 {
			t.Errorf("%d actions were given back at once, want the second heavy one", given)
		}
		if n := len(w.inbox); n != 1 {
			t.Errorf("%d actions wait, want the sixth: nothing is asked for while a heavy one waits", n)
		}
		boxes["one"].end(worker.Exit{})
		if b := w.box(); b.spec.Action != "heavy" {
			t.Errorf("then %s was started, want the heavy one", b.spec.Action)
		}
		boxes["two"].end(worker.Exit{})
		if b := w.box(); b.spec.Action != "six" {
			t.Errorf("then %s was started, want the sixth", b.spec.Action)
		}
		w.abandon(r)
	})
}
