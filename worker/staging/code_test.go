package staging_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
)

func owner(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// TestSharedCode: attempts of one commit share one extraction, also when they
// come at once.
func TestSharedCode(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, tree{"a": "1"})
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			action := newAction()
			action.Attempt = n + 1
			if _, err := s.Prepare(t.Context(), action); err != nil {
				t.Errorf("Prepare: %v", err)
			}
		})
	}
	all.Wait()
	if got := s.code.calls.Load(); got != 1 {
		t.Errorf("the commit was extracted %d times, want once", got)
	}
}

// TestEviction: the extractions that were used longest ago go, none that is in
// use.
func TestEviction(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, tree{"a": "1"})
	inUse := s.prepare(t, newAction())
	for n := range 5 {
		action := newAction()
		action.Attempt, action.Commit = n+2, fmt.Sprintf("%040d", n)
		s.code.commits[action.Commit] = tree{"a": action.Commit}
		w, err := s.Prepare(t.Context(), action)
		do(t, err)
		do(t, s.Release(w), s.Remove(job, n+2))
	}
	if got := s.kept(t); got > 3 {
		t.Errorf("%d extractions are kept, want two and the one in use", got)
	}
	if diff := cmp.Diff(tree{"a": "1"}, read(t, inUse.Mount)); s.Overlay() && diff != "" {
		t.Errorf("the workspace in use changed (-want +got):\n%s", diff)
	}
}

// TestEvictionBySize: few large commits take up as much as many small ones.
func TestEvictionBySize(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, nil)
	for n, want := range []int{1, 1, 2} {
		action := newAction()
		action.Attempt, action.Commit = n+1, fmt.Sprintf("%040d", n)
		s.code.commits[action.Commit] = tree{"a": strings.Repeat("x", 3000-400*n)}
		w := s.prepare(t, action)
		if got := s.kept(t); got != want {
			t.Errorf("after commit %d, %d are kept, want %d", n, got, want)
		}
		do(t, s.Release(w), s.Remove(job, n+1))
	}
}

func (s *site) kept(t *testing.T) int {
	t.Helper()
	trees, err := os.ReadDir(filepath.Join(s.dir, "cache", "code"))
	do(t, err)
	return len(trees)
}

// TestBadSource: a Failure of the source stays one, and leaves nothing behind.
func TestBadSource(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, nil)
	delete(s.code.commits, commit)
	for range 2 {
		_, err := s.Prepare(t.Context(), newAction())
		var failure *messages.Failure
		if !errors.As(err, &failure) {
			t.Errorf("Prepare error = %v, want a Failure", err)
		}
	}
	if got := s.kept(t); got != 0 {
		t.Errorf("%d extractions are kept, want none", got)
	}
	if _, err := os.Stat(s.Dir(job, 1)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("staging of the attempt: %v, want it gone", err)
	}
}

// TestCancelledWhileStaging: both who extracts and who waits for that end with
// their own contexts.
func TestCancelledWhileStaging(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, tree{"a": "1"})
	s.code.enter, s.code.leave = make(chan struct{}), make(chan struct{})
	cause := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	waits, cancelWaits := context.WithCancelCause(t.Context())
	results := make(chan error)
	go func() {
		_, err := s.Prepare(ctx, newAction())
		results <- err
	}()
	<-s.code.enter
	go func() {
		action := newAction()
		action.Attempt = 2
		_, err := s.Prepare(waits, action)
		results <- err
	}()
	cancelWaits(cause)
	if err := <-results; !errors.Is(err, cause) {
		t.Errorf("the one that waits ended with %v, want its context's cause", err)
	}
	cancel(cause)
	if err := <-results; err == nil {
		t.Error("the one that extracts went on")
	}
	if got := s.kept(t); got != 0 {
		t.Errorf("%d extractions are kept, want none that is half made", got)
	}
}

// TestEarlierOutputs: what earlier runs left is no code, though the project names
// it no more; a manifest that is none says what to do.
func TestEarlierOutputs(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, nil)
	folder := filepath.Join(s.dir, "study")
	tree{"code": "c", "old/name.csv": "left", "old/code": "c", "metadata/manifest.json": `{"outputs":{"old/name.csv":{"level":"x"},"../../etc/passwd":null}}`}.write(t, folder)
	action := newAction()
	action.Repo, action.Commit = folder, messages.WorkingFolder
	w := s.prepare(t, action)
	if diff := cmp.Diff(tree{"code": "c", "old/code": "c"}, read(t, w.Mount)); diff != "" {
		t.Errorf("workspace mismatch (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"{", "[]"} {
		tree{"metadata/manifest.json": bad}.write(t, folder)
		action.Attempt++
		if _, err := s.Prepare(t.Context(), action); err == nil {
			t.Errorf("Prepare with manifest %s succeeded", bad)
		}
	}
}

// TestWorkingFolder: `sluice run` gives an action the study's folder as it lies,
// but for outputs and what is ours.
func TestWorkingFolder(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, copied bool) {
		s := newSite(t, copied, nil)
		folder := filepath.Join(s.dir, "study")
		tree{
			"project.yaml": "p", "analysis/a.R": "a", ".hidden": "h", "output/x.csv": "an output", "output/y.txt": "y", "output/deep/x.csv": "kept: * crosses no slash",
			"output/dir.csv/inner": "a folder is not an output", ".git/config": "g", ".sluice/db": "s", "metadata/a.log": "m", "analysis/metadata/kept": "k", "analysis/.git/kept": "k",
		}.write(t, folder)
		do(t, os.Symlink("/etc/passwd", filepath.Join(folder, "link")), os.Symlink(folder, filepath.Join(s.dir, "here")), syscall.Mkfifo(filepath.Join(folder, "fifo"), 0o600))
		do(t, os.Chmod(filepath.Join(folder, "analysis/a.R"), 0o755))
		action := newAction()
		action.Repo, action.Commit, action.Patterns = filepath.Join(s.dir, "here"), messages.WorkingFolder, []string{"output/*.csv", "nothing/*"}
		w := s.prepare(t, action)
		want := tree{
			"project.yaml": "p", "analysis/a.R": "a", ".hidden": "h", "output/y.txt": "y", "output/deep/x.csv": "kept: * crosses no slash",
			"output/dir.csv/inner": "a folder is not an output", "analysis/metadata/kept": "k", "analysis/.git/kept": "k",
		}
		if diff := cmp.Diff(want, read(t, w.Mount)); diff != "" {
			t.Errorf("workspace mismatch (-want +got):\n%s", diff)
		}
		if link, err := os.Readlink(filepath.Join(w.Mount, "link")); err != nil || link != "/etc/passwd" {
			t.Errorf("link = %q, %v, want it as it is", link, err)
		}
		if info, err := os.Stat(filepath.Join(w.Mount, "analysis/a.R")); err != nil || info.Mode().Perm()&0o100 == 0 {
			t.Errorf("a program = %v, %v, want it executable", info, err)
		}
		if got := s.listed(t, w); len(got) != 0 {
			t.Errorf("before the attempt did anything %v is listed", got)
		}
	})
}
