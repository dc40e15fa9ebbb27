package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/worker"
	"sluice/worker/staging"
)

// A world is all that is around a worker, and outlives it.
type world struct {
	keepFailed time.Duration // staging of failed attempts
	t          *testing.T
	dir        string
	leases     *memLeases
	out        *memOutbox
	engine     *engine
	inbox      chan *messages.Delivery
	verdicts   chan *messages.PersisterEvent
	controls   chan *messages.Control
	lost       chan struct{} // verdicts may have been missed
	code       func(ctx context.Context, dir string) error

	mu       sync.Mutex
	presence []messages.Presence
	settled  []error
	waiting  int // calls of Next that wait
	log      io.Writer
}

func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		test(t, &world{
			t: t, dir: dir, leases: &memLeases{entries: map[string]*memLease{}}, out: &memOutbox{ids: map[string]bool{}},
			engine: &engine{boxes: map[worker.Attempt]*box{}, started: make(chan *box, 100)},
			inbox:  make(chan *messages.Delivery, 100), verdicts: make(chan *messages.PersisterEvent), controls: make(chan *messages.Control), lost: make(chan struct{}),
		})
	})
}

func (w *world) Next(ctx context.Context) (*messages.Delivery, error) {
	w.mu.Lock()
	w.waiting++
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.waiting--
		w.mu.Unlock()
	}()
	select {
	case d := <-w.inbox:
		d.Behind = len(w.inbox)
		return d, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *world) Some(_ context.Context, n int) (list []*messages.Delivery) {
	for len(list) < n {
		select {
		case d := <-w.inbox:
			d.Behind = len(w.inbox)
			list = append(list, d)
		default:
			return list
		}
	}
	return list
}

func (w *world) Announce(_ context.Context, p *messages.Presence, _ time.Duration) error {
	if err := p.Validate(); err != nil {
		w.t.Errorf("presence is not valid: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.presence = append(w.presence, *p)
	return nil
}

func (w *world) seen() messages.Presence {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.presence) == 0 {
		return messages.Presence{}
	}
	return w.presence[len(w.presence)-1]
}

func (w *world) announcements() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.presence)
}

// deliveries returns how each action was settled since it was asked last.
func (w *world) deliveries() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.settled
	w.settled = nil
	return list
}

func (w *world) extracting(code func(ctx context.Context, dir string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.code = code
}

func (w *world) Follow(ctx context.Context, handle func(context.Context, *messages.PersisterEvent), missed func()) error {
	for {
		select {
		case e := <-w.verdicts:
			if e == nil {
				return errDown
			}
			handle(ctx, e)
		case <-w.lost:
			missed()
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *world) Listen(ctx context.Context, handle func(*messages.Control)) error {
	for {
		select {
		case c := <-w.controls:
			handle(c)
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *world) Extract(ctx context.Context, _ messages.Source, dir string) error {
	w.mu.Lock()
	code := w.code
	w.mu.Unlock()
	if code != nil {
		return code(ctx, dir)
	}
	return os.WriteFile(filepath.Join(dir, "code"), []byte("code"), 0o600)
}

// A running worker.
type running struct {
	stop  context.CancelFunc
	leave chan struct{}
	once  sync.Once
	done  chan error
}

func (r *running) abort() { r.once.Do(func() { close(r.leave) }) }

const (
	backend = "test"
	name    = "w1"
	ttl     = time.Minute
)

func (w *world) config() worker.Config {
	cfg := worker.DefaultConfig()
	cfg.Name, cfg.Backend, cfg.State, cfg.MinFree, cfg.LogBytes, cfg.StageWait = name, backend, filepath.Join(w.dir, "state"), 0, 1<<20, 0
	if uid := os.Geteuid(); uid != 0 {
		cfg.UID, cfg.GID = uid, os.Getegid()
	}
	return cfg
}

// start runs a worker until it takes actions.
func (w *world) start(change func(*worker.Config)) *running {
	w.t.Helper()
	cfg := w.config()
	if change != nil {
		change(&cfg)
	}
	area, err := staging.Open(staging.Config{
		Worker: cfg.Name, Root: filepath.Join(w.dir, "staging"), Cache: cfg.State, Records: filepath.Join(w.dir, "logs"),
		High: func(string) string { return w.dir }, UID: cfg.UID, GID: cfg.GID, Copy: true, Failed: w.keepFailed, Log: zerolog.Nop(),
	}, w)
	if err != nil {
		w.t.Fatalf("Open: %v", err)
	}
	inboxes := map[string]worker.Inbox{}
	for pool := range cfg.Pools {
		inboxes[pool] = w
	}
	log := zerolog.Nop()
	if w.log != nil {
		log = zerolog.New(zerolog.SyncWriter(w.log))
	}
	wk, err := worker.New(cfg, worker.Ports{
		Inboxes: inboxes, Outbox: w.out, Leases: w.leases, Fleet: w, Verdicts: w, Controls: w, Runtime: w.engine, Staging: area, Log: log,
	})
	if err != nil {
		w.t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	r := &running{stop: cancel, leave: make(chan struct{}), done: make(chan error, 1)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.done <- wk.Run(ctx, r.leave)
	}()
	w.t.Cleanup(func() { // of a test that failed half way
		cancel()
		r.abort()
		<-over
	})
	synctest.Wait()
	return r
}

// end stops a worker and waits for that.
func (w *world) end(r *running) {
	w.t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		w.t.Errorf("Run: %v", err)
	}
}

// abandon makes a worker leave at once.
func (w *world) abandon(r *running) {
	w.t.Helper()
	r.stop()
	r.abort()
	if err := <-r.done; err != nil {
		w.t.Errorf("Run: %v", err)
	}
}

func newAction(name string) *messages.Action {
	return &messages.Action{
		Job: messages.NewJobID("request", name), Attempt: 1, Request: "request", Backend: backend, Pool: "default", Workspace: "ws", Name: name,
		Source: messages.Source{Repo: "https://github.com/opensafely/x", Commit: "0123456789012345678901234567890123456789"},
		Image:  "sh:v1", Args: []string{"run"}, Weight: 1,
	}
}

func key(a *messages.Action) string { return messages.LeaseKey(a.Backend, a.Job, a.Attempt) }

// deliver puts an action before the workers.
func (w *world) deliver(a *messages.Action) {
	w.t.Helper()
	data, err := messages.Encode(a)
	if err != nil {
		w.t.Fatal(err)
	}
	w.deliverRaw(a.Subject(), data)
}

func (w *world) deliverRaw(subject string, data []byte) {
	w.queue(subject, data)
	synctest.Wait()
}

// queue is deliver for a worker that is not there yet.
func (w *world) queue(subject string, data []byte) {
	d := &messages.Delivery{Subject: subject, Data: data}
	d.Settle = func(_ context.Context, err error) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.settled = append(w.settled, err)
		return nil
	}
	w.inbox <- d
}

// run delivers an action and returns its container.
func (w *world) run(a *messages.Action) *box {
	w.t.Helper()
	w.deliver(a)
	return w.box()
}

// box returns the container that was started last.
func (w *world) box() *box {
	w.t.Helper()
	synctest.Wait()
	select {
	case b := <-w.engine.started:
		return b
	default:
		w.t.Fatalf("no container was started; stages: %v; actions ended as %v; presence %+v", w.out.stages(), w.deliveries(), w.seen())
		return nil
	}
}

func (w *world) judge(a *messages.Action, verdict messages.Verdict) {
	w.verdicts <- &messages.PersisterEvent{Job: a.Job, Attempt: a.Attempt, Backend: a.Backend, Workspace: a.Workspace, Verdict: verdict}
	synctest.Wait()
}

// files returns the files message of the only attempt, which says the same each
// time.
func (w *world) files() *messages.Files {
	w.t.Helper()
	list := sentOf[*messages.Files](w.out)
	if len(list) == 0 {
		w.t.Fatalf("no files message; stages: %v", w.out.stages())
	}
	for _, again := range list[1:] {
		diff(w.t, "files message", list[0], again)
	}
	return list[0]
}

// logFile is an attempt's log as the persister would find it.
func (w *world) logFile(a *messages.Action) string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, "staging", string(a.Job), fmt.Sprint(a.Attempt), "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// left lists what is on the disk: journal entries and staged attempts.
func (w *world) left() []string {
	w.t.Helper()
	var list []string
	for _, pattern := range []string{"state/journal/*", "staging/*/*"} {
		found, err := filepath.Glob(filepath.Join(w.dir, pattern))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, path := range found {
			if st, err := os.Stat(path); err != nil || st.IsDir() || st.Size() > 0 { // else a free page of the journal
				list = append(list, path)
			}
		}
	}
	return list
}

// secrets fails if anything that was published, journaled or logged has one.
func (w *world) secrets(secret string) {
	w.t.Helper()
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	data, err := json.Marshal(w.out.sent)
	if err != nil {
		w.t.Fatal(err)
	}
	w.noSecret("a message", string(data), secret)
	err = filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		w.noSecret(path, string(data), secret)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// pass lets time go by, on the test's clock.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
