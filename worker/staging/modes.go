package staging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice/internal/spread"
	"sluice/messages"
)

// FileMode is the mode of a file that the worker writes for the persister,
// beside an attempt's files.
func (a *Area) FileMode() fs.FileMode {
	if a.cfg.Public {
		return 0o644
	}
	return 0o640
}

// WriteFile writes a file for the persister, beside an attempt's files.
func (a *Area) WriteFile(w *Workspace, name string, data []byte) error {
	path := filepath.Join(w.Dir, name)
	if err := os.WriteFile(path, data, a.FileMode()); err != nil {
		return err
	}
	return os.Chmod(path, a.FileMode()) // whatever the umask is
}

// dirMode is the mode of the folders above an attempt's files: they decide who
// can get at anything of it. What is made in them has their group.
func (a *Area) dirMode() fs.FileMode {
	switch {
	case a.cfg.Public:
		return 0o755
	case a.cfg.Group > 0:
		return 0o750 | fs.ModeSetgid
	}
	return 0o750
}

// makeCache makes the folders that are nobody else's: what a container sees of
// them, it sees through a mount.
func (a *Area) makeCache() error {
	for _, name := range []string{"code", "tmp"} {
		if err := os.MkdirAll(filepath.Join(a.cfg.Cache, name), 0o700); err != nil {
			return fmt.Errorf("make the cache: %w", err)
		}
	}
	return nil
}

// makeRoot makes staging's root. One that is there keeps the mode that an
// operator gave it.
func (a *Area) makeRoot() error {
	defer spread.Mark(a.cfg.Root) // also one that is there
	_, err := os.Lstat(a.cfg.Root)
	if err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(a.cfg.Root), 0o755); err != nil {
		return fmt.Errorf("make staging: %w", err)
	}
	if err := a.makeDir(a.cfg.Root); err != nil {
		return fmt.Errorf("make staging: %w", err)
	}
	return nil
}

// probeGiving finds out whether this process can give files to those who need
// them: the containers' user, and the persister's group.
func (a *Area) probeGiving() error {
	f, err := os.CreateTemp(filepath.Join(a.cfg.Cache, "tmp"), "give-")
	if err != nil {
		return fmt.Errorf("probe the cache: %w", err)
	}
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }() // or at the next start
	if a.cfg.Group > 0 {
		if err := f.Chown(-1, a.cfg.Group); err != nil {
			return fmt.Errorf("files of staging cannot be given to group %d: make this process's user a member of it: %w", a.cfg.Group, err)
		}
	}
	if err := a.own(f.Name()); err != nil {
		return fmt.Errorf("%w: only root can run containers as another user than itself", err)
	}
	return nil
}

// makeAttempt makes the folder of an attempt and that of its job, also when
// another worker that has just removed another attempt takes the job's folder
// away meanwhile.
func (a *Area) makeAttempt(dir string) error {
	for range 100 {
		err := a.makeDir(filepath.Dir(dir))
		if err == nil {
			err = a.makeDir(dir)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("folder %s is taken away again and again", filepath.Dir(dir))
}

// makeDir makes a folder above an attempt's files. One that is there, half made
// by a worker that was killed, gets its mode too; another user's stays as it is.
func (a *Area) makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	there := errors.Is(err, fs.ErrExist)
	if err != nil && !there {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return &fs.PathError{Op: "make", Path: dir, Err: unix.ENOTDIR}
	}
	if a.cfg.Group > 0 && int(st.Gid) != a.cfg.Group {
		err = os.Lchown(dir, -1, a.cfg.Group)
	}
	if err == nil && info.Mode()&(fs.ModePerm|fs.ModeSetgid) != a.dirMode() {
		err = os.Chmod(dir, a.dirMode())
	}
	if there && errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// own gives files and folders to the user that the container runs as.
func (a *Area) own(paths ...string) error {
	if a.cfg.UID == os.Geteuid() && a.cfg.GID == os.Getegid() {
		return nil
	}
	for _, path := range paths {
		if err := os.Lchown(path, a.cfg.UID, a.cfg.GID); err != nil {
			return fmt.Errorf("give staging to user %d: %w", a.cfg.UID, err)
		}
	}
	return nil
}

// ownFiles gives the folder of an attempt's own files to the user that its
// container runs as, and to the group that will read them.
func (a *Area) ownFiles(dir string) error {
	if err := a.own(dir); err != nil || a.cfg.Group <= 0 {
		return err
	}
	err := os.Lchown(dir, -1, a.cfg.Group)
	if err == nil {
		err = os.Chmod(dir, a.dirMode()) // what is made in it has its group
	}
	if err != nil {
		return fmt.Errorf("give staging to group %d: %w", a.cfg.Group, err)
	}
	return nil
}

// What the persister's group must be able to do.
const (
	readFile  = 0o040
	enterDir  = 0o050
	ownerFile = 0o400
	ownerDir  = 0o500
)

// lacks reports whether the group cannot yet get at a file or a folder.
func (a *Area) lacks(st *unix.Stat_t, want uint32) bool {
	return a.cfg.Group > 0 && (int(st.Gid) != a.cfg.Group || st.Mode&want != want)
}

// share lets the group read the listed regular files of an attempt whose
// container is gone, whatever modes its programs gave them and the folders
// above them. Each is opened beneath the root, without following anything, and
// only what is a regular file with one link, or a folder, is changed.
func (a *Area) share(root *os.File, found []sighting, closed map[messages.Path]bool) error {
	if a.cfg.Group <= 0 {
		return nil
	}
	if err := a.grant(root, ".", enterDir); err != nil {
		return err
	}
	for i := range found {
		f := &found[i]
		if f.Kind != messages.KindFile {
			continue
		}
		for dir := parent(f.Path); len(closed) > 0 && dir != "."; dir = parent(dir) {
			if !closed[dir] {
				continue
			}
			delete(closed, dir)
			if err := a.grant(root, dir, enterDir); err != nil {
				return err
			}
		}
		if f.closed {
			if err := a.grant(root, f.Path, readFile); err != nil {
				return err
			}
		}
	}
	return nil
}

func parent(p messages.Path) messages.Path { return messages.Path(filepath.Dir(string(p))) }

// grant gives one file or folder the group, with the rights wanted.
func (a *Area) grant(root *os.File, path messages.Path, want uint32) error {
	f, err := openBeneath(root, string(path))
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	wanted := ""
	if want == readFile {
		wanted = string(messages.KindFile)
	}
	if string(kindOf(&st)) != wanted {
		return fmt.Errorf("share %s: %w", path, ErrChanging)
	}
	if int(st.Gid) != a.cfg.Group {
		if err := unix.Fchown(int(f.Fd()), -1, a.cfg.Group); err != nil {
			return fmt.Errorf("give %s to group %d: %w", path, a.cfg.Group, err)
		}
	}
	if st.Mode&want != want {
		if err := unix.Fchmod(int(f.Fd()), st.Mode&0o777|want); err != nil {
			return fmt.Errorf("let group %d read %s: %w", a.cfg.Group, path, err)
		}
	}
	return nil
}

// unlock lets this user read what is its own: an attempt that ran as the same
// user may have taken that right away. Root needs no right.
func unlock(root *os.File, path messages.Path, st *unix.Stat_t) error {
	want := uint32(0)
	switch kindOf(st) {
	case messages.KindFile:
		want = ownerFile
	case "":
		want = ownerDir
	}
	if st.Mode&want == want || os.Geteuid() == 0 || int(st.Uid) != os.Geteuid() {
		return nil
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	fd, err := unix.Openat2(int(root.Fd()), string(path), &how)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path.String(), Err: err}
	}
	defer unix.Close(fd)
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return &fs.PathError{Op: "look at", Path: path.String(), Err: err}
	}
	if now.Ino != st.Ino || now.Dev != st.Dev || kindOf(&now) != kindOf(st) {
		return ErrChanging
	}
	// The descriptor's name leads to what was looked at, whatever has its path.
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), now.Mode&0o777|want); err != nil {
		return &fs.PathError{Op: "unlock", Path: path.String(), Err: err}
	}
	return unix.Fstat(fd, st)
}
