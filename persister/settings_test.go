package persister_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
	"sluice/persister"
	"sluice/persister/storetest"
)

// TestFailedAside: where the backend wants it, the files of a job that fails
// lie beside its log; its workspace stays as it is but for the action's log.
func TestFailedAside(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.settings = func(c *persister.Config) { c.FailedAside = true }
	first := storetest.NewJob("ws", "a", "r1", high, "x.csv", medium, "t/*.csv")
	b.persist(t, first, map[string]string{"x.csv": "good", "t/y.csv": "h\n1\n"})
	before, err := os.ReadFile(filepath.Join(b.cfg.High, "ws", "metadata", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}

	second := storetest.NewJob("ws", "a", "r2", high, "x.csv", medium, "t/*.csv", high, "never.csv")
	if got := b.persist(t, second, map[string]string{"x.csv": "bad", "t/y.csv": "h\n2\n", "t/z.csv": "patient_id\n"}).Code(); got != messages.UnmatchedPatterns {
		t.Fatalf("code = %s", got)
	}
	b.wantTrees(t, "ws", map[string]string{"x.csv": "good", "t/y.csv": "h\n1\n"}, map[string]string{"t/y.csv": "h\n1\n"})
	after, err := os.ReadFile(filepath.Join(b.cfg.Medium, "ws", "metadata", "manifest.json"))
	if err != nil || string(after) != string(before) {
		t.Errorf("the workspace's manifest was changed (%v):\n%s", err, cmp.Diff(string(before), string(after)))
	}
	aside, err := storetest.Tree(b.record(second, "1", "files"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"x.csv": "bad", "t/y.csv": "h\n2\n", "t/z.csv": "patient_id\n"}, aside); diff != "" {
		t.Errorf("files aside (-want +got):\n%s", diff)
	}
	if log := readFile(t, filepath.Join(b.cfg.Medium, "ws", "metadata", "a.log")); !strings.Contains(log, "never.csv") {
		t.Errorf("the action's log is not the last job's:\n%s", log)
	}
	if m := readFile(t, b.record(second, "manifest.json")); !strings.Contains(m, `"aside":true`) {
		t.Errorf("the job's manifest does not say where its files are: %s", m)
	}

	// The next that succeeds is as if the failed one had never been.
	third := storetest.NewJob("ws", "a", "r3", high, "x.csv", medium, "t/*.csv")
	b.persist(t, third, map[string]string{"x.csv": "better", "t/y.csv": "h\n3\n"})
	b.wantTrees(t, "ws", map[string]string{"x.csv": "better", "t/y.csv": "h\n3\n"}, map[string]string{"t/y.csv": "h\n3\n"})
}

// TestDeleteObsolete: where the backend wants it, what an action that succeeds
// no longer makes leaves both tiers and the manifest; another action's stays.
func TestDeleteObsolete(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.settings = func(c *persister.Config) { c.DeleteObsolete = true }
	b.persist(t, storetest.NewJob("ws", "a", "r1", medium, "old/*.csv", high, "h/old.rds", medium, "keep.txt"),
		map[string]string{"old/1.csv": "x\n", "old/2.csv": "patient_id\n", "h/old.rds": "r", "keep.txt": "k"})
	b.persist(t, storetest.NewJob("ws", "b", "r1", high, "old/b.csv"), map[string]string{"old/b.csv": "b"})

	b.persist(t, storetest.NewJob("ws", "a", "r2", medium, "keep.txt", high, "never.csv"), map[string]string{"keep.txt": "k2"})
	if got := b.tree(t, b.cfg.High, "ws"); len(got) != 5 {
		t.Errorf("a job that failed deleted something: %v", got)
	}

	// What was a file is a folder by now, and the other way round.
	b.persist(t, storetest.NewJob("ws", "a", "r3", medium, "keep.txt", high, "h"), map[string]string{"keep.txt": "k3", "h": "file"})
	b.wantTrees(t, "ws", map[string]string{"keep.txt": "k3", "old/b.csv": "b", "h": "file"}, map[string]string{"keep.txt": "k3"})
	want := map[string]bool{"keep.txt": true, "old/b.csv": true, "h": true}
	got := map[string]bool{}
	for name := range b.manifest(t, "ws")["outputs"].(map[string]any) {
		got[name] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs of the manifest (-want +got):\n%s", diff)
	}
}
