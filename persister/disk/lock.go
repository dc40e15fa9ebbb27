package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sluice/persister"
)

// A lock keeps other goroutines and other processes out. It ends with its
// process, however that ends.
type lock struct {
	file *os.File
	dir  *os.File
	name string // removed with the lock, unless empty
}

// lockWorkspace waits for a workspace. Whoever has it renames files and asks
// the register once: that is soon over, so ctx has no part in it.
func (s *Store) lockWorkspace(workspace string) (*lock, error) {
	l, err := acquire(s.locks, "workspace."+workspace, unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock workspace %s: %w", workspace, err)
	}
	l.name = "" // it stays: it will be wanted again
	return l, nil
}

// lockAttempt takes an attempt, or says that another has it.
func (s *Store) lockAttempt(name string) (*lock, error) {
	l, err := acquire(s.locks, "attempt."+name, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock attempt %s: %w", name, persister.ErrBusy)
	}
	if err != nil {
		return nil, fmt.Errorf("lock attempt %s: %w", name, err)
	}
	return l, nil
}

// acquire locks a file that it makes. As the file is removed with its lock, it
// may be another's by the time it is locked: then it begins again.
func acquire(dir *os.File, name string, how int) (*lock, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, explain(err, dir)
		}
		f := os.NewFile(uintptr(fd), name)
		for err = unix.Flock(fd, how); errors.Is(err, unix.EINTR); {
			err = unix.Flock(fd, how)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		var mine, now unix.Stat_t
		if err := unix.Fstat(fd, &mine); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if err := unix.Fstatat(int(dir.Fd()), name, &now, unix.AT_SYMLINK_NOFOLLOW); err == nil && now.Ino == mine.Ino {
			return &lock{file: f, dir: dir, name: name}, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

func (l *lock) release() error {
	var err error
	if l.name != "" {
		err = unix.Unlinkat(int(l.dir.Fd()), l.name, 0)
	}
	return errors.Join(err, l.file.Close())
}
