package staging

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// mount lays the overlay: inputs, if there are any, over code, the attempt's
// files on top. It is volatile, as unmounting would otherwise sync the whole file
// system: after a crash of the machine the attempt is run again anyway.
func (a *Area) mount(w *Workspace, lower []string) error {
	work, mount := filepath.Join(w.Dir, "work"), filepath.Join(w.Dir, "workspace")
	for _, dir := range []string{work, mount} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make staging: %w", err)
		}
	}
	names, err := json.Marshal(lower)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.Dir, "lower.json"), names, 0o600)
	}
	if err != nil {
		return fmt.Errorf("make staging: %w", err)
	}
	if err := mountOverlay(mount, w.files, work, lower); err != nil {
		return err
	}
	w.Mount, w.lower = mount, lower
	return nil
}

// mountOverlay names the layers by descriptors: a path may hold commas and
// colons, which mean something in the options of a mount, and may be long.
func mountOverlay(target, upper, work string, lower []string) error {
	var opened []*os.File
	defer func() {
		for _, f := range opened {
			_ = f.Close()
		}
	}()
	var names []string
	for _, dir := range append([]string{upper, work}, lower...) {
		f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("mount overlay on %s: %w", target, err)
		}
		opened = append(opened, f)
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	}
	options := fmt.Sprintf("upperdir=%s,workdir=%s,lowerdir=%s,redirect_dir=off,metacopy=off,index=off", names[0], names[1], strings.Join(names[2:], ":"))
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

// mounted reports whether an overlay is mounted on a folder.
func mounted(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC
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
			name, _, _ := strings.Cut(n.Name(), deep)
			attempt, err := strconv.Atoi(name)
			if err != nil || known(job, attempt) || name == n.Name() && !a.owns(job, attempt) {
				continue
			}
			if name == n.Name() && a.stays(job, attempt) {
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
