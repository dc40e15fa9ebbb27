package git

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A mirror is a bare repository of ours. It holds commits, not branches: a ref
// below refs/sluice/fetched says that a commit is there, whole.
//
// Beside git's own files it has sluice/branch/<hash of branch>/<commit>, empty
// files that say that a commit was once found on a branch.
type mirror struct {
	url string // of the repository, one of the ways to write it
	dir string
}

func (m *Mirrors) dir() (string, error) {
	if m.Dir == "" {
		return "", errors.New("the directory of git mirrors is not set")
	}
	dir, err := filepath.Abs(m.Dir)
	if err != nil {
		return "", fmt.Errorf("find the directory of git mirrors: %w", err)
	}
	return dir, nil
}

func home(dir string) string        { return filepath.Join(dir, "home") }
func localConfig(dir string) string { return filepath.Join(dir, "local.gitconfig") }

func (m *Mirrors) mirror(repo string) (mirror, error) {
	dir, err := m.dir()
	if err != nil {
		return mirror{}, err
	}
	url := trimURL(repo)
	return mirror{url: url, dir: filepath.Join(dir, slug(url))}, nil
}

// prepare makes what surrounds a mirror.
func (m *Mirrors) prepare(mir mirror) error { return prepareDir(filepath.Dir(mir.dir)) }

func prepareDir(dir string) error {
	if err := os.MkdirAll(home(dir), 0o700); err != nil {
		return fmt.Errorf("make the directory of git mirrors: %w", err)
	}
	path := localConfig(dir)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	f, err := os.CreateTemp(dir, "local-*.tmp")
	if err != nil {
		return fmt.Errorf("make git's settings: %w", err)
	}
	_, err = f.WriteString("[safe]\n\tdirectory = *\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make git's settings: %w", err), os.Remove(f.Name()))
	}
	return nil
}

func fetchedRef(commit string) string { return "refs/sluice/fetched/" + commit }

// has reports whether a commit was fetched to its end. It reads git's file
// itself: it is asked for each action, and nothing here ever packs refs.
func (mir mirror) has(commit string) bool {
	data, err := os.ReadFile(filepath.Join(mir.dir, fetchedRef(commit)))
	return err == nil && strings.TrimSpace(string(data)) == commit
}

func (mir mirror) seenPath(branch, commit string) string {
	sum := sha256.Sum256([]byte(branch))
	return filepath.Join(mir.dir, "sluice", "branch", hex.EncodeToString(sum[:16]), commit)
}

// seen reports whether the commit was once found on the branch.
func (mir mirror) seen(branch, commit string) bool {
	_, err := os.Lstat(mir.seenPath(branch, commit))
	return err == nil
}

// see remembers that the commit is on the branch.
func (mir mirror) see(branch, commit string) error {
	path := mir.seenPath(branch, commit)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("note the branch of a commit: %w", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("note the branch of a commit: %w", err)
	}
	return nil
}

// open makes the mirror, if need be, and takes away what a killed git left in
// it. The caller holds the lock, so nothing of it is in use.
func (m *Mirrors) open(ctx context.Context, mir mirror, lock *os.File) error {
	if _, err := os.Lstat(filepath.Join(mir.dir, "HEAD")); err == nil {
		return mir.sweep()
	}
	making := mir.dir + ".new"
	if err := os.RemoveAll(making); err != nil {
		return fmt.Errorf("make mirror: %w", err)
	}
	args := []string{"init", "--quiet", "--bare", "--template=", "--initial-branch=none", "--object-format=sha1", "--end-of-options", making}
	if _, err := m.run(ctx, call{args: args, lock: lock}); err != nil {
		return fmt.Errorf("make mirror: %w", err)
	}
	if err := os.Rename(making, mir.dir); err != nil {
		return fmt.Errorf("make mirror: %w", err)
	}
	return nil
}

// sweep removes lock files, which would stop every later fetch, and packs that
// were never finished, which only take room.
func (mir mirror) sweep() error {
	for _, pattern := range []string{"*.lock", "shallow_*", "refs/sluice/fetched/*.lock", "objects/pack/tmp_*"} {
		left, err := filepath.Glob(filepath.Join(escapeGlob(mir.dir), pattern))
		if err != nil {
			return fmt.Errorf("sweep mirror %s: %w", mir.dir, err)
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("sweep mirror %s: %w", mir.dir, err)
			}
		}
	}
	return nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
