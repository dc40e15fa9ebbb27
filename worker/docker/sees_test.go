package docker_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/worker/docker"
)

// TestSees: the engine finds what lies on the machine and what is mounted for
// all to see, not what is missing or mounted where this process alone sees it.
func TestSees(t *testing.T) {
	t.Parallel()
	r, err := docker.New(docker.Config{Worker: "sees"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sees := func(name string, want bool) {
		t.Helper()
		if got, err := r.Sees(t.Context(), filepath.Join(dir, name)); err != nil || got != want {
			t.Errorf("Sees(%s) = %v, %v; want %v", name, got, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sees("file", true)
	sees(".", true)
	sees("missing", false)
	sees("file/beneath", false)

	if os.Geteuid() != 0 {
		t.Log("only root can mount: what is mounted is not tested")
		return
	}
	mount := filepath.Join(dir, "mount")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", mount, "tmpfs", 0, ""); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	if err := os.WriteFile(filepath.Join(mount, "within"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sees("mount/within", true)
}
