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

	"golang.org/x/sys/unix"

	"sluice/internal/needs"
	"sluice/persister/disk"
)

// childImage makes a child mount this image and run the tests that it is told
// to there, or end with cannotMount.
const (
	childImage  = "SLUICE_TEST_IMAGE"
	cannotMount = 3
)

// TestShares runs the tests of large files on file systems that share blocks.
// The child has a mount namespace of its own, so that nothing stays mounted.
func TestShares(t *testing.T) {
	t.Parallel()
	for kind, mkfs := range map[string][]string{
		"xfs":   {"mkfs.xfs", "-q", "-m", "reflink=1"},
		"btrfs": {"mkfs.btrfs", "-q"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if os.Geteuid() != 0 {
				needs.Missing(t, "only root can mount a %s", kind)
			}
			if _, err := exec.LookPath(mkfs[0]); err != nil {
				needs.Missing(t, "no file system that shares blocks can be made: %v", err)
			}
			image := filepath.Join(t.TempDir(), kind)
			if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 1<<30)); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), mkfs[0], append(mkfs[1:], image)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", mkfs, err, out)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLarge", "-test.v", "-test.timeout=5m")
			cmd.Env = append(os.Environ(), childImage+"="+image, disk.SharesDir+"="+t.TempDir())
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == cannotMount {
				// No loop device, or a kernel without this file system: no package
				// mends that, so it is no fault under CI either.
				t.Skipf("no image of a %s can be mounted here: %s", kind, out)
			}
			if err != nil || !strings.Contains(string(out), "--- PASS: TestLargeUnread") {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

// mountShares is what the child does first.
func mountShares() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	out, err := exec.Command("mount", "-o", "loop", os.Getenv(childImage), os.Getenv(disk.SharesDir)).CombinedOutput() //nolint:gosec,noctx // the test's own names
	if err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	return nil
}
