package staging

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sluice/messages"
)

// TestChanging: a file that is not what the walk saw is an error, whatever was
// done to it.
func TestChanging(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(path string, info os.FileInfo) error
		want   error
	}{
		{"nothing", func(string, os.FileInfo) error { return nil }, nil},
		{"longer", func(path string, _ os.FileInfo) error { return os.WriteFile(path, []byte("longer than it was"), 0o600) }, ErrChanging},
		{"as long, with its old time", func(path string, info os.FileInfo) error {
			return errors.Join(os.WriteFile(path, []byte("CONTENT"), 0o600), os.Chtimes(path, info.ModTime(), info.ModTime()))
		}, ErrChanging},
		{"another file, with its old time", func(path string, info os.FileInfo) error {
			return errors.Join(os.WriteFile(path+".new", []byte("CONTENT"), 0o600), os.Chtimes(path+".new", info.ModTime(), info.ModTime()), os.Rename(path+".new", path))
		}, ErrChanging},
		{"a link to itself", func(path string, _ os.FileInfo) error {
			return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
		}, errSomething},
		{"gone", func(path string, _ os.FileInfo) error { return os.Remove(path) }, os.ErrNotExist},
		{"a second link", func(path string, _ os.FileInfo) error { return os.Link(path, path+".link") }, ErrChanging},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
				t.Fatal(err)
			}
			past := time.Now().Add(-time.Hour)
			if err := os.Chtimes(path, past, past); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			root, err := openDir(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			found, _, err := (&Area{}).look(t.Context(), &Workspace{}, root)
			if err != nil || len(found) != 1 {
				t.Fatalf("look = %v, %v, want the file", found, err)
			}
			awaitTick(t, root.Name())
			if err := tc.change(path, info); err != nil {
				t.Fatal(err)
			}
			err = digests(t.Context(), root, found)
			if tc.want == errSomething && err != nil {
				return
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("digests error = %v, want %v", err, tc.want)
			}
		})
	}
}

// TestDigests: each file has its own digest, whatever its size and wherever it lies
// among others, and what is no file has none.
func TestDigests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := map[messages.Path]string{"link": "", "fifo": ""}
	for i, size := range []int{0, 3 << 20, 1, 1 << 20, 5, 1<<20 + 1, 2 << 20, 300 << 10, 3 << 20, 7} {
		name, data := fmt.Sprintf("%d", i), bytes.Repeat([]byte{byte(i)}, size)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		want[messages.Path(name)] = messages.Digest(data)
	}
	if err := errors.Join(os.Symlink("0", filepath.Join(dir, "link")), unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	root, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	found, _, err := (&Area{}).look(t.Context(), &Workspace{}, root)
	if err == nil {
		err = digests(t.Context(), root, found)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := map[messages.Path]string{}
	for _, f := range found {
		got[f.Path] = f.Digest
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("digests (-want +got):\n%s", diff)
	}
}

// TestMilestonesLeft: those of large files lie beside an attempt's files, for
// whom they belong to; without such files there are none. Where they cannot be
// written, the files are listed all the same.
func TestMilestonesLeft(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		sizes []int
		want  []messages.Path
		full  bool // nothing can be written
	}{
		{"none is large", []int{0, 8 << 20}, nil, false},
		{"some are", []int{1, 8<<20 + 1, 5, 20 << 20}, []messages.Path{"1", "3"}, false},
		{"none can be left", []int{8<<20 + 1}, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := &Workspace{Dir: dir, files: filepath.Join(dir, "files")}
			if err := os.Mkdir(w.files, 0o700); err != nil {
				t.Fatal(err)
			}
			for i, size := range tc.sizes {
				if err := os.WriteFile(filepath.Join(w.files, fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, size), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			left := filepath.Join(dir, messages.MilestonesFile)
			if tc.full {
				if err := os.Mkdir(left, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			files, err := (&Area{}).Inspect(t.Context(), w)
			if err != nil || len(files) != len(tc.sizes) {
				t.Fatalf("Inspect = %v, %v, want %d files", files, err, len(tc.sizes))
			}
			f, err := os.Open(left)
			if err != nil && tc.want == nil {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if tc.full {
				return
			}
			info, err := f.Stat()
			if err != nil || info.Mode() != 0o640 {
				t.Errorf("milestones of mode %v, want 0640; %v", info.Mode(), err)
			}
			marks := messages.ReadMilestones(f)
			var got []messages.Path
			for _, f := range files {
				if m := marks[f.Path]; m != nil && m.Fit(f.Size) {
					got = append(got, f.Path)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || len(marks) != len(got) {
				t.Errorf("files with milestones (-want +got):\n%s", diff)
			}
		})
	}
}

// awaitTick returns when the clock that the kernel stamps files with has moved
// on: it may go in steps of some milliseconds.
func awaitTick(t *testing.T, dir string) {
	t.Helper()
	stamp := func() time.Time {
		f, err := os.CreateTemp(dir+"/..", "tick")
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err := errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	for first := stamp(); !stamp().After(first); {
	}
}

var errSomething = errors.New("any error")

func TestUnescape(t *testing.T) {
	t.Parallel()
	if got, want := unescape(`/a\040b\134c\011d\012e`), "/a b\\c\td\ne"; got != want {
		t.Errorf("unescape = %q, want %q", got, want)
	}
}
