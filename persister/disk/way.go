package disk

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
)

// maxInTheWay bounds the files that a new output may replace by lying where
// their folder is.
const maxInTheWay = 100_000

// inTheWay lists what is not a folder but lies where one of paths needs a
// folder, and the files beneath a folder that lies where one of paths needs a
// file. Links count as what they are, not as what they lead to. What could not
// be changed, if paths were to be placed, is an error that wraps Blocked.
func (t *tree) inTheWay(paths []messages.Path) ([]messages.Path, error) {
	var found []messages.Path
	seen := map[string]bool{} // folders that have been looked at, and whether they are there
	listed := map[string]bool{}
	for _, p := range paths {
		parent := path.Dir(string(p))
		there, known := seen[parent]
		if !known {
			var bad string
			var err error
			if there, bad, err = t.folder(parent); err != nil {
				return nil, err
			}
			if bad != "" && !listed[bad] {
				listed[bad] = true
				found = append(found, messages.Path(bad))
			}
			seen[parent] = there
		}
		if !there {
			continue
		}
		isFolder, err := t.look(p)
		if err != nil {
			return nil, err
		}
		if isFolder {
			if found, err = t.below(string(p), found); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// folder says whether there is a folder of this name; if there is none, bad is
// what lies in its place or above it, if anything does. One that nothing could
// be placed in is Blocked.
func (t *tree) folder(name string) (there bool, bad string, err error) {
	f, err := t.dir(name, false)
	switch {
	case err == nil:
		if err := unix.Faccessat(int(f.Fd()), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return true, "", t.blocked(name, err)
		}
		return true, "", nil
	case errors.Is(err, unix.ENOENT):
		_, bad, err = t.folder(path.Dir(name))
		return false, bad, err
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		if there, bad, err = t.folder(path.Dir(name)); there {
			bad = name
		}
		return false, bad, err
	}
	return false, "", t.blocked(name, err)
}

// fixed are attributes of what nobody can rename or remove.
const fixed = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND | unix.STATX_ATTR_MOUNT_ROOT

// look says whether a folder lies at a path whose own folder is there. What
// nothing can take the place of is Blocked.
func (t *tree) look(p messages.Path) (folder bool, err error) {
	parent, err := t.dir(path.Dir(string(p)), false)
	if err != nil {
		return false, t.blocked(string(p), err)
	}
	var st unix.Statx_t
	err = unix.Statx(int(parent.Fd()), path.Base(string(p)), unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, t.blocked(string(p), err)
	case st.Attributes&fixed != 0:
		return false, &persister.Blocked{Path: p, Why: "it is a mount point, or marked as not to be changed"}
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// blocked tells what stands in the way from what may be over by the next try.
func (t *tree) blocked(name string, err error) error {
	why := ""
	switch {
	case errors.Is(err, unix.EXDEV):
		why = "it lies on another file system than its tier"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		why = "permission denied"
	case errors.Is(err, unix.ENAMETOOLONG):
		why = "its name is too long for the tier's file system"
	default:
		return fmt.Errorf("look at %s in %s: %w", messages.Path(name), t.root.Name(), err)
	}
	return &persister.Blocked{Path: messages.Path(name), Why: why}
}

// below appends everything but folders beneath a folder.
func (t *tree) below(name string, found []messages.Path) ([]messages.Path, error) {
	if _, _, err := t.folder(name); err != nil {
		return nil, err
	}
	entries, err := t.list(name)
	if err != nil {
		return nil, t.blocked(name, err)
	}
	for _, e := range entries {
		full := path.Join(name, e.Name())
		if !e.IsDir() {
			found = append(found, messages.Path(full))
		} else if found, err = t.below(full, found); err != nil {
			return nil, err
		}
		if len(found) > maxInTheWay {
			return nil, &persister.Blocked{Path: messages.Path(name), Why: fmt.Sprintf("more than %d files lie beneath it", maxInTheWay)}
		}
	}
	return found, nil
}
