package staging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// Inspect lists the new and changed files of an attempt whose container is
// gone, sorted by path. Only regular files with one link are opened; of the
// rest the listing says what they are. A messages.Failure says that the action
// left what cannot be listed.
func (a *Area) Inspect(ctx context.Context, w *Workspace) ([]messages.File, error) {
	root, err := openDir(w.files)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	defer root.Close()
	found, closed, err := a.look(ctx, w, root)
	if err == nil {
		err = digests(ctx, root, found)
	}
	if err == nil {
		a.leaveMarks(w, found)
		err = a.share(root, found, closed)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	layers, err := openLayers(w.lower)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	defer layers.close()
	files := make([]messages.File, 0, len(found))
	for _, f := range found {
		if !layers.have(f.File) {
			files = append(files, f.File)
		}
	}
	slices.SortFunc(files, func(x, y messages.File) int { return strings.Compare(string(x.Path), string(y.Path)) })
	return files, nil
}

// A sighting is a file as the walk saw it.
type sighting struct {
	messages.File
	stamp  stamp
	closed bool                 // to the persister's group
	marks  *messages.Milestones // once it is hashed; nil if it is not large
}

// leaveMarks writes the milestones of large files beside them, for a persister
// to verify those sooner. That it could not decides nothing.
func (a *Area) leaveMarks(w *Workspace, found []sighting) {
	var all []*messages.Milestones
	for i := range found {
		if found[i].marks != nil {
			all = append(all, found[i].marks)
		}
	}
	if all == nil {
		return
	}
	data, err := messages.EncodeMilestones(all)
	if err == nil {
		err = a.WriteFile(w, messages.MilestonesFile, data)
	}
	if err != nil {
		a.cfg.Log.Warn().Err(err).Str("dir", w.Dir).Msg("milestones of large files cannot be left")
	}
}

// look walks through what the attempt left. Closed are the folders that the
// persister's group cannot enter.
func (a *Area) look(ctx context.Context, w *Workspace, root *os.File) (found []sighting, closed map[messages.Path]bool, err error) {
	closed = map[messages.Path]bool{}
	var entries int
	var size int64
	err = walk(ctx, root, func(path messages.Path, st *unix.Stat_t) error {
		if entries++; entries > messages.MaxListed {
			return messages.Failf(messages.JobError, "the action left more than %d files and folders; more cannot be listed", messages.MaxListed)
		}
		if err := unlock(root, path, st); err != nil {
			return err
		}
		kind := kindOf(st)
		if kind == "" && a.lacks(st, enterDir) {
			closed[path] = true
		}
		if kind == "" || kind == messages.KindDevice && st.Rdev == 0 && w.lower != nil {
			return nil // a folder; or a whiteout: the attempt removed what it was given
		}
		if old, given := w.before[path]; given && old == stampOf(st) {
			return nil
		}
		f := messages.File{Path: path, Kind: kind, Mode: st.Mode & 0o777, Time: timeOf(st)}
		if kind == messages.KindFile {
			f.Size = st.Size
		}
		if size += f.Size; w.Limit > 0 && size > w.Limit {
			return messages.Failf(messages.JobError, "the action's files come to more than %d MiB, which is its limit", w.Limit>>20)
		}
		found = append(found, sighting{File: f, stamp: stampOf(st), closed: a.lacks(st, readFile)})
		return nil
	})
	return found, closed, err
}

// timeOf is when a file last changed, or the zero time if the action has given
// it one that is not told in nanoseconds: no listing could be made of it.
func timeOf(st *unix.Stat_t) time.Time {
	at := time.Unix(st.Mtim.Unix()).UTC()
	if !messages.Listable(at) {
		return time.Time{}
	}
	return at
}

// Used returns the bytes that an attempt has written so far, and stops counting
// above a limit: who is above it cannot keep that from being said by what it
// locks away or changes meanwhile. A messages.Failure says that the action has
// done what will not be listed.
func (a *Area) Used(ctx context.Context, w *Workspace, limit int64) (int64, error) {
	root, err := openDir(w.files)
	if err != nil {
		return 0, fmt.Errorf("measure staging: %w", err)
	}
	defer root.Close()
	enough := errors.New("enough")
	used := -w.given
	var passed error // what could not be looked into
	err = walkPast(ctx, root, func(path messages.Path, st *unix.Stat_t) error {
		if used += st.Blocks * 512; used > limit {
			return enough
		}
		return unlock(root, path, st)
	}, func(err error) error {
		var at *os.PathError
		if errors.As(err, &at) || errors.Is(err, ErrChanging) {
			passed, err = err, nil
		}
		return err
	})
	if errors.Is(err, enough) {
		return used, nil
	}
	if err = cmp.Or(err, passed); err != nil {
		return max(used, 0), fmt.Errorf("measure staging: %w", err)
	}
	return max(used, 0), nil
}

// Free returns the bytes that staging's file system has left. What is kept for
// other attempts never takes up more than that.
func (a *Area) Free() (int64, error) {
	free, err := a.free()
	if err == nil && a.kept != nil && a.kept.makeRoom(free) {
		return a.free()
	}
	return free, err
}

func (a *Area) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(a.cfg.Root, &st); err != nil {
		return 0, fmt.Errorf("measure the file system of %s: %w", a.cfg.Root, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
