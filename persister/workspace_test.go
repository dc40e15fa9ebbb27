package persister_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/persister/storetest"
)

// plan records which actions the project has when a job's request is planned.
func (b *bench) plan(j *messages.Job, actions ...string) *messages.Job {
	b.Plans[messages.PlanKey(j.Backend, j.Workspace, j.Request)] = &messages.Plan{Actions: actions}
	return j
}

// entry returns an output's entry of the manifest.
func (b *bench) entry(t *testing.T, workspace, output string) map[string]any {
	t.Helper()
	e, ok := b.manifest(t, workspace)["outputs"].(map[string]any)[output].(map[string]any)
	if !ok {
		t.Fatalf("the manifest lacks %s", output)
	}
	return e
}

func TestRenamedOutputLeavesTheTier(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first := b.plan(storetest.NewJob("ws", "a", "r1", medium, "old.txt", medium, "bad.csv", medium, "keep.txt"), "a")
	b.persist(t, first, map[string]string{"old.txt": "1", "bad.csv": "patient_id\n", "keep.txt": "k"})

	// The next job fails: what it does not make stays, marked.
	failing := b.plan(storetest.NewJob("ws", "a", "r2", medium, "new.txt", medium, "keep.txt"), "a")
	b.persist(t, failing, map[string]string{"keep.txt": "k2"})
	b.wantTrees(t, "ws", map[string]string{"old.txt": "1", "bad.csv": "patient_id\n", "keep.txt": "k2"},
		map[string]string{"old.txt": "1", "keep.txt": "k2", "bad.csv.txt": readFile(t, filepath.Join(b.cfg.Medium, "ws", "bad.csv.txt"))})
	if e := b.entry(t, "ws", "old.txt"); e["out_of_date_output"] != true || e["removed_from_moderately_sensitive_by"] != nil {
		t.Errorf("after the failure: got %v", e)
	}

	good := b.plan(storetest.NewJob("ws", "a", "r3", medium, "new.txt", medium, "keep.txt"), "a")
	b.persist(t, good, map[string]string{"new.txt": "n", "keep.txt": "k3"})
	b.wantTrees(t, "ws", map[string]string{"old.txt": "1", "bad.csv": "patient_id\n", "keep.txt": "k3", "new.txt": "n"},
		map[string]string{"keep.txt": "k3", "new.txt": "n"})
	for _, p := range []string{"old.txt", "bad.csv"} {
		if e := b.entry(t, "ws", p); e["out_of_date_output"] != true || e["removed_from_moderately_sensitive_by"] != string(good.ID) {
			t.Errorf("%s: got %v, want it out of date and removed by %s", p, e, good.ID)
		}
	}
	if e := b.entry(t, "ws", "keep.txt"); e["out_of_date_output"] != nil || e["job_id"] != string(good.ID) {
		t.Errorf("keep.txt: got %v", e)
	}
}

func TestOutOfDateActions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.persist(t, b.plan(storetest.NewJob("ws", "gone", "r1", medium, "g.txt"), "gone", "a"), map[string]string{"g.txt": "g"})
	b.persist(t, b.plan(storetest.NewJob("ws", "a", "r2", medium, "a.txt"), "a"), map[string]string{"a.txt": "1"})
	if e := b.entry(t, "ws", "g.txt"); e["out_of_date_action"] != true {
		t.Errorf("action gone: got %v", e)
	}
	b.persist(t, b.plan(storetest.NewJob("ws", "a", "r3", medium, "a.txt"), "a", "gone"), map[string]string{"a.txt": "1"})
	if e := b.entry(t, "ws", "g.txt"); e["out_of_date_action"] != false {
		t.Errorf("action back: got %v", e)
	}
	b.wantTrees(t, "ws", map[string]string{"a.txt": "1", "g.txt": "g"}, map[string]string{"a.txt": "1", "g.txt": "g"})
}

// What stands in the way of an output: a file where it needs a folder, or
// files where it needs one.
func TestInTheWay(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		there    string // made by action "other"; "" for nothing
		actions  []string
		make     func(b *bench) error
		want     string // of the new output: where it lies
		blocking string // what is named as being in the way
	}{
		{name: "a folder of an action that is gone", there: "x.csv/deep/er.csv", actions: []string{"a"}, want: "x.csv"},
		{name: "a file of an action that is gone", there: "x.csv", actions: []string{"a"}, want: "x.csv/y.csv"},
		{name: "a folder of another action", there: "x.csv/deep/er.csv", actions: []string{"a", "other"}, want: "x.csv", blocking: "x.csv/deep/er.csv, an output of action"},
		{name: "a file of another action", there: "x.csv", actions: []string{"a", "other"}, want: "x.csv/y.csv", blocking: "x.csv, an output of action"},
		{name: "somebody's own file", actions: []string{"a"}, want: "x.csv/y.csv", blocking: "x.csv, which no action made", make: func(b *bench) error {
			return errors.Join(os.MkdirAll(filepath.Join(b.cfg.High, "ws"), 0o755), os.WriteFile(filepath.Join(b.cfg.High, "ws", "x.csv"), nil, 0o600))
		}},
		{name: "an empty folder", actions: []string{"a"}, want: "x.csv", make: func(b *bench) error {
			return os.MkdirAll(filepath.Join(b.cfg.High, "ws", "x.csv", "sub"), 0o755)
		}},
		{name: "a link out of the tier", actions: []string{"a"}, want: "x.csv/y.csv", blocking: "x.csv, which no action made", make: func(b *bench) error {
			return errors.Join(os.MkdirAll(filepath.Join(b.cfg.High, "ws"), 0o755), os.Symlink("/tmp", filepath.Join(b.cfg.High, "ws", "x.csv")))
		}},
		{name: "a folder for the action's log", actions: []string{"a"}, want: "x.csv", blocking: "metadata/a.log/x, which no action made", make: func(b *bench) error {
			return errors.Join(os.MkdirAll(filepath.Join(b.cfg.High, "ws", "metadata", "a.log"), 0o755), os.WriteFile(filepath.Join(b.cfg.High, "ws", "metadata", "a.log", "x"), nil, 0o600))
		}},
		{name: "a manifest that cannot be read", actions: []string{"a"}, want: "x.csv", blocking: "metadata/manifest.json keeps an output from its place: read manifest", make: func(b *bench) error {
			return errors.Join(os.MkdirAll(filepath.Join(b.cfg.High, "ws", "metadata"), 0o755), os.WriteFile(filepath.Join(b.cfg.High, "ws", "metadata", "manifest.json"), []byte("{"), 0o600))
		}},
		{name: "a link out of the other tier", actions: []string{"a"}, want: "x.csv/y.csv", blocking: "x.csv, which no action made", make: func(b *bench) error {
			return errors.Join(os.MkdirAll(filepath.Join(b.cfg.Medium, "ws"), 0o755), os.Symlink("/tmp", filepath.Join(b.cfg.Medium, "ws", "x.csv")))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if tc.there != "" {
				b.persist(t, storetest.NewJob("ws", "other", "r1", medium, tc.there), map[string]string{tc.there: "old"})
			}
			if tc.make != nil {
				if err := tc.make(b); err != nil {
					t.Fatal(err)
				}
			}
			j := b.plan(storetest.NewJob("ws", "a", "r2", medium, tc.want), tc.actions...)
			b.AddJob(j)
			if err := b.deliver(t, b.stage(t, j, 1, map[string]string{tc.want: "new"}), 1); err != nil {
				t.Fatal(err)
			}
			if tc.blocking != "" {
				if e := b.wantEvent(t, j, messages.Unusable, 0); !strings.Contains(e.Reason, tc.blocking) {
					t.Errorf("reason: got %q, want %q", e.Reason, tc.blocking)
				}
				if tc.there != "" {
					b.wantTrees(t, "ws", map[string]string{tc.there: "old"}, map[string]string{tc.there: "old"})
				}
			} else {
				b.wantEvent(t, j, messages.Persisted, 1)
				b.wantTrees(t, "ws", map[string]string{tc.want: "new"}, map[string]string{tc.want: "new"})
				if outputs := b.manifest(t, "ws")["outputs"].(map[string]any); len(outputs) != 1 {
					t.Errorf("manifest: got %v, want %s alone", outputs, tc.want)
				}
			}
			b.wantClean(t)
		})
	}
}

// A link at an output's own name is replaced, and what it leads to is left.
func TestLinkIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	outside := filepath.Join(t.TempDir(), "outside")
	ws := filepath.Join(b.cfg.High, "ws")
	if err := errors.Join(os.WriteFile(outside, []byte("mine"), 0o600), os.MkdirAll(ws, 0o755), os.Symlink(outside, filepath.Join(ws, "x.csv"))); err != nil {
		t.Fatal(err)
	}
	b.persist(t, storetest.NewJob("ws", "a", "r1", high, "x.csv"), map[string]string{"x.csv": "new"})
	b.wantTrees(t, "ws", map[string]string{"x.csv": "new"}, map[string]string{})
	if got := readFile(t, outside); got != "mine" {
		t.Errorf("outside: got %q", got)
	}
}

func TestMessageNeverTakesAnOutputsPlace(t *testing.T) {
	t.Parallel()
	bad, text := "patient_id\n1\n", "real text"
	b := newBench(t)
	b.persist(t, storetest.NewJob("ws", "texts", "r1", medium, "t.csv.txt"), map[string]string{"t.csv.txt": text})
	b.persist(t, storetest.NewJob("ws", "tables", "r2", medium, "t.csv"), map[string]string{"t.csv": bad})
	b.wantTrees(t, "ws", map[string]string{"t.csv": bad, "t.csv.txt": text}, map[string]string{"t.csv.txt": text})
	b.persist(t, storetest.NewJob("ws", "tables", "r3", medium, "t.csv"), map[string]string{"t.csv": "x\n"})
	b.wantTrees(t, "ws", map[string]string{"t.csv": "x\n", "t.csv.txt": text}, map[string]string{"t.csv": "x\n", "t.csv.txt": text})

	// The other way round: the output comes when the message is there.
	b.persist(t, storetest.NewJob("w2", "tables", "r4", medium, "t.csv"), map[string]string{"t.csv": bad})
	b.persist(t, storetest.NewJob("w2", "texts", "r5", medium, "t.csv.txt"), map[string]string{"t.csv.txt": text})
	b.wantTrees(t, "w2", map[string]string{"t.csv": bad, "t.csv.txt": text}, map[string]string{"t.csv.txt": text})
}

// A message gives way to an output that needs its name as a folder, of the same
// job or of another; to ask for both must not stop the workspace.
func TestMessageGivesWay(t *testing.T) {
	t.Parallel()
	const bad, good = "patient_id\n1\n", "x\n1\n"
	b := newBench(t)
	b.persist(t, storetest.NewJob("ws", "a", "r1", medium, "out/d", medium, "out/d.txt/f.csv"), map[string]string{"out/d": "1", "out/d.txt/f.csv": good})
	b.wantTrees(t, "ws", map[string]string{"out/d": "1", "out/d.txt/f.csv": good}, map[string]string{"out/d.txt/f.csv": good})

	// That one is withheld, too: its message needs the folder.
	b.persist(t, storetest.NewJob("w2", "a", "r2", medium, "out/d", medium, "out/d.txt/f.csv"), map[string]string{"out/d": "1", "out/d.txt/f.csv": bad})
	b.wantTrees(t, "w2", map[string]string{"out/d": "1", "out/d.txt/f.csv": bad},
		map[string]string{"out/d.txt/f.csv.txt": readFile(t, filepath.Join(b.cfg.Medium, "w2", "out", "d.txt", "f.csv.txt"))})

	// The message is an earlier job's.
	b.persist(t, storetest.NewJob("w3", "a", "r3", medium, "out/d"), map[string]string{"out/d": "1"})
	b.persist(t, storetest.NewJob("w3", "b", "r4", medium, "out/d.txt/f.csv"), map[string]string{"out/d.txt/f.csv": good})
	b.wantTrees(t, "w3", map[string]string{"out/d": "1", "out/d.txt/f.csv": good}, map[string]string{"out/d.txt/f.csv": good})
	b.wantClean(t)
}

// Two processes and many jobs of one workspace: every job is in the manifest.
func TestJobsThatFinishTogether(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run()
	b.start(t) // a second service on the same folders, as another process has it
	const count = 12
	var wg sync.WaitGroup
	deliveries := make([]*messages.Delivery, count)
	for i := range count {
		name := fmt.Sprintf("a%d", i)
		j := storetest.NewJob("ws", name, "r1", medium, name+".txt")
		b.AddJob(j)
		d, err := storetest.Delivery(b.stage(t, j, 1, map[string]string{name + ".txt": name}), 1)
		if err != nil {
			t.Fatal(err)
		}
		deliveries[i] = d
	}
	errs := make([]error, count)
	for i, d := range deliveries {
		wg.Go(func() { errs[i] = b.Deliver(t.Context(), d) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	outputs := b.manifest(t, "ws")["outputs"].(map[string]any)
	for i := range count {
		if outputs[fmt.Sprintf("a%d.txt", i)] == nil {
			t.Errorf("the manifest lacks the output of a%d", i)
		}
	}
	if got := len(b.tree(t, b.cfg.Medium, "ws")); got != count {
		t.Errorf("files: got %d, want %d", got, count)
	}
	b.wantClean(t)
}

// A study's own folder is the highly sensitive workspace; files are moved.
func TestStudy(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	b := newBenchIn(t, t.TempDir())
	b.cfg = disk.Study(folder, filepath.Join(folder, ".sluice", "staging"))
	if err := os.WriteFile(filepath.Join(folder, "project.yaml"), []byte("version: 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	j := storetest.NewJob("study", "a", "r1", high, "output/*.csv", medium, "output/fig.svg")
	j.Created = time.Date(2026, 9, 30, 23, 59, 59, 0, time.UTC) // in another month than it ends
	b.AddJob(j)
	m := b.stage(t, j, 1, map[string]string{"output/x.csv": "1", "output/fig.svg": "<svg>"})
	if err := b.deliver(t, m, 1); err != nil {
		t.Fatal(err)
	}
	b.wantEvent(t, j, messages.Persisted, 1)
	tree, err := storetest.Tree(folder)
	if err != nil {
		t.Fatal(err)
	}
	got := names(tree)
	record := ".sluice/logs/2026-09/" + string(j.ID) + "/"
	want := set([]string{
		"project.yaml", "output/x.csv", "output/fig.svg", "metadata/a.log", "metadata/manifest.json",
		".sluice/medium/study/output/fig.svg", ".sluice/medium/study/metadata/a.log", ".sluice/medium/study/metadata/manifest.json",
		record + "manifest.json", record + "1/logs.txt", record + "1/metadata.json",
		".sluice/staging/" + string(j.ID) + "/1/log", ".sluice/locks/workspace.study",
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the study's folder (-want +got):\n%s", diff)
	}
}

// A file of a time that no plan could hold is persisted like any other, also
// where it is moved out of staging as it is.
func TestOddTimes(t *testing.T) {
	t.Parallel()
	for _, rename := range []bool{false, true} {
		root := t.TempDir()
		if keeps, err := os.MkdirTemp("/dev/shm", "sluice-test-"); err == nil { // a disk may not keep such a time
			t.Cleanup(func() { _ = os.RemoveAll(keeps) })
			root = keeps
		}
		b := newBenchIn(t, root)
		b.cfg.Rename = rename
		j := storetest.NewJob("ws", "a", "r1", high, "a.csv")
		b.AddJob(j)
		b.stage(t, j, 1, map[string]string{"a.csv": "1"})
		file := filepath.Join(storetest.Dir(b.cfg.Staging, j, 1), "files", "a.csv")
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{{Sec: 300e9}, {Sec: 300e9}}, 0); err != nil {
			t.Fatal(err)
		}
		e := storetest.Entry("a.csv", "1")
		e.Time = time.Time{} // as a worker lists it
		m, err := storetest.Message(b.cfg.Staging, j, 1, []messages.File{e}, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.deliver(t, m, 1); err != nil {
			t.Fatal(err)
		}
		b.wantTrees(t, "ws", map[string]string{"a.csv": "1"}, map[string]string{})
	}
}

// A workspace called like the folder of the records gets nowhere near them.
func TestWorkspaceOfOurs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("logs", "a", "r1", high, "a.csv")
	b.AddJob(j)
	m := b.stage(t, j, 1, map[string]string{"a.csv": "1"})
	if err := b.deliver(t, m, 1); err != nil {
		t.Fatal(err)
	}
	if e := b.wantEvent(t, j, messages.Unusable, 0); !strings.Contains(e.Reason, `"logs" would lie in the same folder`) {
		t.Errorf("reason: got %q", e.Reason)
	}
	m.Cancelled = true
	if err := b.deliver(t, m, 1); err != nil {
		t.Fatal(err)
	}
	b.wantEvent(t, j, messages.Discarded, 0)
	if tree, err := storetest.Tree(filepath.Join(b.cfg.High, "logs")); len(tree) != 0 || err != nil {
		t.Errorf("records: got %v, %v", tree, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	if _, err := disk.Open(disk.Config{High: "relative"}); err == nil || !strings.Contains(err.Error(), "staging") || !strings.Contains(err.Error(), "relative") || !strings.Contains(err.Error(), "workers") {
		t.Errorf("Open: got %v, want every mistake", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Open(disk.Default(file, file, "")); err == nil {
		t.Error("Open took a file for a folder")
	}
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	good := persister.DefaultConfig()
	good.Backend = "tpp"
	if err := good.Check(); err != nil {
		t.Errorf("the defaults: got %v", err)
	}
	bad := persister.Config{Backend: "Not Valid", Checks: persister.Checks{MaxRows: -1, Types: []string{"csv"}}}
	err := bad.Check()
	for _, word := range []string{"backend", "concurrency", "tries", "max_size", "max_rows", `"csv"`} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("Check: got %v, want all mistakes, %s too", err, word)
		}
	}
}
