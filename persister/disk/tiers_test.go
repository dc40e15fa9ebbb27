package disk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/messages"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/persister/storetest"
)

// TestAnyState: whatever an earlier job or an operator's hands left in a
// workspace, a job's files become visible as they should, or it is refused
// before its commit, with a reason, and nothing has changed (I3). A commit
// whose change cannot be carried out to the end would stop its workspace.
func TestAnyState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		w := &workspace{root: root, fleet: storetest.NewFleet(root), cfg: crashConfig(root, crashKind{})}
		hands := rapid.Bool().Draw(t, "hands")
		actions := actionNames[:rapid.IntRange(1, len(actionNames)).Draw(t, "actions")]
		w.mustPersist = !hands && len(actions) == 1
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			if hands && rapid.IntRange(0, 2).Draw(t, "who") == 0 {
				w.meddle(t)
			} else {
				w.job(t, actions)
			}
		}
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
	})
}

var actionNames = []string{"a", "b", "c"}

// Names are few, so that outputs, folders and messages meet.
var (
	anyName = rapid.SampledFrom([]string{"d", "d.txt", "d.csv", "d.csv.txt"})
	anyPath = rapid.Custom(func(t *rapid.T) string {
		return path.Join(rapid.SliceOfN(anyName, 1, 2).Draw(t, "parts")...)
	})
)

// A workspace is what TestAnyState fills.
type workspace struct {
	root        string
	fleet       *storetest.Fleet
	cfg         disk.Config
	jobs        int
	mustPersist bool // there is nothing that a job could be refused for
}

// meddle is an operator's hand in a tier.
func (w *workspace) meddle(t *rapid.T) {
	base := rapid.SampledFrom([]string{w.cfg.High, w.cfg.Medium}).Draw(t, "tier")
	at := rapid.OneOf(anyPath, rapid.SampledFrom([]string{"metadata", "metadata/manifest.json", "metadata/a.log", "metadata/a.log/x"})).Draw(t, "at")
	full := filepath.Join(base, "ws", at)
	make := func() error { return os.MkdirAll(filepath.Dir(full), 0o755) }
	var err error
	switch rapid.SampledFrom([]string{"file", "folder", "link", "remove"}).Draw(t, "hand") {
	case "file":
		err = errors.Join(make(), os.WriteFile(full, []byte("by hand"), 0o600))
	case "folder":
		err = os.MkdirAll(full, 0o755)
	case "link":
		err = errors.Join(make(), os.Symlink("/etc", full))
	case "remove":
		err = os.RemoveAll(full)
	}
	var where *fs.PathError
	var link *os.LinkError
	if err != nil && !errors.As(err, &where) && !errors.As(err, &link) { // something else is there
		t.Fatal(err)
	}
}

// An output that a job is to make.
type made struct {
	tier    string
	content string
	allowed bool
}

// shared reports whether the moderately sensitive tier is to have it.
func (m made) shared() bool { return m.tier == medium && m.allowed }

// job runs one and compares what it left with what it should.
func (w *workspace) job(t *rapid.T, actions []string) {
	w.jobs++
	request := fmt.Sprintf("r%d", w.jobs)
	action := rapid.SampledFrom(actions).Draw(t, "action")
	outputs := map[string]made{}
	for _, p := range rapid.SliceOfNDistinct(anyPath, 0, 5, rapid.ID).Draw(t, "outputs") {
		if slices.ContainsFunc(slices.Collect(maps.Keys(outputs)), func(q string) bool { return beneath(p, q) || beneath(q, p) }) {
			continue // no disk can have both
		}
		m := made{tier: rapid.SampledFrom([]string{high, medium}).Draw(t, "level"), content: "x " + request + "\n", allowed: !strings.HasSuffix(p, "d")}
		if strings.HasSuffix(p, ".csv") && rapid.Bool().Draw(t, "patients") {
			m.content, m.allowed = "patient_id "+request+",patient_id\n", false
		}
		outputs[p] = m
	}
	var rules []string
	files := map[string]string{}
	for _, p := range slices.Sorted(maps.Keys(outputs)) {
		rules = append(rules, outputs[p].tier, p)
		files[p] = outputs[p].content
	}
	j := storetest.NewJob("ws", action, request, rules...)
	w.fleet.AddJob(j)
	if rapid.Bool().Draw(t, "planned") {
		has := slices.Compact(slices.Sorted(slices.Values(append(rapid.SliceOfDistinct(rapid.SampledFrom(actions), rapid.ID).Draw(t, "project"), action))))
		w.fleet.Plans[messages.PlanKey(j.Backend, j.Workspace, j.Request)] = &messages.Plan{Actions: has}
	}
	m, err := storetest.Stage(w.cfg.Staging, j, 1, files)
	if err != nil {
		t.Fatal(err)
	}
	m.ExitCode = rapid.IntRange(0, 1).Draw(t, "exit code")
	pc := persister.DefaultConfig()
	pc.DeleteObsolete = rapid.Bool().Draw(t, "delete obsolete")
	before := w.look(t)
	if err := deliverTo(w.fleet, w.cfg, pc, m, 1000); err != nil {
		t.Fatalf("job %s of action %s: %v", request, action, err)
	}
	verdict, reason := w.verdict(t, j)
	after := w.look(t)
	_, err = w.fleet.Commit(messages.CommitKey(j.Backend, j.ID))
	switch {
	case verdict == messages.Unusable && reason != "" && errors.Is(err, messages.ErrNotFound) && !w.mustPersist:
		if diff := cmp.Diff(before.high, after.high) + cmp.Diff(before.medium, after.medium); diff != "" {
			t.Fatalf("job %s was refused (%s), and something has changed (-before +after):\n%s", request, reason, diff)
		}
	case verdict == messages.Persisted && err == nil:
		w.compare(t, change{action, m.ExitCode == 0, pc.DeleteObsolete, outputs}, before, after)
	default:
		t.Fatalf("job %s: verdict %s, reason %q, commit %v", request, verdict, reason, err)
	}
	for _, ours := range []string{"high/.sluice/journal", "high/.sluice/tmp", "medium/.sluice/tmp"} {
		if left, err := os.ReadDir(filepath.Join(w.root, ours)); len(left) > 0 || err != nil {
			t.Fatalf("%s: %v, %v", ours, left, err)
		}
	}
}

// verdict returns what the persister said of a job.
func (w *workspace) verdict(t *rapid.T, j *messages.Job) (messages.Verdict, string) {
	all, err := w.fleet.Events()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(all), "\n")
	_, payload, _ := strings.Cut(lines[len(lines)-1], "{")
	e := &messages.PersisterEvent{}
	if err := messages.Decode([]byte("{"+payload), e); err != nil || e.Job != j.ID {
		t.Fatalf("the last event: %v, %+v", err, e)
	}
	return e.Verdict, e.Reason
}

// What a workspace has: everything but folders, by its path in each tier.
type seen struct {
	high, medium map[string]string
	manifest     map[messages.Path]*persister.ManifestEntry
}

func (w *workspace) look(t *rapid.T) seen {
	s := seen{high: everything(t, filepath.Join(w.cfg.High, "ws")), medium: everything(t, filepath.Join(w.cfg.Medium, "ws"))}
	for _, tier := range []map[string]string{s.high, s.medium} {
		if m, err := persister.ParseManifest([]byte(strings.TrimPrefix(tier["metadata/manifest.json"], "file "))); err == nil && s.manifest == nil {
			s.manifest = m.Outputs
		}
	}
	return s
}

func everything(t *rapid.T, base string) map[string]string {
	all := map[string]string{}
	err := filepath.WalkDir(base, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(base, name)
		if err != nil {
			return err
		}
		if all[rel] = e.Type().String(); e.Type().IsRegular() {
			data, err := os.ReadFile(name)
			all[rel] = "file " + string(data)
			return err
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

// beneath reports whether p lies in folder q.
func beneath(p, q string) bool { return strings.HasPrefix(p, q+"/") }
