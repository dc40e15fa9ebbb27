package git_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"sluice/internal/git"
)

// TestDiffer: files that changed, came or went between two commits, of those
// that are asked about.
func TestDiffer(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("same.R", "1")
	r.write("changed.R", "1")
	r.write("gone.R", "1")
	r.write("other.R", "1")
	one := r.commit("one")
	r.write("changed.R", "2")
	r.write("other.R", "2")
	r.write("came.R", "1")
	r.git("rm", "-q", "gone.R")
	two := r.commit("two")
	m := fetched(t, r, one)
	asked := []string{"same.R", "changed.R", "gone.R", "came.R", "neither.R", "../x", "/etc/passwd", "", "--output", "-x", "*.R"}
	if _, err := m.Differ(t.Context(), r.dir, one, two, asked); !errors.Is(err, git.ErrNotFetched) {
		t.Errorf("of a commit that was not fetched: %v", err)
	}
	if err := m.Fetch(t.Context(), r.dir, "main", two); err != nil {
		t.Fatal(err)
	}
	got, err := m.Differ(t.Context(), r.dir, one, two, asked)
	if slices.Sort(got); err != nil || strings.Join(got, " ") != "came.R changed.R gone.R" {
		t.Errorf("Differ = %q, %v", got, err)
	}
	if got, err := m.Differ(t.Context(), r.dir, one, two, []string{"same.R"}); err != nil || len(got) > 0 {
		t.Errorf("Differ of a file that is the same = %q, %v", got, err)
	}
}
