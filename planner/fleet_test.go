package planner_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/messages"
	"sluice/planner"
)

// ErrCrashed is what every port of a crashed connection returns.
var ErrCrashed = errors.New("the process has crashed")

// A Fleet is a server in memory that all share: registers and queues that
// behave as those of the package jetstream do, as far as a planner can tell,
// with workers and persisters that do as a test says. Its time is that of the
// test, so that testing/synctest makes it free.
type Fleet struct {
	mu       sync.Mutex
	revision messages.Revision
	buckets  map[string]map[string]*item
	watchers map[*watcher]bool
	seen     map[string]time.Time // message ids
	queues   map[string]*queue
	actions  map[string]*messages.Action // by subject: one each
	order    []string                    // of their subjects
	more     chan struct{}               // closed and replaced when an action is added

	outcomes []*messages.Outcome
	started  []*messages.Action
	dead     []Letter
	controls []*messages.Control
	projects map[string]string // by commit
	died     map[string]bool   // subjects of files messages
	kept     map[string]bool   // subjects of actions that are settled and still there
	crowded  map[string]string // by name of stream
	down     error
}

// A Letter is a dead letter.
type Letter struct {
	Subject string
	Reason  string
	Data    []byte
}

// newFleet returns an empty fleet.
func newFleet() *Fleet {
	return &Fleet{
		buckets: map[string]map[string]*item{}, watchers: map[*watcher]bool{}, seen: map[string]time.Time{},
		queues:  map[string]*queue{"requests": {}, "events": {}},
		actions: map[string]*messages.Action{}, more: make(chan struct{}), projects: map[string]string{}, died: map[string]bool{}, kept: map[string]bool{},
	}
}

// Study gives a commit its project file.
func (f *Fleet) Study(commit, file string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.projects[commit] = file
}

// Cut has the source of project files fail, until it is cut with nil.
func (f *Fleet) Cut(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

// Outcomes returns what was published, in order.
func (f *Fleet) Outcomes() []*messages.Outcome { return snapshot(f, &f.outcomes) }

// Started returns every action that was ever queued, in order.
func (f *Fleet) Started() []*messages.Action { return snapshot(f, &f.started) }

// Dead returns the dead letters.
func (f *Fleet) Dead() []Letter { return snapshot(f, &f.dead) }

// Controls returns the control messages.
func (f *Fleet) Controls() []*messages.Control { return snapshot(f, &f.controls) }

func snapshot[T any](f *Fleet, list *[]T) []T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(*list)
}

// A Conn is one process's connection. It can crash at a chosen write.
type Conn struct {
	f     *Fleet
	mu    sync.Mutex
	count int // of writes
	at    int // crash at this one; 0 for never
	after bool
	dead  bool
	crash func()
	flaky func() (before, after bool)
}

// Connect returns a connection that crashes at its n-th write: before it takes
// effect, or after, when its answer is lost. crash is called then.
func (f *Fleet) Connect(n int, after bool, crash func()) *Conn {
	return &Conn{f: f, at: n, after: after, crash: crash}
}

// Flaky has writes fail, before or after they take effect, as fail says for
// each, and reads. The process lives on.
func (c *Conn) Flaky(fail func() (before, after bool)) { c.flaky = fail }

// ErrFlaky is what a write returns that failed by Flaky.
var ErrFlaky = errors.New("the server does not answer")

// Writes returns how many writes the connection has made.
func (c *Conn) Writes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Ports returns what a planner needs, over this connection.
func (c *Conn) Ports() planner.Ports {
	return planner.Ports{
		Requests: receiver{c, "requests"}, Events: receiver{c, "events"}, Outbox: c, Actions: c, Files: c, Dead: c, Room: c, Controls: c, Line: c, Source: c,
		Jobs: register[messages.Job, *messages.Job]{c, "jobs"}, Latest: register[messages.Latest, *messages.Latest]{c, "jobs"},
		Plans: register[messages.Plan, *messages.Plan]{c, "jobs"}, Commits: register[messages.Commit, *messages.Commit]{c, "commits"},
		Leases:   expiring[messages.Lease, *messages.Lease]{register[messages.Lease, *messages.Lease]{c, "leases"}},
		Leader:   expiring[messages.Leader, *messages.Leader]{register[messages.Leader, *messages.Leader]{c, "fleet"}},
		Workers:  register[messages.Presence, *messages.Presence]{c, "fleet"},
		Settings: register[messages.Setting, *messages.Setting]{c, "fleet"},
	}
}

// write counts a write and runs it, unless the process has crashed before.
func (c *Conn) write(ctx context.Context, do func() error) error {
	c.mu.Lock()
	if c.dead || ctx.Err() != nil {
		defer c.mu.Unlock()
		if c.dead {
			return ErrCrashed
		}
		return ctx.Err()
	}
	c.count++
	now := c.count == c.at
	if now {
		c.dead = true
	}
	before, after := false, false
	if c.flaky != nil {
		before, after = c.flaky()
	}
	c.mu.Unlock()
	switch {
	case before:
		return ErrFlaky
	case after:
		_ = do() // nobody hears how it ended
		return ErrFlaky
	}
	if !now {
		return do()
	}
	if c.after {
		_ = do() // nobody hears how it ended
	}
	c.crash()
	return ErrCrashed
}

func (c *Conn) alive(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return ErrCrashed
	}
	return ctx.Err()
}

// read is alive for a read that may fail by Flaky.
func (c *Conn) read(ctx context.Context) error {
	if err := c.alive(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flaky != nil {
		if before, _ := c.flaky(); before {
			return ErrFlaky
		}
	}
	return nil
}

// Publish implements planner.Outbox.
func (c *Conn) Publish(ctx context.Context, subject string, m messages.Message, id string) error {
	if _, err := messages.Encode(m); err != nil {
		return err
	}
	return c.write(ctx, func() error { return c.f.publish(subject, m, id) })
}

// PublishAll implements planner.Outbox.
func (c *Conn) PublishAll(ctx context.Context, list []messages.Outgoing) []error {
	errs := make([]error, len(list))
	for i, o := range list {
		errs[i] = c.Publish(ctx, o.Subject, o.Message, o.ID)
	}
	return errs
}

func (f *Fleet) publish(subject string, m messages.Message, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, ok := f.seen[id]; ok && time.Since(at) < 2*time.Minute {
		return nil
	}
	switch m := m.(type) {
	case *messages.Action:
		if f.actions[subject] != nil {
			return messages.ErrQueued
		}
		f.actions[subject] = m
		f.order = append(f.order, subject)
		f.started = append(f.started, m)
		close(f.more)
		f.more = make(chan struct{})
	case *messages.Outcome:
		f.outcomes = append(f.outcomes, m)
	default:
		return fmt.Errorf("a planner does not publish a %T", m)
	}
	f.seen[id] = time.Now()
	return nil
}

// PurgeAction implements planner.Actions.
func (c *Conn) PurgeAction(ctx context.Context, subject string) error {
	return c.write(ctx, func() error {
		c.f.mu.Lock()
		defer c.f.mu.Unlock()
		c.f.drop(subject)
		return nil
	})
}

// SweepQueues implements planner.Actions.
func (c *Conn) SweepQueues(ctx context.Context, _ string, _ []string) error {
	if err := c.alive(ctx); err != nil {
		return err
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	for subject := range c.f.kept {
		c.f.drop(subject)
	}
	return nil
}

// Crowded implements planner.Room.
func (c *Conn) Crowded(ctx context.Context) (map[string]string, error) {
	if err := c.alive(ctx); err != nil {
		return nil, err
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	return maps.Clone(c.f.crowded), nil
}

// Crowd has the server say what of streams that are more than half full.
func (f *Fleet) Crowd(crowded map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crowded = crowded
}

// Keep has the server take an action for settled and keep it.
func (f *Fleet) Keep(subject string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept[subject] = true
}

func (f *Fleet) drop(subject string) {
	delete(f.kept, subject)
	delete(f.actions, subject)
	f.order = slices.DeleteFunc(f.order, func(s string) bool { return s == subject })
}

// Park implements planner.DeadLetters.
func (c *Conn) Park(ctx context.Context, subject string, m messages.Message, _, reason string) error {
	data, err := messages.Encode(m)
	if err != nil {
		return err
	}
	return c.write(ctx, func() error {
		c.f.mu.Lock()
		defer c.f.mu.Unlock()
		c.f.dead = append(c.f.dead, Letter{subject, reason, data})
		return nil
	})
}

// FilesQueued implements planner.Files: a persister may always take longer, but
// for a message that a test has die.
func (c *Conn) FilesQueued(_ context.Context, subject string) (bool, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	return !c.f.died[subject], nil
}

// Die gives up the files message of an attempt.
func (f *Fleet) Die(a *messages.Action) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.died[(&messages.Files{Backend: a.Backend, Workspace: a.Workspace, Job: a.Job}).Subject()] = true
}

// Send implements planner.Controls.
func (c *Conn) Send(_ string, m messages.Message) error {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.controls = append(c.f.controls, m.(*messages.Control))
	return nil
}

// Reconnected implements planner.Line: this connection is never lost.
func (c *Conn) Reconnected() (<-chan struct{}, func()) { return nil, func() {} }

// CheckSource implements planner.Source.
func (c *Conn) CheckSource(src messages.Source) error {
	if !strings.HasPrefix(src.Repo, "https://github.com/") {
		return messages.Problems{"Repository URL " + src.Repo + " does not start with https://github.com"}
	}
	return nil
}

// Project implements planner.Source.
func (c *Conn) Project(ctx context.Context, src messages.Source) ([]byte, error) {
	if err := c.alive(ctx); err != nil {
		return nil, err
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if c.f.down != nil {
		return nil, c.f.down
	}
	file, ok := c.f.projects[src.Commit]
	if !ok {
		return nil, messages.Failf(messages.InvalidRequest, "Could not find commit on branch '%s': %s", src.Branch, src.Commit)
	}
	return []byte(file), nil
}

// A queue delivers one message at a time, in order.
type queue struct {
	list []*messages.Delivery
	hand bool          // the first is in somebody's hand
	more chan struct{} // closed when something changes
}

// changed wakes who waits for the queue, and is called with the lock held.
func (q *queue) changed() {
	if q.more != nil {
		close(q.more)
		q.more = nil
	}
}

// Send puts a message into the planner's queue of requests or of events.
func (f *Fleet) Send(t testing.TB, subject string, m messages.Message) {
	t.Helper()
	data, err := messages.Encode(m)
	if err != nil {
		t.Fatalf("encode %T: %v", m, err)
	}
	f.SendRaw(subject, data)
}

// SendRaw puts any bytes into the queue of the subject.
func (f *Fleet) SendRaw(subject string, data []byte) {
	name := "requests"
	if strings.HasPrefix(subject, "sluice.event.") {
		name = "events"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.queues[name]
	q.list = append(q.list, &messages.Delivery{Subject: subject, Data: data, At: time.Now()})
	q.changed()
}

// Waiting returns how many messages are not settled yet.
func (f *Fleet) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queues["requests"].list) + len(f.queues["events"].list)
}

type receiver struct {
	c    *Conn
	name string
}

// Receive implements planner.Queue. A message that is not settled comes again
// first, after a second.
func (r receiver) Receive(ctx context.Context, handle func(context.Context, *messages.Delivery) error) error {
	f, q := r.c.f, r.c.f.queues[r.name]
	for {
		d := q.take(ctx, f)
		if d == nil {
			return nil
		}
		err := handle(context.WithoutCancel(ctx), d)
		crashed := r.c.alive(context.Background())
		if crashed == nil && f.settle(q, d, err) {
			continue
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		f.mu.Lock()
		q.hand = false
		q.changed()
		f.mu.Unlock()
		if crashed != nil {
			return crashed
		}
	}
}

// take waits for the first message, unless ctx ends before.
func (q *queue) take(ctx context.Context, f *Fleet) *messages.Delivery {
	for ctx.Err() == nil {
		f.mu.Lock()
		if len(q.list) > 0 && !q.hand {
			q.hand = true
			d := *q.list[0]
			q.list[0].Tries++
			d.Tries++
			f.mu.Unlock()
			return &d
		}
		if q.more == nil {
			q.more = make(chan struct{})
		}
		more := q.more
		f.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-more:
		}
	}
	return nil
}

// settle ends a delivery, unless it has to come again.
func (f *Fleet) settle(q *queue, d *messages.Delivery, err error) bool {
	var parked *messages.Parked
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.As(err, &parked):
		f.dead = append(f.dead, Letter{d.Subject, parked.Reason, d.Data})
	case err != nil:
		return false
	}
	q.list = q.list[1:]
	q.hand = false
	q.changed()
	return true
}
