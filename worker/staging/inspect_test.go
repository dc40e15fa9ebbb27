package staging_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"sluice/messages"
)

// TestHostileFiles: whatever an action leaves is listed as what it is, and only
// regular files are opened.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, copied bool) {
		s := newSite(t, copied, tree{"given": "g", "replaced": "r", "turned/into/file": "x"})
		w := s.prepare(t, newAction())
		at := func(path string) string { return filepath.Join(w.Mount, path) }
		names := []string{"new\nline", "quo\"te'", "\xff\xfe not text", strings.Repeat("n", 255), " ", "-rf", "*", "tab\t", "…", ".hidden", `back\slash`, "{a,b}.csv"}
		want := map[string]string{}
		for _, name := range names {
			do(t, os.WriteFile(at(name), []byte(name), 0o644))
			want[name] = name
		}
		do(t,
			os.Symlink("/etc/passwd", at("link")), os.Symlink("/", at("folder link")), os.Symlink("nowhere", at("dangling")),
			unix.Mkfifo(at("fifo"), 0o600),
			os.WriteFile(at("one"), []byte("1"), 0o644), os.Link(at("one"), at("two")),
			os.Remove(at("replaced")), os.Symlink("given", at("replaced")),
			os.RemoveAll(at("turned")), os.WriteFile(at("turned"), []byte("file"), 0o644),
			os.WriteFile(at("secret"), []byte("s"), 0), os.Mkdir(at("locked"), 0o755), os.WriteFile(at("locked/in"), []byte("in"), 0o644), os.Chmod(at("locked"), 0o500),
		)
		listener, err := net.Listen("unix", shortName(t, w.Mount, "sock"))
		do(t, err)
		listener.(*net.UnixListener).SetUnlinkOnClose(false)
		do(t, listener.Close())
		maps.Copy(want, map[string]string{
			"link": "symbolic link", "folder link": "symbolic link", "dangling": "symbolic link", "replaced": "symbolic link", "fifo": "FIFO", "sock": "socket",
			"one": "hard link", "two": "hard link", "turned": "file", "secret": "s", "locked/in": "in",
		})
		if os.Geteuid() == 0 {
			do(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), unix.Mknod(at("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))))
			want["null"], want["disk"] = "device", "device"
		}
		if diff := cmp.Diff(want, s.listed(t, w)); diff != "" {
			t.Errorf("listing mismatch (-want +got):\n%s", diff)
		}
	})
}

// shortName gives a folder a name that is short enough for a socket.
func shortName(t *testing.T, dir, name string) string {
	t.Helper()
	f, err := os.Open(dir)
	do(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), name)
}

// TestBounds: what cannot be listed is the action's own fault, and says so.
func TestBounds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		leave func(t *testing.T, dir string)
		want  string
	}{
		{"too deep", func(t *testing.T, dir string) { nest(t, dir, "d", 300) }, "nested deeper than 200"},
		{"a path too long", func(t *testing.T, dir string) { nest(t, dir, strings.Repeat("d", 250), 20) }, "a path of"},
		{"too many bytes", func(t *testing.T, dir string) {
			for _, name := range []string{"a", "b", "c"} { // of which the disk has nothing
				do(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644), os.Truncate(filepath.Join(dir, name), 1<<40))
			}
		}, "more than 2097152 MiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false, nil)
			w := s.prepare(t, newAction())
			tc.leave(t, w.Mount)
			w.Limit = 2 << 40
			_, err := s.Inspect(t.Context(), w)
			var failure *messages.Failure
			if !errors.As(err, &failure) || !strings.Contains(failure.Detail, tc.want) {
				t.Errorf("Inspect error = %v, want a Failure with %q", err, tc.want)
			}
		})
	}
}

// nest makes folders inside folders, by descriptors: their path may be longer
// than any call takes.
func nest(t testing.TB, dir, name string, depth int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	do(t, err)
	for range depth {
		next := -1
		if err = unix.Mkdirat(at, name, 0o755); err == nil {
			next, err = unix.Openat(at, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		_ = unix.Close(at)
		do(t, err)
		at = next
	}
	_ = unix.Close(at)
}

// TestUsed measures what an attempt wrote, not what it was given.
func TestUsed(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, copied bool) {
		s := newSite(t, copied, tree{"given": strings.Repeat("x", 1<<20)})
		w := s.prepare(t, newAction())
		before, err := s.Used(t.Context(), w, 1<<30)
		if err != nil || before > 64<<10 {
			t.Errorf("Used = %d, %v before the attempt, want next to nothing", before, err)
		}
		do(t, os.WriteFile(filepath.Join(w.Mount, "new"), make([]byte, 3<<20), 0o644))
		if used, err := s.Used(t.Context(), w, 1<<30); err != nil || used < 3<<20 || used > 4<<20 {
			t.Errorf("Used = %d, %v, want 3 MiB", used, err)
		}
		if used, err := s.Used(t.Context(), w, 1<<20); err != nil || used <= 1<<20 {
			t.Errorf("Used = %d, %v, want more than the limit", used, err)
		}
		nest(t, w.Mount, "d", 300)
		var failure *messages.Failure
		if _, err := s.Used(t.Context(), w, 1<<30); !errors.As(err, &failure) {
			t.Errorf("Used error = %v, want a Failure for what lies too deep", err)
		}
	})
}

// TestOddTimes: a file of a time that a listing cannot hold is listed, without.
func TestOddTimes(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, tree{})
	w := s.prepare(t, newAction())
	for name, at := range map[string]time.Time{"late": time.Unix(300e9, 0), "early": time.Unix(-300e9, 0), "usual": time.Unix(1.7e9, 0)} {
		path := filepath.Join(w.Mount, name)
		do(t, os.WriteFile(path, nil, 0o644))
		// Not every file system keeps such a time; what it keeps instead will do.
		do(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: at.Unix()}, {Sec: at.Unix()}}, 0))
	}
	found, err := s.Inspect(t.Context(), w)
	if err != nil || len(found) != 3 {
		t.Fatalf("Inspect = %v, %v, want three files", found, err)
	}
	for _, f := range found {
		if year := f.Time.Year(); !f.Time.IsZero() && (year < 1678 || year > 2261) || f.Path == "usual" && f.Time.Unix() != 1.7e9 {
			t.Errorf("%s is of %s", f.Path, f.Time)
		}
	}
	if _, _, err := messages.NewListing(found); err != nil {
		t.Error(err)
	}
}

// TestManyFiles: a hundred thousand of them.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if fast, err := os.MkdirTemp("/dev/shm", "sluice-test-"); err == nil { // a disk may take a minute to make so many
		t.Cleanup(func() { do(t, os.RemoveAll(fast)) })
		dir = fast
	}
	s := newSiteIn(t, dir, false, tree{"given": "g"})
	w := s.prepare(t, newAction())
	const folders, each = 100, 1000
	for d := range folders {
		dir := filepath.Join(w.Mount, fmt.Sprintf("d%02d", d))
		do(t, os.Mkdir(dir, 0o755))
		for n := range each {
			do(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%04d", n)), nil, 0o644))
		}
	}
	files, err := s.Inspect(t.Context(), w)
	if err != nil || len(files) != folders*each {
		t.Fatalf("Inspect found %d files, %v, want %d", len(files), err, folders*each)
	}
	listing, encoded, err := messages.NewListing(files)
	if err != nil || !listing.Stored || listing.Count != folders*each {
		t.Fatalf("NewListing = %+v, %v, want a stored one of all files", listing, err)
	}
	if _, err := listing.Read(strings.NewReader(string(encoded))); err != nil {
		t.Errorf("the listing cannot be read: %v", err)
	}
}

// TestInspectAgainstModel: after any changes the listing has what differs from
// what was given, no more, no less.
func TestInspectAgainstModel(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, copied bool) {
		rapid.Check(t, func(r *rapid.T) {
			given := tree{"a": "1", "d/b": "2", "d/e/c": "3", "f/g": "4"}
			s := newSite(t, copied, given)
			w, err := s.Prepare(t.Context(), newAction())
			do(t, err)
			paths := rapid.SampledFrom([]string{"a", "d/b", "d/e/c", "f/g", "new", "d/new", "n/ew", "d/e", "f"})
			for range rapid.IntRange(0, 12).Draw(r, "changes") {
				change(r, w.Mount, paths)
			}
			want := map[string]string{}
			for path, content := range read(t, w.Mount) {
				if old, was := given[path]; !was || old != content {
					want[path] = content
				}
			}
			got := s.listed(t, w)
			if copied { // without layers, writing the same again is a change
				maps.DeleteFunc(got, func(path, content string) bool {
					old, was := given[path]
					return was && old == content
				})
			}
			if diff := cmp.Diff(want, got); diff != "" {
				r.Errorf("listing mismatch (-want +got):\n%s", diff)
			}
			do(t, s.Release(w), s.Remove(job, 1))
		})
	})
}

// change does one thing in a workspace. What cannot be done is left.
func change(r *rapid.T, dir string, paths *rapid.Generator[string]) {
	at := func(label string) string { return filepath.Join(dir, paths.Draw(r, label)) }
	content := []byte(rapid.SampledFrom([]string{"1", "2", "3", "4", "other", ""}).Draw(r, "content"))
	switch path := at("path"); rapid.IntRange(0, 7).Draw(r, "what") {
	case 0, 1:
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		_ = os.WriteFile(path, content, 0o644)
	case 2:
		_ = os.RemoveAll(path)
	case 3:
		_ = os.Rename(path, at("target"))
	case 4:
		_ = os.Chmod(path, 0o755)
	case 5:
		if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
			_ = f.Close()
		}
	case 6:
		_ = os.MkdirAll(path, 0o755)
	case 7: // replaced, with its old time
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			return
		}
		_ = os.WriteFile(path+".tmp", content, 0o644)
		_ = os.Chtimes(path+".tmp", info.ModTime(), info.ModTime())
		_ = os.Rename(path+".tmp", path)
	}
}

// TestRemoveHostile: staging goes whatever was made in it, and nothing else.
func TestRemoveHostile(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, copied bool) {
		s := newSite(t, copied, tree{"given": "g"})
		outside := filepath.Join(s.dir, "outside")
		tree{"keep": "k"}.write(t, outside)
		w, err := s.Prepare(t.Context(), newAction())
		do(t, err)
		nest(t, w.Mount, "deep", 3000)
		nest(t, w.Mount, "deeper", 1000)
		do(t,
			os.Symlink(outside, filepath.Join(w.Mount, "link")), unix.Mkfifo(filepath.Join(w.Mount, "fifo"), 0),
			os.Mkdir(filepath.Join(w.Mount, "locked"), 0o755), os.WriteFile(filepath.Join(w.Mount, "locked/in"), nil, 0), os.Chmod(filepath.Join(w.Mount, "locked"), 0),
		)
		do(t, s.Remove(job, 1))
		if left, err := os.ReadDir(filepath.Join(s.dir, "staging")); err != nil || len(left) != 0 {
			t.Errorf("staging has %v, %v after Remove, want nothing", left, err)
		}
		if diff := cmp.Diff(tree{"keep": "k"}, read(t, outside)); diff != "" {
			t.Errorf("what a link pointed to changed (-want +got):\n%s", diff)
		}
	})
}

// TestSweep removes what nobody knows, of this worker only.
func TestSweep(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, tree{"given": "g"})
	for n := range 3 {
		action := newAction()
		action.Attempt = n + 1
		_, err := s.Prepare(t.Context(), action)
		do(t, err)
	}
	root := filepath.Join(s.dir, "staging")
	do(t, os.WriteFile(filepath.Join(root, string(job), "2", "owner"), []byte("w2"), 0o600))
	tree{"note": "of somebody"}.write(t, filepath.Join(root, "not-a-job"))
	tree{"x": "what an interrupted removal left"}.write(t, filepath.Join(root, string(job), "9.deep-4"))
	do(t, s.Sweep(func(j messages.JobID, n int) bool { return j == job && n == 3 }))
	var left []string
	entries, err := os.ReadDir(filepath.Join(root, string(job)))
	do(t, err)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if diff := cmp.Diff([]string{"2", "3"}, left); diff != "" {
		t.Errorf("attempts left mismatch (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(root, "not-a-job", "note")); err != nil {
		t.Errorf("a folder that is no job's was touched: %v", err)
	}
	do(t, os.WriteFile(filepath.Join(root, string(job), "2", "owner"), []byte("w1"), 0o600))
}

// TestOpen: leftovers of a killed worker go; trees of this boot stay.
func TestOpen(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, tree{"given": "g"})
	s.prepare(t, newAction())
	tree{"half": "made"}.write(t, filepath.Join(s.dir, "cache", "tmp", "code-1"))
	s.open(t, false)
	if got := s.kept(t); got != 1 {
		t.Errorf("%d extractions are kept, want the one", got)
	}
	if diff := cmp.Diff(tree{}, read(t, filepath.Join(s.dir, "cache", "tmp"))); diff != "" {
		t.Errorf("leftovers (-want +got):\n%s", diff)
	}
	do(t, s.Remove(job, 1), os.WriteFile(filepath.Join(s.dir, "cache", "boot"), []byte("another"), 0o600))
	s.open(t, false)
	if got := s.kept(t); got != 0 {
		t.Errorf("%d extractions are kept after a restart of the machine, want none: they were never synced", got)
	}
	probes, err := filepath.Glob(filepath.Join(s.dir, "staging", ".probe*"))
	if err != nil || len(probes) != 0 {
		t.Errorf("probes left: %v, %v", probes, err)
	}
	for _, change := range []string{"root", "worker", "high"} {
		cfg := s.config(false)
		switch change {
		case "root":
			cfg.Root = "relative"
		case "worker":
			cfg.Worker = "../w"
		case "high":
			cfg.High = nil
		}
		if err := cfg.Check(); err == nil {
			t.Errorf("Check with a bad %s succeeded", change)
		}
	}
	if free, err := s.Free(); err != nil || free <= 0 {
		t.Errorf("Free = %d, %v", free, err)
	}
}
