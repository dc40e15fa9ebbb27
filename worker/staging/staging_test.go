package staging_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sluice/messages"
	"sluice/worker/staging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tree is the contents of files by path.
type tree map[string]string

func (files tree) write(t testing.TB, dir string) {
	t.Helper()
	for path, content := range files {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, dir string) tree {
	t.Helper()
	files := tree{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		data, err := os.ReadFile(path)
		files[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// fakeCode extracts trees by commit.
type fakeCode struct {
	commits map[string]tree
	calls   atomic.Int32
	enter   chan struct{} // told at each call, if not nil
	leave   chan struct{} // waited for in each call, if not nil
}

func (c *fakeCode) Extract(ctx context.Context, src messages.Source, dir string) error {
	c.calls.Add(1)
	if c.enter != nil {
		c.enter <- struct{}{}
		select {
		case <-c.leave:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	files, ok := c.commits[src.Commit]
	if !ok {
		return messages.Failf(messages.JobError, "commit %s is not there", src.Commit)
	}
	for path, content := range files {
		full := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// A site is a staging area with a tier and code beside it.
type site struct {
	*staging.Area
	dir  string
	code *fakeCode
}

const workspace = "ws"

func (s *site) high() string { return filepath.Join(s.dir, "high", workspace) }

func (s *site) config(copied bool) staging.Config {
	return staging.Config{
		Worker: "w1", Root: filepath.Join(s.dir, "staging"), Cache: filepath.Join(s.dir, "cache"), Records: filepath.Join(s.dir, "high", "logs"),
		High: func(ws string) string { return filepath.Join(s.dir, "high", ws) }, UID: uid(), GID: gid(), Copy: copied, Trees: 2, TreeBytes: 5000, Kept: 1000, Log: zerolog.Nop(),
	}
}

// uid is whom the attempts of these tests run as: whoever runs the tests, but
// for root, who can give files away.
func uid() int {
	if os.Geteuid() == 0 {
		return 10000
	}
	return os.Geteuid()
}

func gid() int {
	if os.Geteuid() == 0 {
		return 10000
	}
	return os.Getegid()
}

func newSite(t testing.TB, copied bool, code tree) *site {
	t.Helper()
	return newSiteIn(t, t.TempDir(), copied, code)
}

func newSiteIn(t testing.TB, dir string, copied bool, code tree) *site {
	t.Helper()
	// What a mount's options could stumble over is part of the path.
	dir = filepath.Join(dir, "a,b:c=d e\\040\tf")
	s := &site{dir: dir, code: &fakeCode{commits: map[string]tree{commit: code}}}
	if err := os.MkdirAll(s.high(), 0o755); err != nil {
		t.Fatal(err)
	}
	s.open(t, copied)
	t.Cleanup(func() {
		if err := s.Sweep(func(messages.JobID, int) bool { return false }); err != nil {
			t.Errorf("Sweep: %v", err)
		}
	})
	return s
}

func (s *site) open(t testing.TB, copied bool) {
	t.Helper()
	area, err := staging.Open(s.config(copied), s.code)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	s.Area = area
}

const commit = "0123456789012345678901234567890123456789"

var job = messages.NewJobID("staging", "action")

func newAction() *messages.Action {
	return &messages.Action{Job: job, Attempt: 1, Workspace: workspace, Name: "action", Source: messages.Source{Repo: "https://example.org/x", Commit: commit}}
}

// input puts files into the tier as an earlier job of an action left them.
func (s *site) input(t testing.TB, action string, files tree) messages.Input {
	t.Helper()
	files.write(t, s.high())
	m := &messages.JobManifest{Job: messages.NewJobID("earlier", action), Attempt: 1, Backend: "test", Workspace: workspace, Action: action}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		m.Files = append(m.Files, messages.ManifestFile{
			Path: messages.Path(path), Size: int64(len(files[path])), Digest: messages.Digest([]byte(files[path])), Tier: messages.HighlySensitive,
		})
	}
	return s.manifest(t, m)
}

func (s *site) manifest(t testing.TB, m *messages.JobManifest) messages.Input {
	t.Helper()
	data, err := messages.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	in := messages.Input{Action: m.Action, Job: m.Job, Created: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Manifest: messages.Digest(data)}
	dir := filepath.Join(s.dir, "high", "logs", "2026-11", string(m.Job))
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "manifest.json"), data, 0o644)); err != nil {
		t.Fatal(err)
	}
	return in
}

// bothWays runs a test with an overlay, where one can be mounted, and with
// copies.
func bothWays(t *testing.T, test func(t *testing.T, copied bool)) {
	for _, copied := range []bool{false, true} {
		name := "overlay"
		if copied {
			name = "copy"
		} else if !newSite(t, false, nil).Overlay() {
			if os.Geteuid() == 0 {
				t.Error("this user is root and cannot mount an overlay: run these tests with CAP_SYS_ADMIN")
			}
			t.Log("no overlay can be mounted by this user: copies are tested alone")
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, copied)
		})
	}
}

func (s *site) prepare(t testing.TB, action *messages.Action) *staging.Workspace {
	t.Helper()
	w, err := s.Prepare(t.Context(), action)
	if err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Release(w); err != nil {
			t.Errorf("Release: %v", err)
		}
	})
	return w
}

// listed is what Inspect finds, in short.
func (s *site) listed(t testing.TB, w *staging.Workspace) map[string]string {
	t.Helper()
	files, err := s.Inspect(t.Context(), w)
	if err != nil {
		t.Fatalf("Inspect: %v", err)
	}
	out := map[string]string{}
	last := messages.Path("")
	for _, f := range files {
		if f.Path <= last && last != "" {
			t.Errorf("%s comes after %s: the listing is not sorted", f.Path, last)
		}
		last = f.Path
		if err := f.Check(); err != nil {
			t.Errorf("entry is not valid: %v", err)
		}
		out[string(f.Path)] = string(f.Kind)
		if f.Kind == messages.KindFile {
			data, err := os.ReadFile(filepath.Join(w.Dir, "files", string(f.Path)))
			if err != nil || f.Size != int64(len(data)) || f.Digest != messages.Digest(data) {
				t.Errorf("%s is listed with %d bytes and digest %s, want those of what lies there (%v)", f.Path, f.Size, f.Digest, err)
			}
			out[string(f.Path)] = string(data)
		}
	}
	return out
}

func do(t testing.TB, steps ...error) {
	t.Helper()
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
}

func TestWorkspace(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, copied bool) {
		s := newSite(t, copied, tree{"analysis/model.R": "code", "project.yaml": "p", "output/.gitkeep": "", "gone/a": "1", "dir/x": "x", "same.txt": "same"})
		action := newAction()
		action.Inputs = []messages.Input{s.input(t, "one", tree{"output/in.csv": "a,b\n", "output/deep/in2.csv": "2"}), s.input(t, "two", tree{"output/other.csv": "3", "analysis/model.R": "an output over code"})}
		s.code.commits[commit]["output/in.csv"] = "old, in git"
		w := s.prepare(t, action)

		want := tree{
			"analysis/model.R": "an output over code", "project.yaml": "p", "output/.gitkeep": "", "gone/a": "1", "dir/x": "x", "same.txt": "same",
			"output/in.csv": "a,b\n", "output/deep/in2.csv": "2", "output/other.csv": "3",
		}
		if diff := cmp.Diff(want, read(t, w.Mount)); diff != "" {
			t.Errorf("workspace mismatch (-want +got):\n%s", diff)
		}
		if got := s.listed(t, w); len(got) != 0 {
			t.Errorf("before the attempt did anything %v is listed", got)
		}
		at := func(path string) string { return filepath.Join(w.Mount, path) }
		opened, err := os.OpenFile(at("same.txt"), os.O_RDWR, 0)
		do(t, err, opened.Close())
		old := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
		do(t,
			os.WriteFile(at("output/new.csv"), []byte("new"), 0o600),
			os.WriteFile(at("project.yaml"), []byte("q"), 0o644), os.Chtimes(at("project.yaml"), old, old),
			os.RemoveAll(at("gone")),
			os.Rename(at("dir/x"), at("dir/y")),
			os.WriteFile(at("output/old.csv"), []byte("old"), 0o644), os.Chtimes(at("output/old.csv"), old, old),
			os.MkdirAll(at("empty/folder"), 0o755),
		)
		wantListed := map[string]string{"output/new.csv": "new", "project.yaml": "q", "dir/y": "x", "output/old.csv": "old"}
		if diff := cmp.Diff(wantListed, s.listed(t, w)); diff != "" {
			t.Errorf("listing mismatch (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(tree{"a,b\n": ""}, tree{read(t, s.high())["output/in.csv"]: ""}); diff != "" {
			t.Errorf("the tier was changed (-want +got):\n%s", diff)
		}
		if len(w.Given) != 11 || w.Bytes != 25 {
			t.Errorf("given = %v, %d bytes, want 11 files and 25 bytes of inputs", w.Given, w.Bytes)
		}

		// After a restart the same is found again.
		s.open(t, copied)
		again, err := s.Resume(job, 1, w.Given)
		do(t, err)
		if diff := cmp.Diff(wantListed, s.listed(t, again)); diff != "" {
			t.Errorf("listing after a restart mismatch (-want +got):\n%s", diff)
		}
		do(t, s.Release(again))
		if !copied {
			if _, err := s.Resume(job, 1, nil); err == nil || !strings.Contains(err.Error(), "not mounted") {
				t.Errorf("Resume without the mount = %v, want an error that says so", err)
			}
		}
		do(t, s.Remove(job, 1), s.Remove(job, 1))
		if left, err := os.ReadDir(filepath.Join(s.dir, "staging")); err != nil || len(left) != 0 {
			t.Errorf("staging has %v, %v after Remove, want nothing", left, err)
		}
		if _, err := s.Resume(job, 1, nil); err == nil {
			t.Error("Resume of an attempt that was removed succeeded")
		}
	})
}

// TestOwner: an action may write wherever its study has folders, and change
// what it was given.
func TestOwner(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, copied bool) {
		s := newSite(t, copied, tree{"output/.gitkeep": "", "a/b/c": ""})
		action := newAction()
		action.Inputs = []messages.Input{s.input(t, "one", tree{"in/deep/in.csv": "1"})}
		w := s.prepare(t, action)
		for _, path := range []string{".", "output", "output/.gitkeep", "a/b", "in", "in/deep", "in/deep/in.csv"} {
			info, err := os.Lstat(filepath.Join(w.Mount, path))
			do(t, err)
			if got := owner(info); got != uid() {
				t.Errorf("%s belongs to user %d, want %d", path, got, uid())
			}
		}
	})
}
