package disk

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// beneath is how every path inside a root is resolved: no way out, no links,
// no other file system.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// openAt opens a path beneath a folder. Of a race with a rename the kernel
// says EAGAIN: then it is tried again, not for ever.
func openAt(dir *os.File, name string, flags uint64, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path.Join(dir.Name(), name)), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN) && tries < 1000:
			continue
		}
		return nil, &os.PathError{Op: "open", Path: path.Join(dir.Name(), name), Err: err}
	}
}

// openRegular opens a file beneath a folder for reading, and refuses what is
// not a regular file with one link. It never blocks and follows nothing.
func openRegular(dir *os.File, name string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := openAt(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY, beneath)
	if err != nil {
		return nil, st, err
	}
	err = unix.Fstat(int(f.Fd()), &st)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errNotRegular
	case st.Nlink != 1:
		err = errLinked
	default:
		return f, st, nil
	}
	return nil, st, errors.Join(fmt.Errorf("open %s: %w", f.Name(), err), f.Close())
}

var (
	errNotRegular = errors.New("it is not a regular file")
	errLinked     = errors.New("it has other hard links")
)
