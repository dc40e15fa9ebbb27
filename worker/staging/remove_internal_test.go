package staging

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/internal/needs"
)

// TestRemoveMounts: what is mounted in a tree that is removed is taken away, and
// never looked into, wherever it is.
func TestRemoveMounts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		mounts func(tree string) [][2]string // from outside, to
	}{
		{"a folder", func(tree string) [][2]string { return [][2]string{{"dir", filepath.Join(tree, "a/b")}} }},
		{"a file", func(tree string) [][2]string { return [][2]string{{"dir/file", filepath.Join(tree, "a/f")}} }},
		{"one on another", func(tree string) [][2]string {
			return [][2]string{{"dir", filepath.Join(tree, "a/b")}, {"other", filepath.Join(tree, "a/b")}}
		}},
		{"one in another", func(tree string) [][2]string {
			return [][2]string{{"dir", filepath.Join(tree, "a/b")}, {"other", filepath.Join(tree, "a/b/sub")}}
		}},
		{"in what a removal moved", func(tree string) [][2]string { return [][2]string{{"dir", tree + deep + "3/c"}} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			tree := filepath.Join(top, "tree")
			outside := []string{"dir/file", "dir/sub/file", "other/file"}
			for _, name := range append(outside, "tree/a/b/own", "tree/a/f", "tree"+deep+"3/c/own") {
				path := filepath.Join(top, name)
				must(os.MkdirAll(filepath.Dir(path), 0o755))
				must(os.WriteFile(path, []byte("kept"), 0o600))
			}
			for _, m := range tc.mounts(tree) {
				err := unix.Mount(filepath.Join(top, m[0]), m[1], "", unix.MS_BIND, "")
				if errors.Is(err, unix.EPERM) {
					needs.Missing(t, "nothing can be mounted here: %v", err)
				}
				must(err)
				t.Cleanup(func() { _ = unix.Unmount(m[1], unix.MNT_DETACH) })
			}
			must(removeAll(tree))
			left, err := os.ReadDir(top)
			must(err)
			if len(left) != 2 {
				t.Errorf("left: %v, want dir and other", left)
			}
			for _, name := range outside {
				if _, err := os.Stat(filepath.Join(top, name)); err != nil {
					t.Errorf("what was mounted was looked into: %v", err)
				}
			}
		})
	}
}
