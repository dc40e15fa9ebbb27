package spread

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMark: the mark is set beside others, where it is worth it, and only there;
// what is no folder is left alone.
func TestMark(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags := func() int {
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			t.Logf("%s has no flags: %v", dir, err)
		}
		return flags
	}
	want := flags()
	if worthIt(f) {
		want |= topDir
	} else {
		t.Logf("%s is on no ext4 without a journal", dir)
	}
	Mark(dir)
	Mark(dir)
	if got := flags(); got != want {
		t.Errorf("flags are %#x, want %#x", got, want)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	Mark(file)
	Mark(filepath.Join(dir, "missing"))
	if proc, err := os.Open("/proc"); err != nil || worthIt(proc) {
		t.Errorf("/proc is said to be an ext4 (%v)", err)
	}
}
