package reliability

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sluice/jetstream"
	"sluice/messages"
)

// Edits that several scenes need.
var (
	ackedEarly = []edit{{"jetstream/queue.go", `	go func() { done <- handle(ctx, d) }()`, `	_ = d.Settle(ctx, nil)
	go func() { done <- handle(ctx, d) }()`}}
	neverDropped = edit{"persister/disk/recover.go", `		return s.drop(name) // it was not even planned`, `		return nil`}
	notCleared   = edit{"persister/disk/draft.go", `	if err := d.s.drop(d.name); err != nil {
		return err
	}
	if d.dir,`, `	if d.dir,`}
	// One that cannot begin for what is left drops it, too, and begins at the next
	// delivery: what a process leaves before its plan is dropped at three places.
	notGivenUp = edit{"persister/disk/draft.go", `		return nil, errors.Join(fmt.Errorf("begin %s: %w", a, err), d.Close())`, `		return nil, errors.Join(fmt.Errorf("begin %s: %w", a, err), d.lock.release())`}
	leftLying  = []edit{neverDropped, notCleared, notGivenUp}

	alwaysDropped = []edit{{"persister/disk/recover.go", `	if winner != number {`, `	if winner != number || winner == number {`}}
	notFinished   = []edit{{"persister/disk/recover.go", `		if err := s.finishEntry(name); err != nil {`, `		if err := error(nil); name == "" {`}}
	notRepeatable = []edit{{"persister/disk/tree.go", `		if there && st.Mode&unix.S_IFMT == unix.S_IFREG && was(st) {`, `		if there && st.Mode == 0 && was(st) {`}}
)

// loseStaging takes away what an attempt left, as soon as its worker lets it
// go: from the commit on nothing of it may be needed.
func (f *fleet) loseStaging() {
	f.await("containers are gone", f.noContainers)
	f.await("staging is lost", func() error {
		dirs, err := filepath.Glob(filepath.Join(f.staging(), "*", "*", "files"))
		for _, dir := range dirs {
			if err == nil {
				err = os.RemoveAll(dir)
			}
		}
		return err
	})
}

// persisted runs two jobs with a persister that dies when it has won, and whose
// next life finds no staging any more.
func persisted(fault string) func(*fleet) {
	return func(f *fleet) {
		p := f.persister("persister", fault)
		p.before = f.loseStaging
		f.start(f.planner("planner"), f.worker("worker"), p)
		f.calm("1")
		p.died(1)
	}
}

// persistedAgain has the persister die while it replaces what an earlier job
// left, one output of which goes to another tier.
func persistedAgain(fault string) func(*fleet) {
	return func(f *fleet) {
		p := f.whole("persister")
		f.request("r1", "make")
		f.finished("r1")
		p.stop(syscall.SIGTERM)
		p = f.persister("persister-2", fault)
		p.before = f.loseStaging
		p.start()
		f.commit = second
		f.request("r2", "make")
		f.finished("r2")
		f.settled()
		f.wantJobs("r2", map[string]string{"make": "succeeded/1"})
		f.wantTiers(highFirst, map[string]string{"output/table1.csv": "a,1\n"})
		f.wantDead(0, 0)
		p.died(1)
	}
}

var persisterScenes = []scene{
	{"persister.after-take", calmly("persister", "persister.after-take=die", "1"), ackedEarly},
	{"persister.between-copies", calmly("persister", "persister.between-copies=die@2", "1"), leftLying},
	{"persister.after-copy", calmly("persister", "persister.after-copy=die", "1"), leftLying},
	{"persister.after-share", calmly("persister", "persister.after-share=die", "1"), leftLying},

	// Cancelled before the next life: what was ready must not become visible.
	{"persister.before-commit", func(f *fleet) {
		p := f.persister("persister", "persister.before-commit=die")
		p.before = func() {
			f.cancel("r1")
			f.seen("r1", "make", messages.CancelledByUser)
		}
		f.start(f.planner("planner"), f.worker("worker"), p)
		f.request("r1", "make")
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"make": "cancelled_by_user/1"})
		f.wantTiers(nothing, nothing)
		p.died(1)
	}, []edit{{"persister/disk/recover.go", `	if winner != number {`, `	if winner != number && winner == number {`}}},

	{"persister.after-commit", persisted("persister.after-commit=die"), alwaysDropped},
	{"persister.after-journal", persisted("persister.after-journal=die"), notFinished},
	{"persister.between-removals", persistedAgain("persister.between-removals=die"), notFinished},
	{"persister.between-renames", persistedAgain("persister.between-renames=die@3"), notFinished},
	{"persister.before-manifest", persistedAgain("persister.before-manifest=die"), notFinished},
	{"persister.between-manifests", persistedAgain("persister.between-manifests=die"), notFinished},
	{"persister.before-done", persisted("persister.before-done=die"), notRepeatable},
	{"persister.after-done", persisted("persister.after-done=die"), []edit{neverDropped}},

	{"persister.between-records", func(f *fleet) {
		p := f.whole("persister", "persister.between-records=die")
		f.request("r1", "gated")
		f.seen("r1", "gated", messages.Executing)
		f.cancel("r1")
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"gated": "cancelled_by_user/1"})
		f.wantTiers(nothing, nothing)
		j := f.job("r1", "gated")
		for _, name := range []string{"logs.txt", "metadata.json", "container.json"} {
			path := filepath.Join(f.high(), "logs", messages.RecordMonth(j.Created), string(j.ID), "1", name)
			if _, err := os.Stat(path); err != nil {
				f.errorf("record: %v", err)
			}
		}
		p.died(1)
	}, ackedEarly},

	{"persister.before-verdict", calmly("persister", "persister.before-verdict=die", "1"), ackedEarly},
}

var jetstreamScenes = []scene{
	// Cut off right before the commit: it is sent when the connection is back, and
	// nothing else has to be done again.
	{"jetstream.before-publish", func(f *fleet) {
		if err := f.ackWait(time.Minute); err != nil {
			f.fatalf("%v", err)
		}
		p := f.whole("persister", "jetstream.before-publish=cut:1500ms")
		f.calm("1")
		p.awaitHit("jetstream.before-publish")
		p.died(0)
		if log := p.log(); strings.Contains(log, "it will come again") {
			f.errorf("a message had to come again")
		}
	}, []edit{{"jetstream/retry.go", `		if err == nil || !unreachable(err) {`, `		if err == nil || wait > 0 {`}}},

	{"jetstream.after-publish", persisted("jetstream.after-publish=die"), alwaysDropped},

	{"jetstream.before-ack", func(f *fleet) {
		p := f.persister("persister", "jetstream.before-ack=die")
		p.before = func() { f.await("staging is empty", func() error { return f.empty(f.staging()) }) }
		f.start(f.planner("planner"), f.worker("worker"), p)
		f.request("r1", "make")
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"make": "succeeded/1"})
		f.wantTiers(highFirst, mediumFirst)
		f.wantDead(0, 0)
		p.died(1)
	}, []edit{{"persister/attempt.go", `		if done {`, `		if done && a.tries == 0 {`}}},

	{"jetstream.after-park", func(f *fleet) {
		p := f.whole("planner", "jetstream.after-park=die")
		f.poison()
		f.await("the planner has died", func() error {
			if !strings.Contains(p.log(), "fault:") {
				return fmt.Errorf("it lives")
			}
			return nil
		})
		f.settled()
		f.wantDead(1, 1)
		p.died(1)
	}, []edit{{"jetstream/queue.go", `meta.Timestamp.UnixNano())`, `time.Now().UnixNano())`}}},

	{"jetstream.after-put-back", func(f *fleet) {
		f.whole("")
		f.poison()
		f.await("it is parked", func() error { return f.count(jetstream.Dead, 1) })
		retry := f.command("dead", "retry", "1")
		retry.Env = append(retry.Env, "SLUICE_FAULT=jetstream.after-put-back=die")
		if out, err := retry.CombinedOutput(); err == nil || retry.ProcessState.Exited() {
			f.errorf("dead retry ended with %v: %s", err, out)
		}
		f.await("it is parked again", func() error { return f.count(jetstream.Dead, 2) })
		if out, err := f.command("dead", "retry", "1").CombinedOutput(); err != nil {
			f.errorf("dead retry: %v: %s", err, out)
		}
		f.settled()
		if err := f.count(jetstream.Requests, 2); err != nil { // the first, and once put back
			f.errorf("%v", err)
		}
		if err := f.count(jetstream.Dead, 1); err != nil {
			f.errorf("%v", err)
		}
	}, []edit{
		{"jetstream/dead.go", `	id := fmt.Sprintf("retry/%s/%d", l.At, seq) // this call's own tries are one`, ``},
		{"jetstream/dead.go", `, jetstream.WithMsgID(id)); err != nil {`, `); err != nil {`},
	}},
}

// poison publishes what is no request.
func (f *fleet) poison() {
	subject := (&messages.Request{Backend: f.backend, Workspace: "ws"}).Subject()
	if _, err := f.js.Publish(f.ctx, subject, []byte("{")); err != nil {
		f.fatalf("%v", err)
	}
}

func (f *fleet) count(stream string, want uint64) error {
	n, err := f.conn.Count(f.late, stream, "")
	if err == nil && n != want {
		err = fmt.Errorf("%d messages in %s, want %d", n, stream, want)
	}
	return err
}
