package staging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openBeneath opens a path below a folder: no way out, no links, no other file
// system, no waiting for a FIFO's other end.
func openBeneath(dir *os.File, path string) (*os.File, error) {
	f, err := openat2(dir, path, unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), path), Err: err}
	}
	return f, nil
}

// openDirAt opens a folder in another one: no link, and nothing that is mounted
// there, which is unix.EXDEV.
func openDirAt(parent *os.File, name string) (*os.File, error) {
	return openat2(parent, name, unix.O_DIRECTORY)
}

func openat2(dir *os.File, path string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), path, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), path)), nil
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR): // a rename was under way
			continue
		}
		return nil, err
	}
}

// makeParents makes the folders of a path below a root that only we write.
func makeParents(root, path string, made map[string]bool, own func(...string) error) error {
	dir := filepath.Dir(path)
	if dir == "." || made[dir] {
		return nil
	}
	at := root
	for part := range strings.SplitSeq(dir, "/") {
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make folder %s: %w", at, err)
		} else if err == nil {
			if err := own(at); err != nil {
				return err
			}
		}
	}
	made[dir] = true
	return nil
}
