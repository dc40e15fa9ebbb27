package persister_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice/messages"
	"sluice/persister/storetest"
)

// enough is more deliveries than an attempt without a commit is given.
const enough = 1000

// TestGivenUp: what fails the same way each time ends with a verdict, which the
// planner goes on from, after a bounded number of tries.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		make    func(b *bench, j *messages.Job) error
		cancel  bool
		tries   int // of the delivery that gives up
		verdict messages.Verdict
		reason  string
	}{
		{name: "the attempt's folder is a link", tries: 3, verdict: messages.Unusable, reason: "missing", make: func(b *bench, j *messages.Job) error {
			dir := storetest.Dir(b.cfg.Staging, j, 1)
			return errors.Join(os.Rename(dir, dir+"0"), os.Symlink(dir+"0", dir))
		}},
		{name: "the attempt's folder is a file", tries: 3, verdict: messages.Unusable, reason: "missing", make: func(b *bench, j *messages.Job) error {
			dir := storetest.Dir(b.cfg.Staging, j, 1)
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		}},
		{name: "the workspace's folder is a file", tries: 20, verdict: messages.Unusable, reason: "not a directory", make: func(b *bench, _ *messages.Job) error {
			return os.WriteFile(filepath.Join(b.cfg.High, "ws"), nil, 0o600)
		}},
		{name: "no record can be kept", cancel: true, tries: 20, verdict: messages.Discarded, reason: "not a directory", make: func(b *bench, j *messages.Job) error {
			return errors.Join(os.MkdirAll(filepath.Join(b.cfg.High, "logs"), 0o755), os.WriteFile(filepath.Dir(b.record(j)), nil, 0o600))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.run()
			j := storetest.NewJob("ws", "a", "r1", high, "a.csv")
			b.AddJob(j)
			m := b.stage(t, j, 1, map[string]string{"a.csv": "1"})
			m.Cancelled = tc.cancel
			if err := tc.make(b, j); err != nil {
				t.Fatal(err)
			}
			var parked *messages.Parked
			if err := b.deliver(t, m, tc.tries-1); err == nil || errors.As(err, &parked) {
				t.Fatalf("delivery %d: got %v, want that it comes again", tc.tries-1, err)
			}
			if err := b.deliver(t, m, tc.tries); err != nil {
				t.Fatalf("delivery %d: %v", tc.tries, err)
			}
			if e := b.wantEvent(t, j, tc.verdict, 0); !strings.Contains(e.Reason, tc.reason) {
				t.Errorf("reason: got %q, want %q", e.Reason, tc.reason)
			}
			b.wantClean(t)
		})
	}
}

// TestTimesOutOfBounds: a time that could not be written down is parked at once.
func TestTimesOutOfBounds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("ws", "a", "r1", high, "a.csv")
	b.AddJob(j)
	m := b.stage(t, j, 1, map[string]string{"a.csv": "1"})
	made, err := storetest.Delivery(m, 1)
	if err != nil {
		t.Fatal(err)
	}
	b.run()
	for _, at := range []string{"9999-12-31T23:59:59-23:00", "2300-01-01T00:00:00Z", "1969-12-31T23:59:59Z"} {
		for _, field := range []string{"started_at", "finished_at"} {
			d := *made
			d.Data = regexp.MustCompile(`("`+field+`":)"[^"]*"`).ReplaceAll(made.Data, []byte(`$1"`+at+`"`))
			var parked *messages.Parked
			if err := b.Deliver(t.Context(), &d); !errors.As(err, &parked) || !strings.Contains(parked.Reason, field) {
				t.Errorf("%s %s: got %v, want it parked", field, at, err)
			}
		}
	}
}

// TestAnsweredLater: what a register does not take now is tried for as long as
// it takes.
func TestAnsweredLater(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("ws", "a", "r1", high, "a.csv")
	b.AddJob(j)
	m := b.stage(t, j, 1, map[string]string{"a.csv": "1"})
	b.BeforeCreate = func(string) error { return messages.ErrFull }
	if err := b.deliver(t, m, enough); !errors.Is(err, messages.ErrFull) {
		t.Fatalf("while the register is full: got %v", err)
	}
	b.BeforeCreate = nil
	if err := b.deliver(t, m, enough+1); err != nil {
		t.Fatal(err)
	}
	b.wantEvent(t, j, messages.Persisted, 1)
}

// TestStuckWorkspace: a change that has the commit, and that an operator's hand
// keeps from being finished, is never given up, nor are jobs of its workspace
// that wait for it. Other workspaces go on, and all do once the way is free.
func TestStuckWorkspace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first, second, other := storetest.NewJob("ws", "a", "r1", high, "a.csv"), storetest.NewJob("ws", "b", "r2", high, "b.csv"), storetest.NewJob("w2", "a", "r3", high, "a.csv")
	inTheWay := filepath.Join(b.cfg.High, "ws", "a.csv")
	b.AfterCreate = func(string) error {
		return errors.Join(os.MkdirAll(inTheWay, 0o755), os.WriteFile(filepath.Join(inTheWay, "by hand"), nil, 0o600))
	}
	b.AddJob(first)
	b.AddJob(second)
	m1, m2 := b.stage(t, first, 1, map[string]string{"a.csv": "1"}), b.stage(t, second, 1, map[string]string{"b.csv": "2"})
	for tries := enough; tries < enough+2; tries++ {
		for _, m := range []*messages.Files{m1, m2} {
			if err := b.deliver(t, m, tries); err == nil || !strings.Contains(err.Error(), "folder a.csv is not empty") {
				t.Fatalf("delivery %d of %s: got %v, want that it comes again, and what is in the way", tries, m.Job, err)
			}
		}
	}
	b.AfterCreate = nil
	b.persist(t, other, map[string]string{"a.csv": "3"})
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*messages.Files{m1, m2} {
		if err := b.deliver(t, m, enough+2); err != nil {
			t.Fatal(err)
		}
	}
	b.wantTrees(t, "ws", map[string]string{"a.csv": "1", "b.csv": "2"}, map[string]string{})
	b.wantClean(t)
}
