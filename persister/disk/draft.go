package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
)

// A draft is an attempt on its way into the tiers. Its files wait in two
// folders of its own, one on each tier's file system.
type draft struct {
	s    *Store
	at   persister.Attempt
	name string
	lock *lock

	dir    *os.File // files of the highly sensitive tier and of the record
	medium *os.File // nil if there is no such tier
	base   *os.File // <staging>/<job>/<attempt>; nil if it is missing
	from   *os.File // its folder files

	files   []messages.File
	marks   map[messages.Path]*messages.Milestones // of large ones, as far as the worker left them
	staged  []bool                                 // the file is still in staging: the journal moves it
	reasons []string                               // why the file is not as listed; empty: it is
	late    *late                                  // the copies of large files; nil before Copy
	closed  bool
	kept    bool // the folders are the journal's now, or nobody knows yet whose
}

// cfgOf is the configuration of the tier that a draft's folder is for.
func (d *draft) cfgOf(dir *os.File) Config {
	if dir == d.medium {
		return d.s.cfg.ofMedium()
	}
	return d.s.cfg
}

// draftName is the name of an attempt's folders, its lock and its journal
// entry. None of the three parts has a dot.
func draftName(a persister.Attempt) string {
	return a.Workspace + "." + string(a.Job) + "." + strconv.Itoa(a.Number)
}

// Begin takes an attempt. What an earlier process left of it is dropped: its
// commit is not this attempt's, or the caller would not begin.
func (s *Store) Begin(_ context.Context, a persister.Attempt) (persister.Draft, error) {
	if err := errors.Join(messages.CheckWorkspace(a.Workspace), messages.CheckAction(a.Action), a.Job.Check()); err != nil {
		return nil, fmt.Errorf("begin %s: %w", a, err)
	}
	if err := s.cfg.apart(a.Workspace); err != nil {
		return nil, fmt.Errorf("begin %s: %w", a, err)
	}
	d := &draft{s: s, at: a, name: draftName(a)}
	var err error
	if d.lock, err = s.lockAttempt(d.name); err != nil {
		return nil, err
	}
	s.live.Store(d.name, true)
	if err := d.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("begin %s: %w", a, err), d.Close())
	}
	return d, nil
}

func (d *draft) open() (err error) {
	if err := d.s.drop(d.name); err != nil {
		return err
	}
	if d.dir, err = makeDraftDir(d.s.tmp, d.name); err != nil {
		return err
	}
	if d.s.medium != nil {
		if d.medium, err = makeDraftDir(d.s.medium, d.name); err != nil {
			return err
		}
	}
	// The way to the attempt's folder is the worker's; it may lie on a file
	// system of its own. Beneath it nothing is trusted.
	const folder, way = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW, beneath &^ unix.RESOLVE_NO_XDEV
	d.base, err = openAt(d.s.staging, path.Join(string(d.at.Job), strconv.Itoa(d.at.Number)), folder, way)
	if err == nil {
		d.from, err = openAt(d.base, stagedFiles, folder, way)
	}
	var bad *differs
	if errors.As(blame(err), &bad) {
		return nil // Copy and Open will say that it is missing
	}
	return err
}

// stagedFiles is the folder of an attempt's own files in staging.
const stagedFiles = "files"

func makeDraftDir(parent *os.File, name string) (*os.File, error) {
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o700); err != nil {
		return nil, fmt.Errorf("make folder %s in %s: %w", name, parent.Name(), explain(err, parent))
	}
	return openAt(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath)
}

// Open opens a file that the worker wrote beside the attempt's files.
func (d *draft) Open(name string) (io.ReadCloser, error) {
	if d.base == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, _, err := openRegular(d.base, name)
	var bad *differs
	if errors.As(blame(err), &bad) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%s: %w", bad.how, fs.ErrNotExist)}
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Close gives the attempt up. Its temporary files are removed, unless they are
// the journal's.
func (d *draft) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	d.late.end()
	var errs []error
	for _, f := range []*os.File{d.base, d.from, d.dir, d.medium} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if !d.kept {
		errs = append(errs, d.s.drop(d.name))
	}
	d.s.live.Delete(d.name)
	errs = append(errs, d.lock.release())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give up %s: %w", d.at, err)
	}
	return nil
}

// drop removes a draft's folders, the second before the first: a draft that is
// half gone can still be found.
func (s *Store) drop(name string) error {
	if s.medium != nil {
		if err := removeFlat(s.medium, name); err != nil {
			return err
		}
	}
	return removeFlat(s.tmp, name)
}

// removeFlat removes a folder that has only files in it.
func removeFlat(parent *os.File, name string) error {
	dir, err := openAt(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir.Name(), err)
	}
	for _, file := range names {
		if err := unix.Unlinkat(int(dir.Fd()), file, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s from %s: %w", file, dir.Name(), err)
		}
	}
	if err := unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove folder %s: %w", dir.Name(), err)
	}
	return nil
}
