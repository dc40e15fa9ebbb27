package disk

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// maxInTheWay bounds the files that a new output may replace by lying where
// their folder is.
const maxInTheWay = 100_000

// inTheWay lists what is not a folder but lies where one of paths needs a
// folder, and the files beneath a folder that lies where one of paths needs a
// file. Links count as what they are, not as what they lead to.
func (t *tree) inTheWay(paths []messages.Path) ([]messages.Path, error) {
	var found []messages.Path
	seen := map[string]bool{} // folders that have been looked at, and whether they are there
	listed := map[string]bool{}
	for _, p := range paths {
		parent := path.Dir(string(p))
		there, known := seen[parent]
		if !known {
			bad, err := t.notFolder(parent)
			if err != nil {
				return nil, err
			}
			if bad != "" && !listed[bad] {
				listed[bad] = true
				found = append(found, messages.Path(bad))
			}
			_, err = t.dir(parent, false)
			there = err == nil
			seen[parent] = there
		}
		if !there {
			continue
		}
		st, there, err := t.lstat(p)
		if err != nil {
			return nil, err
		}
		if there && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if found, err = t.below(string(p), found); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// notFolder returns the first part of a path that exists and is no folder.
func (t *tree) notFolder(name string) (string, error) {
	_, err := t.dir(name, false)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		return "", err
	}
	if above, err := t.notFolder(path.Dir(name)); above != "" || err != nil {
		return above, err
	}
	return name, nil
}

// below appends everything but folders beneath a folder.
func (t *tree) below(name string, found []messages.Path) ([]messages.Path, error) {
	entries, err := t.list(name)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		full := path.Join(name, e.Name())
		if !e.IsDir() {
			found = append(found, messages.Path(full))
		} else if found, err = t.below(full, found); err != nil {
			return nil, err
		}
		if len(found) > maxInTheWay {
			return nil, fmt.Errorf("more than %d files lie beneath folder %s, where an output needs a file", maxInTheWay, messages.Path(name))
		}
	}
	return found, nil
}
