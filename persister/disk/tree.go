package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// beneath is how every path inside a root is resolved: no way out, no links,
// no other file system.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// A tree is a folder that is ours, and all beneath it. The path to the root is
// the operator's and may have links; below it there are none.
type tree struct {
	root *os.File
	dev  uint64
	cfg  Config
}

// openTree opens a root, making it if wanted.
func openTree(path string, cfg Config, create bool) (*tree, error) {
	if create {
		if err := os.MkdirAll(path, cfg.DirMode); err != nil {
			return nil, fmt.Errorf("make folder %s: %w", path, err)
		}
	}
	f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("stat folder %s: %w", path, err), f.Close())
	}
	return &tree{root: f, dev: st.Dev, cfg: cfg}, nil
}

func (t *tree) Close() error { return t.root.Close() }

// mkdirPrivate makes a folder that only this process's user may enter.
func (t *tree) mkdirPrivate(name string) error {
	err := unix.Mkdirat(int(t.root.Fd()), name, 0o700)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make folder %s in %s: %w", name, t.root.Name(), explain(err, t.root))
	}
	return nil
}
