package disk_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sluice/internal/needs"
	"sluice/messages"
	"sluice/persister/disk"
	"sluice/persister/storetest"
)

// childFull makes a child fill a file system instead: the name of the tier.
const childFull = "SLUICE_TEST_FULL"

// A file system without room gives a clear error, nothing is half visible, and
// after space is back the same message is persisted. The child has a mount
// namespace of its own, so that nothing stays mounted whatever happens to it.
func TestFull(t *testing.T) {
	t.Parallel()
	for _, tier := range []string{"high", "medium"} {
		t.Run(tier, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), childRoot+"="+t.TempDir(), childFull+"="+tier)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			if os.Geteuid() != 0 { // root may mount without being root of a namespace
				cmd.SysProcAttr = &syscall.SysProcAttr{
					Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
					UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
					GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
				}
			}
			out, err := cmd.CombinedOutput()
			if errors.Is(err, unix.EPERM) {
				needs.Missing(t, "no small file system can be mounted: this user is not root, or root without CAP_SYS_ADMIN, and user namespaces are forbidden")
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

// fillChild is what the child does.
func fillChild() error {
	root, tier := os.Getenv(childRoot), os.Getenv(childFull)
	small := filepath.Join(root, tier)
	if err := os.MkdirAll(small, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount a small file system: %w", err)
	}
	cfg := crashConfig(root, crashKind{})
	j := storetest.NewJob("ws", "a", "r1", high, "h.csv", medium, "m.txt")
	files := map[string]string{"h.csv": "1", "m.txt": strings.Repeat("x", 2<<20)}
	err := handle(root, cfg, j, files, 1000, true) // however often it was tried
	if !errors.Is(err, disk.ErrFull) || !strings.Contains(err.Error(), small) || !strings.Contains(err.Error(), "MiB") {
		return fmt.Errorf("full: got %w, want the file system and its room", err)
	}
	for _, base := range []string{"high", "medium"} {
		if tree, err := storetest.Tree(filepath.Join(root, base, "ws")); len(tree) > 0 {
			return fmt.Errorf("visible in %s: %v, %w", base, cmp.Diff(nil, tree), err)
		}
		if tree, err := storetest.Tree(filepath.Join(root, base, ".sluice", "tmp")); len(tree) > 0 {
			return fmt.Errorf("left in %s: %v, %w", base, cmp.Diff(nil, tree), err)
		}
	}
	if _, err := storetest.NewFleet(root).Commit(messages.CommitKey(j.Backend, j.ID)); !errors.Is(err, messages.ErrNotFound) {
		return fmt.Errorf("commit: got %w, want none", err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	if err := handle(root, cfg, j, files, 2, false); err != nil {
		return err
	}
	tree, err := storetest.Tree(filepath.Join(root, "medium", "ws"))
	if tree["m.txt"] != files["m.txt"] {
		return fmt.Errorf("after there is room the file is not there: %d bytes, %w", len(tree["m.txt"]), err)
	}
	return nil
}
