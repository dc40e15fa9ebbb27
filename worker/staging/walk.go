package staging

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// maxDepth bounds the folders inside folders that are looked into.
const maxDepth = 200

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// walk visits everything below a folder, folders before what is in them,
// through descriptors: no link can lead it astray. What goes away meanwhile is
// passed over. A messages.Failure says that something lies too deep.
func walk(ctx context.Context, root *os.File, visit func(messages.Path, *unix.Stat_t) error) error {
	return walkPast(ctx, root, visit, func(err error) error { return err })
}

// walkPast goes on past an entry that fails, if past makes nil of its error.
func walkPast(ctx context.Context, root *os.File, visit func(messages.Path, *unix.Stat_t) error, past func(error) error) error {
	return walkDir(ctx, root, "", 0, visit, past)
}

func walkDir(ctx context.Context, dir *os.File, prefix messages.Path, depth int, visit func(messages.Path, *unix.Stat_t) error, past func(error) error) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if err := walkEntry(ctx, dir, name, prefix, depth, visit, past); err != nil && past(err) != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ENOENT) || err == nil && len(names) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func walkEntry(ctx context.Context, dir *os.File, name string, prefix messages.Path, depth int, visit func(messages.Path, *unix.Stat_t) error, past func(error) error) error {
	path := messages.Path(name)
	if prefix != "" {
		path = prefix + "/" + path
	}
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "look at", Path: path.String(), Err: err}
	}
	if len(path) > messages.MaxPath {
		return messages.Failf(messages.JobError, "the action left a path of %d bytes; the limit is %d", len(path), messages.MaxPath)
	}
	if err := visit(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	if depth == maxDepth {
		return messages.Failf(messages.JobError, "the action left folders nested deeper than %d", maxDepth)
	}
	sub, err := openDirAt(dir, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "look into", Path: path.String(), Err: err}
	}
	defer sub.Close()
	return walkDir(ctx, sub, path, depth+1, visit, past)
}

// kindOf tells what an entry is; "" is a folder.
func kindOf(st *unix.Stat_t) messages.Kind {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return ""
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
