package persister_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/persister/storetest"
)

const (
	high   = string(messages.HighlySensitive)
	medium = string(messages.ModeratelySensitive)
)

// A bench is a persister with real folders and a fleet that is a fake.
type bench struct {
	*storetest.Fleet
	cfg    disk.Config
	checks persister.Checks
	run    func()

	settings func(*persister.Config) // if there is anything to change
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchIn(t, t.TempDir())
}

func newBenchIn(t *testing.T, root string) *bench {
	t.Helper()
	b := &bench{
		Fleet:  storetest.NewFleet(root),
		cfg:    disk.Default(filepath.Join(root, "staging"), filepath.Join(root, "high"), filepath.Join(root, "medium")),
		checks: persister.DefaultChecks(),
	}
	b.run = sync.OnceFunc(func() { b.start(t) })
	return b
}

// start runs the service until the test ends.
func (b *bench) start(t *testing.T) {
	t.Helper()
	store, err := disk.Open(b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg := persister.DefaultConfig()
	cfg.Backend, cfg.Checks = storetest.Backend, b.checks
	if b.settings != nil {
		b.settings(&cfg)
	}
	p, err := persister.New(cfg, b.Ports(store, func() time.Time { return storetest.Epoch.Add(time.Hour) }), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, store.Close()); err != nil {
			t.Error(err)
		}
	})
}

// stage leaves an attempt's files in staging.
func (b *bench) stage(t *testing.T, j *messages.Job, attempt int, files map[string]string) *messages.Files {
	t.Helper()
	m, err := storetest.Stage(b.cfg.Staging, j, attempt, files)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// deliver hands a message over and returns what became of it.
func (b *bench) deliver(t *testing.T, m *messages.Files, tries int) error {
	t.Helper()
	b.run()
	d, err := storetest.Delivery(m, tries)
	if err != nil {
		t.Fatal(err)
	}
	return b.Deliver(t.Context(), d)
}

// persist runs a whole job and wants it to be persisted.
func (b *bench) persist(t *testing.T, j *messages.Job, files map[string]string) *messages.Result {
	t.Helper()
	b.AddJob(j)
	if err := b.deliver(t, b.stage(t, j, j.Attempt, files), 1); err != nil {
		t.Fatal(err)
	}
	b.wantEvent(t, j, messages.Persisted, j.Attempt)
	return b.committed(t, j).Result
}

func (b *bench) committed(t *testing.T, j *messages.Job) *messages.Commit {
	t.Helper()
	entry, err := b.Commit(messages.CommitKey(j.Backend, j.ID))
	if err != nil {
		t.Fatal(err)
	}
	return entry.Value
}

// event returns the last event.
func (b *bench) event(t *testing.T) *messages.PersisterEvent {
	t.Helper()
	all, err := b.Events()
	if err != nil || all == "" {
		t.Fatalf("no event was published: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(all), "\n")
	_, payload, _ := strings.Cut(lines[len(lines)-1], "{")
	e := &messages.PersisterEvent{}
	if err := messages.Decode([]byte("{"+payload), e); err != nil {
		t.Fatal(err)
	}
	return e
}

func (b *bench) wantEvent(t *testing.T, j *messages.Job, verdict messages.Verdict, winner int) *messages.PersisterEvent {
	t.Helper()
	e := b.event(t)
	if e.Job != j.ID || e.Verdict != verdict || e.Winner != winner {
		t.Fatalf("event: got %+v, want verdict %s of job %s with winner %d", e, verdict, j.ID, winner)
	}
	return e
}

// tree reads a workspace, without its metadata folder.
func (b *bench) tree(t *testing.T, base, workspace string) map[string]string {
	t.Helper()
	tree, err := storetest.Tree(filepath.Join(base, workspace))
	if err != nil {
		t.Fatal(err)
	}
	for name := range tree {
		if strings.HasPrefix(name, "metadata/") {
			delete(tree, name)
		}
	}
	return tree
}

// wantTrees compares both tiers' outputs.
func (b *bench) wantTrees(t *testing.T, workspace string, wantHigh, wantMedium map[string]string) {
	t.Helper()
	if diff := cmp.Diff(wantHigh, b.tree(t, b.cfg.High, workspace)); diff != "" {
		t.Errorf("highly sensitive tier (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantMedium, b.tree(t, b.cfg.Medium, workspace)); diff != "" {
		t.Errorf("moderately sensitive tier (-want +got):\n%s", diff)
	}
}

// manifest reads a workspace's manifest, which must be the same in both tiers.
func (b *bench) manifest(t *testing.T, workspace string) map[string]any {
	t.Helper()
	var parsed []map[string]any
	for _, base := range []string{b.cfg.High, b.cfg.Medium} {
		data, err := os.ReadFile(filepath.Join(base, workspace, "metadata", "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, m)
	}
	if diff := cmp.Diff(parsed[0], parsed[1]); diff != "" {
		t.Errorf("the tiers' manifests differ (-high +medium):\n%s", diff)
	}
	return parsed[1]
}

// record returns the path of a file of an attempt's record.
func (b *bench) record(j *messages.Job, parts ...string) string {
	return filepath.Join(append([]string{b.cfg.High, "logs", messages.RecordMonth(j.Created), string(j.ID)}, parts...)...)
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// wantClean reports temporary files, locks and journal entries that are left.
func (b *bench) wantClean(t *testing.T) {
	t.Helper()
	for _, dir := range []string{filepath.Join(b.cfg.High, ".sluice"), filepath.Join(b.cfg.Medium, ".sluice")} {
		tree, err := storetest.Tree(dir)
		if err != nil {
			t.Fatal(err)
		}
		for name := range tree {
			if !strings.HasPrefix(name, "locks/workspace.") {
				t.Errorf("%s is left in %s", name, dir)
			}
		}
	}
}
