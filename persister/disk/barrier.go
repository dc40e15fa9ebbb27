package disk

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// fewFiles is up to how many files are made durable one by one. One syncfs
// costs less for many, but also waits for whatever else is being written to the
// file system.
const fewFiles = 32

// barrier makes everything durable that the draft has written, or means to
// move.
func (d *draft) barrier() error {
	dirs, count := d.dirs(), 0
	for _, dir := range dirs {
		names, err := list(dir)
		if err != nil {
			return err
		}
		count += len(names)
	}
	if count+len(d.files) > fewFiles {
		return d.syncAll()
	}
	for _, dir := range dirs {
		if err := syncFolder(dir); err != nil {
			return err
		}
	}
	if err := d.syncStaged(); err != nil {
		return err
	}
	return errors.Join(fsync(d.s.tmp), fsync(d.s.medium))
}

// dirs are the draft's folders.
func (d *draft) dirs() []*os.File {
	if d.medium == nil {
		return []*os.File{d.dir}
	}
	return []*os.File{d.dir, d.medium}
}

// syncAll makes each file system durable once. Staged files that are to be
// moved lie on that of the first folder.
func (d *draft) syncAll() error {
	dirs := d.dirs()
	for i, dir := range dirs {
		if i > 0 && sameFileSystem(dirs[0], dir) == nil {
			continue
		}
		if err := unix.Syncfs(int(dir.Fd())); err != nil {
			return fmt.Errorf("sync the file system of %s: %w", dir.Name(), explain(err, dir))
		}
	}
	return nil
}

// syncFolder makes a folder of files durable.
func syncFolder(dir *os.File) error {
	names, err := list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := syncFile(dir, name); err != nil {
			return err
		}
	}
	return fsync(dir)
}

// syncStaged makes the files that the journal will move out of staging
// durable, with the folders that they are in.
func (d *draft) syncStaged() error {
	synced := map[string]bool{}
	for i, staged := range d.staged {
		if !staged {
			continue
		}
		name := string(d.files[i].Path)
		if err := syncFile(d.from, name); err != nil {
			return err
		}
		for folder := path.Dir(name); !synced[folder]; folder = path.Dir(folder) {
			synced[folder] = true
			f, err := openAt(d.from, folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath)
			if err != nil {
				return err
			}
			if err := errors.Join(fsync(f), f.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

func syncFile(dir *os.File, name string) error {
	f, _, err := openRegular(dir, name)
	if err != nil {
		return err
	}
	return errors.Join(fsync(f), f.Close())
}

// fsync makes one file or folder durable; nil is none.
func fsync(f *os.File) error {
	if f == nil {
		return nil
	}
	if err := unix.Fsync(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), explain(err, f))
	}
	return nil
}
