package staging

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unmount takes a mount away, also one that something still looks into. What
// is not mounted is no error.
func unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", path, err)
}

// mounts lists the mount points beneath a folder, and beneath what an
// interrupted removal moved out of it.
func mounts(root string) ([]string, error) {
	if real, err := filepath.EvalSymlinks(filepath.Dir(root)); err == nil {
		root = filepath.Join(real, filepath.Base(root)) // as the kernel spells it
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 {
			if point := unescape(fields[4]); strings.HasPrefix(point, root+"/") || strings.HasPrefix(point, root+deep) {
				found = append(found, point)
			}
		}
	}
	return found, lines.Err()
}

// unescape undoes mountinfo's escapes of white space and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// removeAll deletes a tree that an attempt may have filled with anything: no
// mount is looked into but taken away, links are not followed, and folders may
// be nested without end. What is not there is no error.
func removeAll(dir string) error {
	const tries = 3 // that mounts are made meanwhile is not expected
	err := removeTree(dir)
	for try := 1; mountedIn(err) && try < tries; try++ {
		inside, mountErr := mounts(dir) // long to read where many are: only where there is one
		for _, m := range slices.Backward(inside) {
			mountErr = errors.Join(mountErr, unmount(m))
		}
		if mountErr != nil || len(inside) == 0 {
			return fmt.Errorf("remove %s: something is mounted there, or in use: %w", dir, errors.Join(err, mountErr))
		}
		err = removeTree(dir)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// mountedIn reports whether a removal may have failed for a mount: one cannot be
// deleted (EBUSY), and openDirAt looks into none (EXDEV).
func mountedIn(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV) }

func removeTree(dir string) error {
	parent, err := os.OpenFile(filepath.Dir(dir), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	r := remover{top: parent, name: filepath.Base(dir)}
	r.moved = append([]string{r.name}, r.leftovers()...)
	for len(r.moved) > 0 {
		next := r.moved[0]
		r.moved = r.moved[1:]
		if err := r.remove(parent, next, 0); err != nil {
			return err
		}
	}
	return nil
}

// A remover deletes a tree through descriptors. Folders deeper than maxDepth
// are moved up, next to the tree's top, and deleted from there: a path without
// end must not cost descriptors without end.
type remover struct {
	top   *os.File // the folder that the tree lies in
	name  string   // of the tree
	moved []string // what is still to be removed there
	count int
}

// deep is what the names of moved folders have after that of their tree.
const deep = ".deep-"

// leftovers lists what an interrupted removal of this tree moved up.
func (r *remover) leftovers() (names []string) {
	all, _ := r.top.Readdirnames(-1) // there are none, as a rule
	for _, name := range all {
		if strings.HasPrefix(name, r.name+deep) {
			names = append(names, name)
		}
	}
	r.count = len(all)
	return names
}

func (r *remover) remove(parent *os.File, name string, depth int) error {
	at := int(parent.Fd())
	err := unix.Unlinkat(at, name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	if err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR); err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if depth >= maxDepth {
		return r.moveUp(parent, name)
	}
	dir, err := openDirAt(parent, name)
	if errors.Is(err, unix.EACCES) { // not root, and the attempt made it unreadable
		if chmodErr := unix.Fchmodat(at, name, 0o700, 0); chmodErr == nil {
			dir, err = openDirAt(parent, name)
		}
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer dir.Close()
	if err := r.empty(dir, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// empty deletes what lies in a folder. The names are read again from the start
// after each deletion of some: what a folder tells while it is changed is not
// to be relied on.
func (r *remover) empty(dir *os.File, depth int) error {
	var mode unix.Stat_t
	if unix.Fstat(int(dir.Fd()), &mode) == nil && mode.Mode&0o700 != 0o700 {
		_ = unix.Fchmod(int(dir.Fd()), 0o700)
	}
	for {
		if _, err := dir.Seek(0, 0); err != nil {
			return err
		}
		names, err := dir.Readdirnames(1024)
		if len(names) == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}
		for _, name := range names {
			if err := r.remove(dir, name, depth+1); err != nil {
				return err
			}
		}
	}
}

func (r *remover) moveUp(parent *os.File, name string) error {
	for {
		r.count++
		up := fmt.Sprintf("%s%s%d", r.name, deep, r.count)
		err := unix.Renameat2(int(parent.Fd()), name, int(r.top.Fd()), up, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "move up", Path: name, Err: err}
		}
		r.moved = append(r.moved, up)
		return nil
	}
}
