package staging

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// mount lays the overlay: inputs over code, the attempt's files on top. It is
// volatile, as unmounting would otherwise sync the whole file system: after a
// crash of the machine the attempt is run again anyway.
func (a *Area) mount(w *Workspace, lower ...string) error {
	work, mount := filepath.Join(w.Dir, "work"), filepath.Join(w.Dir, "workspace")
	for _, dir := range []string{work, mount} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make staging: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "lower"), []byte(strings.Join(lower, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("make staging: %w", err)
	}
	if err := mountOverlay(mount, w.files, work, lower); err != nil {
		return err
	}
	w.Mount, w.lower = mount, lower
	return nil
}

func mountOverlay(target, upper, work string, lower []string) error {
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off,metacopy=off,index=off", strings.Join(lower, ":"), upper, work)
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	err := unix.Mount("overlay", target, "overlay", flags, options+",volatile")
	if errors.Is(err, unix.EINVAL) { // before Linux 5.10
		err = unix.Mount("overlay", target, "overlay", flags, options)
	}
	if err != nil {
		return fmt.Errorf("mount overlay on %s: %w", target, err)
	}
	return nil
}

// probeOverlay mounts one beneath root and takes it away.
func probeOverlay(root string) error {
	dir, err := os.MkdirTemp(root, ".probe-")
	if err != nil {
		return fmt.Errorf("probe for overlays: %w", err)
	}
	defer func() { _ = removeAll(dir) }() // a leftover is swept later
	var paths [4]string
	for i, name := range []string{"lower", "upper", "work", "mount"} {
		paths[i] = filepath.Join(dir, name)
		if err := os.Mkdir(paths[i], 0o755); err != nil {
			return fmt.Errorf("probe for overlays: %w", err)
		}
	}
	if err := mountOverlay(paths[3], paths[1], paths[2], paths[:1]); err != nil {
		return err
	}
	return unmount(paths[3])
}

// unmount takes a mount away, also one that something still looks into. What
// is not mounted is no error.
func unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", path, err)
}

// Sweep removes what attempts that nobody knows any more left in staging:
// mounts, then folders. Known says which attempts are still in hand. Only what
// this worker laid out is touched.
func (a *Area) Sweep(known func(job messages.JobID, attempt int) bool) error {
	jobs, err := os.ReadDir(a.cfg.Root)
	if err != nil {
		return fmt.Errorf("sweep staging: %w", err)
	}
	var errs []error
	for _, j := range jobs {
		job := messages.JobID(j.Name())
		if job.Check() != nil {
			continue
		}
		attempts, err := os.ReadDir(filepath.Join(a.cfg.Root, j.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, n := range attempts {
			var attempt int
			if _, err := fmt.Sscanf(n.Name(), "%d", &attempt); err != nil || known(job, attempt) || !a.owns(job, attempt) {
				continue
			}
			errs = append(errs, a.Remove(job, attempt))
		}
	}
	return errors.Join(errs...)
}

func (a *Area) owns(job messages.JobID, attempt int) bool {
	owner, err := os.ReadFile(filepath.Join(a.Dir(job, attempt), "owner"))
	return err == nil && string(owner) == a.cfg.Worker
}

// mounts lists the mount points beneath a folder.
func mounts(root string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], root+"/") {
			found = append(found, fields[4])
		}
	}
	return found, lines.Err()
}

// removeAll deletes a tree whose folders a container may have made unreadable.
// It never follows a link, and never a mount.
func removeAll(dir string) error {
	inside, err := mounts(dir)
	if err != nil {
		return err
	}
	for _, m := range inside {
		if err := unmount(m); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	// Not root: folders without permission for their owner are opened up.
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
