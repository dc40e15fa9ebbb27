package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/worker"
	"sluice/worker/staging"
)

var errDown = errors.New("no server answers")

// A memLeases is the register of leases, in memory, by the clock of the test.
type memLeases struct {
	mu      sync.Mutex
	entries map[string]*memLease
	last    messages.Revision
	down    bool // no call gets through
	deaf    bool // writes get through, their answers do not
}

type memLease struct {
	value    messages.Lease
	revision messages.Revision
	at       time.Time
	expires  time.Time
}

func (l *memLeases) get(key string) (messages.Entry[messages.Lease], bool) {
	e := l.entries[key]
	if e == nil {
		return messages.Entry[messages.Lease]{}, false
	}
	entry := messages.Entry[messages.Lease]{Key: key, Revision: e.revision, At: e.at}
	if time.Now().Before(e.expires) {
		value := e.value
		entry.Value = &value
		return entry, true
	}
	if e.value.State != "" { // the marker is a write of its own
		l.last++
		e.value, e.revision = messages.Lease{}, l.last
	}
	entry.Revision, entry.Expired = e.revision, true
	return entry, true
}

func (l *memLeases) Get(_ context.Context, key string) (messages.Entry[messages.Lease], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return messages.Entry[messages.Lease]{}, errDown
	}
	entry, ok := l.get(key)
	if !ok {
		return entry, messages.ErrNotFound
	}
	return entry, nil
}

func (l *memLeases) Create(ctx context.Context, key string, value *messages.Lease, ttl time.Duration) (messages.Revision, error) {
	return l.Update(ctx, key, value, 0, ttl)
}

func (l *memLeases) Update(_ context.Context, key string, value *messages.Lease, last messages.Revision, ttl time.Duration) (messages.Revision, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return 0, errDown
	}
	if now, _ := l.get(key); now.Revision != last {
		return 0, messages.ErrConflict
	}
	if err := value.Validate(); err != nil {
		return 0, err
	}
	l.last++
	l.entries[key] = &memLease{value: *value, revision: l.last, at: time.Now(), expires: time.Now().Add(ttl)}
	if l.deaf {
		return 0, errDown
	}
	return l.last, nil
}

// set writes what a planner would write.
func (l *memLeases) set(t *testing.T, key string, change func(*messages.Lease)) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	now, ok := l.get(key)
	value := messages.Lease{Owner: "planner", Nonce: "planner"}
	if ok && now.Value != nil {
		value = *now.Value
	}
	change(&value)
	l.last++
	l.entries[key] = &memLease{value: value, revision: l.last, at: time.Now(), expires: time.Now().Add(7 * 24 * time.Hour)}
}

func (l *memLeases) state(key string) messages.LeaseState {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, ok := l.get(key)
	switch {
	case !ok:
		return "none"
	case now.Value == nil:
		return "expired"
	}
	return now.Value.State
}

func (l *memLeases) break_(down, deaf bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.deaf = down, deaf
}

// A memOutbox keeps what is published.
type memOutbox struct {
	mu     sync.Mutex
	sent   []messages.Message
	ids    map[string]bool
	refuse func(messages.Message) error // nil lets all through; errBlocks waits for the context's end
}

var errBlocks = errors.New("no answer")

func (o *memOutbox) Publish(ctx context.Context, subject string, m messages.Message, id string) error {
	data, err := messages.Encode(m)
	if err != nil {
		return err
	}
	for {
		o.mu.Lock()
		refuse := o.refuse
		o.mu.Unlock()
		if refuse == nil {
			break
		}
		err := refuse(m)
		if err == nil {
			break
		}
		if !errors.Is(err, errBlocks) {
			return err
		}
		select { // as the real one does, until a server answers
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids[id] {
		return nil
	}
	o.ids[id] = true
	var again messages.Message
	switch m.(type) {
	case *messages.Files:
		again = &messages.Files{}
	case *messages.WorkerEvent:
		again = &messages.WorkerEvent{}
	case *messages.LogChunk:
		again = &messages.LogChunk{}
	}
	if err := messages.Decode(data, again); err != nil {
		return err
	}
	if s, ok := again.(interface{ Subject() string }); ok && s.Subject() != subject {
		return fmt.Errorf("published on %s, want %s", subject, s.Subject())
	}
	o.sent = append(o.sent, again)
	return nil
}

func (o *memOutbox) refusing(refuse func(messages.Message) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refuse = refuse
}

// sentOf returns the messages of one type.
func sentOf[T messages.Message](o *memOutbox) []T {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []T
	for _, m := range o.sent {
		if v, ok := m.(T); ok {
			list = append(list, v)
		}
	}
	return list
}

func (o *memOutbox) stages() (list []messages.Stage) {
	for _, e := range sentOf[*messages.WorkerEvent](o) {
		list = append(list, e.Stage)
	}
	return list
}

// An engine runs containers that end when a test says so. It outlives workers.
type engine struct {
	mu      sync.Mutex
	boxes   map[worker.Attempt]*box
	specs   []worker.Spec
	down    error
	image   func(string) (string, error)
	started chan *box // told of each start, if there is room
}

func (e *engine) Check(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.down
}

func (e *engine) set(down error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
}

func (e *engine) Image(_ context.Context, name string) (string, error) {
	if e.image != nil {
		return e.image(name)
	}
	return "sha256:image", nil
}

func (e *engine) Start(_ context.Context, spec worker.Spec) (worker.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != nil {
		return nil, e.down
	}
	if e.boxes[spec.Attempt] != nil {
		return nil, errors.New("there is one already")
	}
	b := &box{engine: e, spec: spec, began: time.Now(), ended: make(chan struct{}), more: make(chan struct{})}
	e.boxes[spec.Attempt] = b
	e.specs = append(e.specs, spec)
	e.started <- b
	return b, nil
}

func (e *engine) Find(context.Context) ([]worker.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []worker.Container
	for _, b := range e.boxes {
		list = append(list, b)
	}
	return list, e.down
}

func (e *engine) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.boxes)
}

type box struct {
	engine *engine
	spec   worker.Spec
	began  time.Time

	mu      sync.Mutex
	log     []byte
	more    chan struct{} // closed when there is more log
	ended   chan struct{}
	exit    worker.Exit
	stops   []time.Duration
	deaf    bool // does not end by SIGTERM
	inspect func()
}

func (b *box) Attempt() worker.Attempt { return b.spec.Attempt }

func (b *box) end(exit worker.Exit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.ended:
		return
	default:
	}
	exit.Started, exit.Finished = b.began, time.Now()
	b.exit = exit
	close(b.ended)
}

func (b *box) say(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = append(b.log, text...)
	close(b.more)
	b.more = make(chan struct{})
}

func (b *box) Wait(ctx context.Context) (worker.Exit, error) {
	select {
	case <-b.ended:
		return b.exit, nil
	case <-ctx.Done():
		return worker.Exit{}, context.Cause(ctx)
	}
}

func (b *box) Logs(ctx context.Context, w io.Writer) error {
	for at := 0; ; {
		b.mu.Lock()
		piece, more := slices.Clone(b.log[at:]), b.more
		b.mu.Unlock()
		at += len(piece)
		if len(piece) > 0 {
			if _, err := w.Write(piece); err != nil {
				return err
			}
			continue
		}
		select {
		case <-more:
		case <-b.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *box) Stop(ctx context.Context, grace time.Duration) error {
	b.mu.Lock()
	b.stops = append(b.stops, grace)
	deaf := b.deaf
	b.mu.Unlock()
	if deaf {
		select {
		case <-time.After(grace):
		case <-ctx.Done():
			return ctx.Err()
		}
		b.end(worker.Exit{Code: 137})
		return nil
	}
	b.end(worker.Exit{Code: 143})
	return nil
}

func (b *box) stopped() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.stops)
}

func (b *box) Inspect(context.Context) ([]byte, error) {
	b.mu.Lock()
	inspect := b.inspect
	b.mu.Unlock()
	if inspect != nil {
		inspect()
	}
	return []byte(`{"Id":"box"}`), nil
}

func (b *box) Remove(context.Context) error {
	b.end(worker.Exit{Code: 137})
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	if b.engine.boxes[b.spec.Attempt] == b {
		delete(b.engine.boxes, b.spec.Attempt)
	}
	return nil
}

// with changes a container behind its worker's back.
func (b *box) with(change func(*box)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

// starts is how many containers were started.
func (e *engine) starts() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.specs)
}

func (e *engine) of(id worker.Attempt) *box {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.boxes[id]
}

func (e *engine) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.boxes)
}

// A world is all that is around a worker, and outlives it.
type world struct {
	t        *testing.T
	dir      string
	leases   *memLeases
	out      *memOutbox
	engine   *engine
	inbox    chan *messages.Delivery
	verdicts chan *messages.PersisterEvent
	controls chan *messages.Control
	code     func(ctx context.Context, dir string) error

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
			inbox:  make(chan *messages.Delivery, 100), verdicts: make(chan *messages.PersisterEvent), controls: make(chan *messages.Control),
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
		return d, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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

func (w *world) Follow(ctx context.Context, _ time.Time, handle func(context.Context, *messages.PersisterEvent)) error {
	for {
		select {
		case e := <-w.verdicts:
			if e == nil {
				return errDown
			}
			handle(ctx, e)
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
	cfg.Name, cfg.Backend, cfg.State, cfg.MinFree, cfg.LogBytes = name, backend, filepath.Join(w.dir, "state"), 0, 1<<20
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
		High: func(string) string { return w.dir }, UID: cfg.UID, GID: cfg.GID, Copy: true, Log: zerolog.Nop(),
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
	d := &messages.Delivery{Subject: subject, Data: data}
	d.Settle = func(_ context.Context, err error) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.settled = append(w.settled, err)
		return nil
	}
	w.inbox <- d
	synctest.Wait()
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
		w.t.Fatalf("no container was started; stages: %v", w.out.stages())
		return nil
	}
}

func (w *world) judge(a *messages.Action, verdict messages.Verdict) {
	w.verdicts <- &messages.PersisterEvent{Job: a.Job, Attempt: a.Attempt, Backend: a.Backend, Workspace: a.Workspace, Verdict: verdict}
	synctest.Wait()
}

// files returns the files message of the only attempt.
func (w *world) files() *messages.Files {
	w.t.Helper()
	list := sentOf[*messages.Files](w.out)
	if len(list) != 1 {
		w.t.Fatalf("%d files messages, want one; stages: %v", len(list), w.out.stages())
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
		list = append(list, found...)
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
