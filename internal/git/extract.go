package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// Extract writes the tree of a commit that Fetch has completed into dir, which
// must be empty or not there. Files get their exact contents and mode 0644 or
// 0755, folders 0755, whatever the umask; links stay links, wherever they
// point, and are written last, so that nothing is written through one.
// Submodules become empty folders. What it leaves in dir on an error is for
// the caller to remove. The error is NotAllowed or TooLarge for a tree that is
// refused, nearly always before anything is written.
//
// It does not use `git checkout`, which runs filters and hooks, nor `git
// archive`, which changes the tree by the attributes export-subst and
// export-ignore.
func (m *Mirrors) Extract(ctx context.Context, repo, commit, dir string) (err error) {
	mir, err := m.fetched(repo, commit)
	if err != nil {
		return err
	}
	entries, err := m.tree(ctx, mir, commit)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("extract commit %s: %w", commit, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("extract commit %s: %w", commit, err)
	}
	defer closing(root, &err)
	w := writer{root: root, made: map[string]bool{".": true}}
	if err := w.checkEmpty(); err != nil {
		return fmt.Errorf("extract commit %s into %s: %w", commit, dir, err)
	}
	var stored []entry // files first, then links
	for _, e := range entries {
		if e.mode == submodule {
			if err := w.folder(e.path); err != nil {
				return fmt.Errorf("extract commit %s: %w", commit, err)
			}
		} else if e.regular() {
			stored = append(stored, e)
		}
	}
	for _, e := range entries {
		if e.mode == link {
			stored = append(stored, e)
		}
	}
	if err := m.blobs(ctx, mir, stored, w.write); err != nil {
		return fmt.Errorf("extract commit %s: %w", commit, err)
	}
	return nil
}

// A writer makes a tree below a root that nothing can climb out of.
type writer struct {
	root *os.Root
	made map[string]bool
}

func (w writer) checkEmpty() error {
	d, err := w.root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); !errors.Is(err, io.EOF) {
		return errors.Join(errors.New("it is not empty"), err)
	}
	return nil
}

// folder makes a folder and those above it.
func (w writer) folder(name string) error {
	if w.made[name] {
		return nil
	}
	if err := w.folder(path.Dir(name)); err != nil {
		return err
	}
	if err := w.root.Mkdir(name, 0o755); err != nil {
		return err
	}
	if err := w.root.Chmod(name, 0o755); err != nil {
		return err
	}
	w.made[name] = true
	return nil
}

func (w writer) write(e entry, r io.Reader) error {
	if err := w.folder(path.Dir(e.path)); err != nil {
		return err
	}
	if e.mode == link {
		target, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if bytes.IndexByte(target, 0) >= 0 {
			return errorf(NotAllowed, "The symbolic link %s points to a name with a zero byte", printable(e.path))
		}
		return w.root.Symlink(string(target), e.path)
	}
	return w.file(e, r)
}

func (w writer) file(e entry, r io.Reader) (err error) {
	f, err := w.root.OpenFile(e.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer closing(f, &err)
	if _, err := io.Copy(f, r); err != nil {
		return fmt.Errorf("write %s: %w", e.path, err)
	}
	mode := os.FileMode(0o644)
	if e.mode == "100755" {
		mode = 0o755
	}
	return f.Chmod(mode)
}
