package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// A tree is a folder that is ours, and all beneath it. The path to the root is
// the operator's and may have links; below it there are none. It is for one
// goroutine.
type tree struct {
	root *os.File
	cfg  Config

	dirs    map[string]*os.File // the folders opened last
	touched map[string]bool     // folders whose entries changed since the last sync
}

// openTree opens a root, making it first.
func openTree(name string, cfg Config) (*tree, error) {
	f, err := openRoot(name, cfg, false)
	if err != nil {
		return nil, err
	}
	return &tree{root: f, cfg: cfg, dirs: map[string]*os.File{}, touched: map[string]bool{}}, nil
}

// Close frees the tree's descriptors.
func (t *tree) Close() error {
	return errors.Join(t.forget(), t.root.Close())
}

func (t *tree) forget() error {
	var errs []error
	for name, f := range t.dirs {
		errs = append(errs, f.Close())
		delete(t.dirs, name)
	}
	return errors.Join(errs...)
}

// dir opens a folder of the tree; "." is the root. With make, what is missing
// is made. The descriptor stays the tree's.
func (t *tree) dir(name string, make bool) (*os.File, error) {
	if name == "." {
		return t.root, nil
	}
	if f := t.dirs[name]; f != nil {
		return f, nil
	}
	f, err := openAt(t.root, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath)
	if errors.Is(err, unix.ENOENT) && make {
		f, err = t.makeDir(name)
	}
	if err != nil {
		return nil, err
	}
	if len(t.dirs) >= 64 {
		if err := t.forget(); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	t.dirs[name] = f
	return f, nil
}

func (t *tree) makeDir(name string) (*os.File, error) {
	parent, err := t.dir(path.Dir(name), true)
	if err != nil {
		return nil, err
	}
	err = unix.Mkdirat(int(parent.Fd()), path.Base(name), uint32(t.cfg.DirMode.Perm()))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make folder %s in %s: %w", messages.Path(name), t.root.Name(), explain(err, t.root))
	}
	t.touched[path.Dir(name)] = true
	f, err := openAt(t.root, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath)
	if err != nil {
		return nil, err
	}
	if err := own(f, t.cfg, uint32(t.cfg.DirMode.Perm())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// own gives a new file or folder the mode and the owner that are configured,
// whatever the umask.
func own(f *os.File, cfg Config, mode uint32) error {
	if err := unix.Fchmod(int(f.Fd()), mode); err != nil {
		return fmt.Errorf("set mode of %s: %w", f.Name(), err)
	}
	if cfg.Owner < 0 && cfg.Group < 0 {
		return nil
	}
	if err := unix.Fchown(int(f.Fd()), cfg.Owner, cfg.Group); err != nil {
		return fmt.Errorf("give %s to user %d and group %d (-1: as it is): %w", f.Name(), cfg.Owner, cfg.Group, err)
	}
	return nil
}

// lstat says what is at a path. A path whose folder is missing, or is no
// folder, is missing too.
func (t *tree) lstat(p messages.Path) (st unix.Stat_t, there bool, err error) {
	parent, err := t.dir(path.Dir(string(p)), false)
	if err == nil {
		err = unix.Fstatat(int(parent.Fd()), path.Base(string(p)), &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	switch {
	case err == nil:
		return st, true, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return st, false, nil
	}
	return st, false, fmt.Errorf("look at %s in %s: %w", p, t.root.Name(), err)
}

// place renames a file into the tree, over what is there; empty folders give
// way. A source that is gone has been placed by an earlier try: then was says
// whether what is there is it.
func (t *tree) place(from *os.File, name string, to messages.Path, was func(unix.Stat_t) bool) error {
	err := t.placeOnce(from, name, to)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if err := t.removeEmpty(string(to)); err != nil {
			return fmt.Errorf("place %s: %w", to, err)
		}
		err = t.placeOnce(from, name, to)
	}
	if errors.Is(err, unix.ENOENT) {
		st, there, statErr := t.lstat(to)
		if statErr != nil {
			return statErr
		}
		if there && st.Mode&unix.S_IFMT == unix.S_IFREG && was(st) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("place %s in %s: %w", to, t.root.Name(), explain(err, t.root))
	}
	t.touched[path.Dir(string(to))] = true
	return nil
}

func (t *tree) placeOnce(from *os.File, name string, to messages.Path) error {
	parent, err := t.dir(path.Dir(string(to)), true)
	if err != nil {
		return err
	}
	if from == nil {
		return unix.ENOENT
	}
	return rename(from, name, parent, path.Base(string(to)))
}

func rename(from *os.File, name string, to *os.File, base string) error {
	// openat2 has no sibling that renames, so the source's folder is opened
	// beneath its root first.
	if dir := path.Dir(name); dir != "." {
		f, err := openAt(from, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath)
		if err != nil {
			return err
		}
		defer f.Close()
		from, name = f, path.Base(name)
	}
	return unix.Renameat(int(from.Fd()), name, int(to.Fd()), base)
}

// remove deletes a file and the folders that are empty without it. What is
// gone, or is a folder by now, is left.
func (t *tree) remove(p messages.Path) error {
	parent, err := t.dir(path.Dir(string(p)), false)
	if err == nil {
		err = unix.Unlinkat(int(parent.Fd()), path.Base(string(p)), 0)
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP):
		return nil
	case err != nil:
		return fmt.Errorf("remove %s from %s: %w", p, t.root.Name(), err)
	}
	t.touched[path.Dir(string(p))] = true
	for name := path.Dir(string(p)); name != "."; name = path.Dir(name) {
		if err := t.rmdir(name); err != nil {
			break // not empty, or somebody else's: it stays
		}
	}
	return nil
}

func (t *tree) rmdir(name string) error {
	parent, err := t.dir(path.Dir(name), false)
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(int(parent.Fd()), path.Base(name), unix.AT_REMOVEDIR); err != nil {
		return err
	}
	if f := t.dirs[name]; f != nil {
		delete(t.dirs, name)
		if err := f.Close(); err != nil {
			return err
		}
	}
	delete(t.touched, name)
	t.touched[path.Dir(name)] = true
	return nil
}

// removeEmpty deletes a folder that holds nothing but folders.
func (t *tree) removeEmpty(name string) error {
	entries, err := t.list(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			return fmt.Errorf("folder %s is not empty", messages.Path(name))
		}
		if err := t.removeEmpty(path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return t.rmdir(name)
}

// list reads a folder of the tree, sorted by name.
func (t *tree) list(name string) ([]os.DirEntry, error) {
	f, err := openAt(t.root, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, errors.Join(err, f.Close())
}

// syncDirs makes the changes of folders durable.
func (t *tree) syncDirs() error {
	for name := range t.touched {
		f, err := t.dir(name, false)
		if errors.Is(err, unix.ENOENT) {
			delete(t.touched, name) // removed since
			continue
		}
		if err == nil {
			err = unix.Fsync(int(f.Fd()))
		}
		if err != nil {
			return fmt.Errorf("sync folder %s of %s: %w", messages.Path(name), t.root.Name(), explain(err, t.root))
		}
		delete(t.touched, name)
	}
	return nil
}

// read returns a whole file of the tree.
func (t *tree) read(name string, limit int64) ([]byte, error) {
	f, st, err := openRegular(t.root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st.Size > limit {
		return nil, fmt.Errorf("read %s: %w", f.Name(), &differs{fmt.Sprintf("it has %d bytes; the limit is %d", st.Size, limit)})
	}
	buf := bytes.NewBuffer(make([]byte, 0, st.Size+bytes.MinRead)) // so that it need not grow
	if _, err := buf.ReadFrom(io.LimitReader(f, limit)); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return buf.Bytes(), nil
}
