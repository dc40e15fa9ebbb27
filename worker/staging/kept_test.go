package staging_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/needs"
	"sluice/messages"
	"sluice/worker/staging"
)

// given is the file that an attempt was given at a path, below its overlay.
func given(t *testing.T, w *staging.Workspace, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(filepath.Join(w.Dir, "inputs", path))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestKeptInputs: what one attempt was given another is given without a copy,
// and neither sees what the other does to it.
func TestKeptInputs(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, tree{"code": "1"})
	if !s.Overlay() {
		needs.Missing(t, "no overlay can be mounted here: nothing is kept")
	}
	action := newAction()
	action.Inputs = []messages.Input{s.input(t, "one", tree{"output/a": "abc", "output/same": "abc", "output/large": strings.Repeat("x", 600)})}
	first := s.prepare(t, action)
	do(t, os.WriteFile(filepath.Join(first.Mount, "output/a"), []byte("ABC"), 0o644), os.Remove(filepath.Join(first.Mount, "output/same")))
	if got := s.listed(t, first); len(got) != 1 {
		t.Errorf("listed = %v, want what was changed", got)
	}
	action.Attempt = 2
	second := s.prepare(t, action)
	if !os.SameFile(given(t, first, "output/a"), given(t, second, "output/a")) {
		t.Error("an input was copied again")
	}
	if os.SameFile(given(t, first, "output/large"), given(t, second, "output/large")) {
		t.Error("a file that is too large to be kept was kept")
	}
	want := tree{"code": "1", "output/a": "abc", "output/same": "abc", "output/large": strings.Repeat("x", 600)}
	if diff := cmp.Diff(want, read(t, second.Mount)); diff != "" {
		t.Errorf("the second attempt's workspace (-want +got):\n%s", diff)
	}
	if got := s.listed(t, second); len(got) != 0 {
		t.Errorf("before the second attempt did anything %v is listed", got)
	}

	// An attempt's end takes nothing from another, nor from what is kept.
	do(t, s.Release(first), s.Release(second), s.Remove(action.Job, 1), s.Remove(action.Job, 2))
	action.Attempt = 3
	if diff := cmp.Diff(want, read(t, s.prepare(t, action).Mount)); diff != "" {
		t.Errorf("the third attempt's workspace (-want +got):\n%s", diff)
	}
	s.open(t, false)
	if left, err := os.ReadDir(filepath.Join(s.dir, "cache", "inputs")); err != nil || len(left) != 0 {
		t.Errorf("after a restart %v is kept, %v, want nothing", left, err)
	}
}

// TestKeptInputsAreTheTiers: a file that is kept does not stand in for one of the
// tier that is gone, or that is not what it was.
func TestKeptInputsAreTheTiers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(path string) error
		want   string
	}{
		"gone":     {os.Remove, "doesn't exist"},
		"replaced": {func(path string) error { return os.WriteFile(path, []byte("xyz"), 0o644) }, "changed since"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false, tree{"code": "1"})
			action := newAction()
			action.Inputs = []messages.Input{s.input(t, "one", tree{"output/a": "abc"})}
			s.prepare(t, action)
			do(t, tc.change(filepath.Join(s.high(), "output/a")))
			action.Attempt = 2
			if _, err := s.Prepare(t.Context(), action); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Prepare = %v, want %q", err, tc.want)
			}
		})
	}
}

// TestNothingKeptWithCopies: without overlays an attempt could write what is
// kept.
func TestNothingKeptWithCopies(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, tree{"code": "1"})
	action := newAction()
	action.Inputs = []messages.Input{s.input(t, "one", tree{"output/a": "abc"})}
	first := s.prepare(t, action)
	do(t, os.WriteFile(filepath.Join(first.Mount, "output/a"), []byte("ABC"), 0o644))
	action.Attempt = 2
	if diff := cmp.Diff(tree{"code": "1", "output/a": "abc"}, read(t, s.prepare(t, action).Mount)); diff != "" {
		t.Errorf("the second attempt's workspace (-want +got):\n%s", diff)
	}
}
