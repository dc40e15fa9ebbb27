package staging

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"sluice/messages"
)

// ErrChanging is wrapped when a file changed while it was read: something
// still writes, or the disk is at fault.
var ErrChanging = errors.New("the file changed while it was read")

// Inspect lists the new and changed files of an attempt whose container is
// gone, sorted by path. Only regular files with one link are opened; of the
// rest the listing says what they are.
func (a *Area) Inspect(ctx context.Context, w *Workspace) ([]messages.File, error) {
	root, err := os.OpenFile(w.files, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	defer root.Close()
	var found []messages.File
	err = walk(ctx, root, "", 0, func(path messages.Path, st *unix.Stat_t) error {
		if kindOf(st) == messages.KindDevice && st.Rdev == 0 && w.lower != nil {
			return nil // a whiteout: the attempt removed what it was given
		}
		if old, given := w.before[path]; given && old == stampOf(st) {
			return nil
		}
		if len(found) >= messages.MaxListed {
			return fmt.Errorf("the action left more than %d files", messages.MaxListed)
		}
		found = append(found, messages.File{Path: path, Kind: kindOf(st), Size: st.Size, Mode: st.Mode & 0o777, Time: time.Unix(st.Mtim.Unix()).UTC()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	if err := digests(ctx, root, found); err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	found = slices.DeleteFunc(found, func(f messages.File) bool { return w.unchanged(f) })
	slices.SortFunc(found, func(x, y messages.File) int { return strings.Compare(string(x.Path), string(y.Path)) })
	return found, nil
}

// digests hashes the regular files, two at a time.
func digests(ctx context.Context, root *os.File, files []messages.File) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	const batch = 64
	for start := 0; start < len(files); start += batch {
		part := files[start:min(start+batch, len(files))]
		group.Go(func() error {
			buf := make([]byte, 256<<10)
			for i := range part {
				f := &part[i]
				if f.Kind != messages.KindFile {
					f.Size = 0
					continue
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				digest, err := digest(root, f, buf)
				if err != nil {
					return fmt.Errorf("read %s: %w", f.Path, err)
				}
				f.Digest = digest
			}
			return nil
		})
	}
	return group.Wait()
}

// digest hashes one file and makes sure that it stayed as it was listed.
func digest(root *os.File, f *messages.File, buf []byte) (string, error) {
	in, err := openBeneath(root, string(f.Path))
	if err != nil {
		return "", err
	}
	defer in.Close()
	var before, after unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &before); err != nil {
		return "", err
	}
	if kindOf(&before) != messages.KindFile || before.Size != f.Size {
		return "", ErrChanging
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{sum}, io.LimitReader(in, f.Size+1), buf)
	if err != nil {
		return "", err
	}
	if err := unix.Fstat(int(in.Fd()), &after); err != nil {
		return "", err
	}
	if n != f.Size || stampOf(&before) != stampOf(&after) {
		return "", ErrChanging
	}
	return messages.FormatDigest(sum.Sum(nil)), nil
}

type onlyWriter struct{ io.Writer }

// unchanged reports whether a file of the upper layer is a copy of what the
// attempt was given: opening a file for writing copies it up.
func (w *Workspace) unchanged(f messages.File) bool {
	if f.Kind != messages.KindFile || w.lower == nil {
		return false
	}
	for _, layer := range w.lower {
		dir, err := os.OpenFile(layer, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false
		}
		given, err := openBeneath(dir, string(f.Path))
		_ = dir.Close()
		if err != nil {
			continue
		}
		same := sameAs(given, f)
		_ = given.Close()
		return same // the uppermost layer that has it is what the attempt saw
	}
	return false
}

func sameAs(given *os.File, f messages.File) bool {
	info, err := given.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
		return false
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, given); err != nil {
		return false
	}
	return messages.FormatDigest(sum.Sum(nil)) == f.Digest
}

// maxDepth bounds the folders inside folders that are looked into.
const maxDepth = 200

// walk visits everything but folders below a folder, through descriptors: no
// link can lead it astray.
func walk(ctx context.Context, dir *os.File, prefix messages.Path, depth int, visit func(messages.Path, *unix.Stat_t) error) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: folders are nested deeper than %d", prefix, maxDepth)
	}
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if err := walkEntry(ctx, dir, name, prefix, depth, visit); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err == nil && len(names) == 0 {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func walkEntry(ctx context.Context, dir *os.File, name string, prefix messages.Path, depth int, visit func(messages.Path, *unix.Stat_t) error) error {
	path := messages.Path(filepath.Join(string(prefix), name))
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return visit(path, &st)
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("look into %s: %w", path, err)
	}
	sub := os.NewFile(uintptr(fd), string(path))
	defer sub.Close()
	return walk(ctx, sub, path, depth+1, visit)
}

func kindOf(st *unix.Stat_t) messages.Kind {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if st.Nlink > 1 {
			return messages.KindHardLink
		}
		return messages.KindFile
	case unix.S_IFLNK:
		return messages.KindLink
	case unix.S_IFIFO:
		return messages.KindFIFO
	case unix.S_IFSOCK:
		return messages.KindSocket
	case unix.S_IFCHR, unix.S_IFBLK:
		return messages.KindDevice
	}
	return messages.KindOther
}

// Used returns the bytes that an attempt has written so far, and stops
// counting above a limit.
func (a *Area) Used(ctx context.Context, w *Workspace, limit int64) (int64, error) {
	root, err := os.OpenFile(w.files, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("measure staging: %w", err)
	}
	defer root.Close()
	enough := errors.New("enough")
	var used int64
	err = walk(ctx, root, "", 0, func(_ messages.Path, st *unix.Stat_t) error {
		if used += st.Blocks * 512; used > limit {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) && !errors.Is(err, unix.ENOENT) {
		return used, fmt.Errorf("measure staging: %w", err)
	}
	return used, nil
}

// Free returns the bytes that staging's file system has left.
func (a *Area) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(a.cfg.Root, &st); err != nil {
		return 0, fmt.Errorf("measure the file system of %s: %w", a.cfg.Root, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
