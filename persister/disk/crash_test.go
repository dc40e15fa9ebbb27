package disk_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/persister/storetest"
)

// Environment of a child process that handles one message and is killed at a
// step.
const (
	childRoot = "SLUICE_TEST_ROOT"
	childKind = "SLUICE_TEST_KIND"
	childStep = "SLUICE_TEST_STEP" // the number of the step to be killed at; 0: none
)

func TestMain(m *testing.M) {
	if os.Getenv(childImage) != "" {
		if err := mountShares(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(cannotMount)
		}
		os.Exit(m.Run())
	}
	if os.Getenv(childRoot) != "" {
		work := child
		if os.Getenv(childFull) != "" {
			work = fillChild
		}
		if err := work(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A kind of run that is killed.
type crashKind struct {
	rename bool
	loser  bool // another attempt has the commit
	aside  bool // the job fails, and its files are kept out of its workspace
}

var crashKinds = map[string]crashKind{"copy": {}, "rename": {rename: true}, "loser": {loser: true}, "aside": {aside: true}, "aside, renamed": {aside: true, rename: true}}

const (
	high   = string(messages.HighlySensitive)
	medium = string(messages.ModeratelySensitive)
)

// The first job fills the workspace; the second changes, relabels, drops and
// mends what it left, and wants a file where it had a folder.
func crashJobs() (first, second *messages.Job) {
	first = storetest.NewJob("ws", "a", "r1", high, "h.csv", medium, "m*.csv", medium, "c/d.csv", medium, "gone/*.txt")
	second = storetest.NewJob("ws", "a", "r2", high, "h.csv", high, "m2.csv", medium, "m*.csv", medium, "c", medium, "n/*")
	return first, second
}

// secondJob is the second job, which fails where failed ones are kept aside.
func secondJob(kind crashKind) *messages.Job {
	_, second := crashJobs()
	if kind.aside {
		second.Rules = append(second.Rules, messages.Rule{Tier: messages.HighlySensitive, Name: "never", Pattern: neverLeft})
	}
	return second
}

// neverLeft is a pattern that no file matches.
const neverLeft = "never.csv"

func firstFiles() map[string]string {
	return map[string]string{"h.csv": "1", "m1.csv": "x\n1", "m2.csv": "x\n2", "m3.csv": "patient_id\n3", "c/d.csv": "d", "gone/1.txt": "g", "gone/2.txt": "g"}
}

// h.csv is large: it may still be on its way when the small ones are copied.
func secondFiles() map[string]string {
	return map[string]string{"h.csv": strings.Repeat("11\n", 1<<19), "m1.csv": "x\n11", "m2.csv": "x\n22", "m3.csv": "x\n33", "m4.csv": "patient_id\n4", "c": "file", "n/1.txt": "n1", "n/2.txt": "n2"}
}

// child handles the second job's message in this process.
func child() error {
	root, kind := os.Getenv(childRoot), crashKinds[os.Getenv(childKind)]
	limit, err := strconv.Atoi(os.Getenv(childStep))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var steps []string
	cfg := crashConfig(root, kind)
	cfg.Fault = func(step string) {
		mu.Lock()
		defer mu.Unlock()
		if steps = append(steps, step); len(steps) == limit {
			if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
				panic(err)
			}
			select {}
		}
	}
	if err := handle(root, cfg, secondJob(kind), secondFiles(), 2, false); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "steps"), []byte(strings.Join(steps, "\n")), 0o600)
}

func crashConfig(root string, kind crashKind) disk.Config {
	cfg := disk.Default(filepath.Join(root, "staging"), filepath.Join(root, "high"), filepath.Join(root, "medium"))
	cfg.Rename = kind.rename
	return cfg
}

// handle runs the service on one message, with a fleet that lies in root.
func handle(root string, cfg disk.Config, j *messages.Job, files map[string]string, tries int, stage bool) error {
	m, err := message(cfg.Staging, j, files, stage)
	if err != nil {
		return err
	}
	return deliver(root, cfg, j, m, tries)
}

func deliver(root string, cfg disk.Config, j *messages.Job, m *messages.Files, tries int) error {
	fleet := storetest.NewFleet(root)
	fleet.AddJob(j)
	pc := persister.DefaultConfig()
	pc.FailedAside = j.Rules[len(j.Rules)-1].Pattern == neverLeft
	return deliverTo(fleet, cfg, pc, m, tries)
}

// deliverTo runs the service on one message.
func deliverTo(fleet *storetest.Fleet, cfg disk.Config, pc persister.Config, m *messages.Files, tries int) error {
	d, err := storetest.Delivery(m, tries)
	if err != nil {
		return err
	}
	end, err := start(fleet, cfg, pc)
	if err != nil {
		return err
	}
	return errors.Join(fleet.Deliver(context.Background(), d), end())
}

// start runs the service until it is ended.
func start(fleet *storetest.Fleet, cfg disk.Config, pc persister.Config) (end func() error, err error) {
	store, err := disk.Open(cfg)
	if err != nil {
		return nil, err
	}
	pc.Backend = storetest.Backend
	p, err := persister.New(pc, fleet.Ports(store, func() time.Time { return storetest.Epoch.Add(time.Hour) }), zerolog.Nop())
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() error {
		stop()
		return errors.Join(<-done, store.Close())
	}, nil
}

// message returns the message about an attempt, whose files it puts into
// staging or takes for being there.
func message(staging string, j *messages.Job, files map[string]string, stage bool) (*messages.Files, error) {
	if stage {
		return storetest.Stage(staging, j, 1, files)
	}
	var list []messages.File
	for name, content := range files {
		e := storetest.Entry(name, content)
		if name == "n/1.txt" {
			e.Time = time.Date(2261, 1, 1, 0, 0, 0, 0, time.UTC) // about the latest that a listing may have, and not every file system keeps it
		}
		list = append(list, e)
	}
	return storetest.Message(staging, j, 1, list, fmt.Sprintf("2026-11-20T10:30:00Z %s says hello\n", j.Action))
}

// prepare runs the first job and stages the second.
func prepare(t *testing.T, kind crashKind) string {
	t.Helper()
	root := t.TempDir()
	cfg := crashConfig(root, kind)
	first, second := crashJobs()
	if err := handle(root, cfg, first, firstFiles(), 1, true); err != nil {
		t.Fatal(err)
	}
	if _, err := storetest.Stage(cfg.Staging, second, 1, secondFiles()); err != nil {
		t.Fatal(err)
	}
	if kind.loser {
		key := messages.CommitKey(second.Backend, second.ID)
		if err := storetest.NewFleet(root).CreateCommit(key, &messages.Commit{Job: second.ID, Code: messages.CancelledByUser}); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// runChild handles the second job in a process of its own; wantKilled: it is
// killed on the way.
func runChild(t *testing.T, root, kind string, step int) (killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childRoot+"="+root, childKind+"="+kind, fmt.Sprintf("%s=%d", childStep, step))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if status := cmd.ProcessState; status != nil && !status.Exited() && step > 0 {
		return true
	}
	t.Fatalf("child: %v\n%s", err, out)
	return false
}

// visible reads both tiers and all records, but nothing that is ours alone.
func visible(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, base := range []string{"high", "medium"} {
		tree, err := storetest.Tree(filepath.Join(root, base))
		if err != nil {
			t.Fatal(err)
		}
		for name, content := range tree {
			if !strings.HasPrefix(name, ".sluice/") {
				all[base+"/"+name] = content
			}
		}
	}
	return all
}

// outputs leaves only what lies in the workspace.
func outputs(all map[string]string) map[string]string {
	list := map[string]string{}
	for name, content := range all {
		if strings.HasPrefix(name, "high/ws/") || strings.HasPrefix(name, "medium/ws/") {
			list[name] = content
		}
	}
	return list
}

// Killed at any step, and after each single rename, the next process makes of
// it exactly what a calm run does.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name, kind := range crashKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calm := prepare(t, kind)
			before := outputs(visible(t, calm))
			runChild(t, calm, name, 0)
			want := visible(t, calm)
			if kind.loser != (cmp.Diff(before, outputs(want)) == "") {
				t.Fatalf("the calm run of %s changed the workspace: %v", name, !kind.loser)
			}
			data, err := os.ReadFile(filepath.Join(calm, "steps"))
			if err != nil {
				t.Fatal(err)
			}
			steps := strings.Split(string(data), "\n")
			wantSteps(t, kind, steps)
			for i, step := range steps {
				t.Run(fmt.Sprintf("%d %s", i+1, step), func(t *testing.T) {
					t.Parallel()
					crashAt(t, name, kind, i+1, before, want)
				})
			}
		})
	}
}

func crashAt(t *testing.T, name string, kind crashKind, step int, before, want map[string]string) {
	root := prepare(t, kind)
	if !runChild(t, root, name, step) {
		t.Fatal("the child was not killed")
	}
	second := secondJob(kind)
	_, err := storetest.NewFleet(root).Commit(messages.CommitKey(second.Backend, second.ID))
	committed := err == nil && !kind.loser
	if !committed {
		if diff := cmp.Diff(before, outputs(visible(t, root))); diff != "" {
			t.Errorf("there is no commit, and something is visible (-before +after):\n%s", diff)
		}
	}
	if committed && !kind.rename {
		// From the commit on staging is not needed any more.
		if err := os.RemoveAll(filepath.Join(root, "staging")); err != nil {
			t.Fatal(err)
		}
	}
	if err := handle(root, crashConfig(root, kind), second, secondFiles(), 2, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, visible(t, root)); diff != "" {
		t.Errorf("after recovery (-calm +got):\n%s", diff)
	}
	wantClean(t, root)
}

func wantClean(t *testing.T, root string) {
	t.Helper()
	for _, base := range []string{"high", "medium"} {
		err := filepath.WalkDir(filepath.Join(root, base, ".sluice"), func(name string, e os.DirEntry, err error) error {
			if err == nil && strings.Contains(e.Name(), "ws.") {
				t.Errorf("%s is left", name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantSteps makes sure that the runs reach all that can be reached.
func wantSteps(t *testing.T, kind crashKind, steps []string) {
	t.Helper()
	got := map[string]int{}
	for _, s := range steps {
		got[strings.TrimPrefix(s, "persister.")]++
	}
	want := map[string]int{
		"between-copies": 8, "after-copy": 1, "after-share": 1, "before-commit": 1, "after-commit": 1, "after-journal": 1,
		// Away from the moderately sensitive tier: c/d.csv, gone/1.txt, gone/2.txt,
		// m2.csv, the message about m3.csv; from the other one: c/d.csv.
		"between-removals": 6,
		// 8 files, 5 shared, a message, the record's two, the job's manifest, the
		// action's log twice.
		"between-renames": 8 + 5 + 1 + 2 + 1 + 2, "before-manifest": 1, "between-manifests": 2, "before-done": 1, "after-done": 1,
	}
	switch {
	case kind.loser:
		want = map[string]int{"between-records": 2}
	case kind.aside:
		want["between-renames"] = 8 + 2 + 1 + 2
		delete(want, "after-share")
		delete(want, "between-removals")
		delete(want, "between-manifests")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps of the calm run (-want +got):\n%s", diff)
	}
}
