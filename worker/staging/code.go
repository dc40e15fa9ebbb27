package staging

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sluice/messages"
)

// layCode provides the directory that holds the code of an action: a shared
// extraction of a commit, or a copy of a working folder.
func (a *Area) layCode(ctx context.Context, action *messages.Action, w *Workspace) (string, error) {
	if action.Commit == messages.WorkingFolder {
		dir := filepath.Join(w.Dir, "code")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", fmt.Errorf("make staging: %w", err)
		}
		if err := copyFolder(ctx, action.Repo, action.Patterns, dir); err != nil {
			return "", err
		}
		return dir, a.finishTree(dir, w)
	}
	key := treeKey(action.Source)
	dir := filepath.Join(a.cfg.Cache, "code", key)
	unlock := a.trees.lock(key)
	defer unlock()
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		if err := a.extract(ctx, action.Source, dir); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", fmt.Errorf("look for the code: %w", err)
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // its last use: the oldest goes first
	a.trees.hold(key)
	w.tree = key
	a.evict()
	return dir, a.sample(dir, w)
}

// extract writes a commit's tree under a temporary name, then gives it its own:
// a tree that is there is whole.
func (a *Area) extract(ctx context.Context, src messages.Source, dir string) error {
	tmp, err := os.MkdirTemp(filepath.Join(a.cfg.Cache, "tmp"), "code-")
	if err != nil {
		return fmt.Errorf("make room for the code: %w", err)
	}
	defer func() { _ = removeAll(tmp) }() // gone already, if all went well
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := a.code.Extract(ctx, src, tmp); err != nil {
		return err
	}
	if err := a.finishTree(tmp, nil); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	return nil
}

// finishTree gives a tree to the container's user, as an action may write into
// the folders of its study and change files there.
func (a *Area) finishTree(dir string, w *Workspace) error {
	if os.Geteuid() == 0 {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, a.cfg.UID, a.cfg.GID)
		})
		if err != nil {
			return fmt.Errorf("give the code to user %d: %w", a.cfg.UID, err)
		}
	}
	if w == nil {
		return nil
	}
	return a.sample(dir, w)
}

// sample notes the first names of a tree, for hints.
func (a *Area) sample(dir string, w *Workspace) error {
	enough := errors.New("enough")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, _ := filepath.Rel(dir, path); d.Type().IsRegular() && len(rel) < 200 {
			w.Given = append(w.Given, messages.Path(rel))
		}
		if len(w.Given) >= messages.MaxGiven/2 {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		return fmt.Errorf("list the code: %w", err)
	}
	return nil
}

func treeKey(src messages.Source) string {
	sum := sha256.Sum256([]byte(src.Repo + "\n" + src.Commit))
	return hex.EncodeToString(sum[:12])
}

// trees counts the uses of shared extractions, and lets one caller at a time
// make one.
type trees struct {
	mu    sync.Mutex
	used  map[string]int
	locks map[string]*sync.Mutex
}

func (t *trees) lock(key string) (unlock func()) {
	t.mu.Lock()
	if t.locks == nil {
		t.locks = map[string]*sync.Mutex{}
	}
	l := t.locks[key]
	if l == nil {
		l = &sync.Mutex{}
		t.locks[key] = l
	}
	t.mu.Unlock()
	l.Lock()
	return l.Unlock
}

func (t *trees) hold(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used[key]++
}

func (t *trees) letGo(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used[key]--; t.used[key] <= 0 {
		delete(t.used, key)
	}
}

// evict removes the extractions that were used longest ago, none that is in
// use, until no more than Trees are kept.
func (a *Area) evict() {
	root := filepath.Join(a.cfg.Cache, "code")
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) <= a.cfg.Trees {
		return
	}
	type tree struct {
		name string
		used time.Time
	}
	var old []tree
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			old = append(old, tree{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(old, func(x, y tree) int { return x.used.Compare(y.used) })
	for _, t := range old[:len(old)-a.cfg.Trees] {
		a.trees.mu.Lock()
		if a.trees.used[t.name] == 0 {
			// Out of sight first: a tree under its own name is whole.
			gone := filepath.Join(a.cfg.Cache, "tmp", "gone-"+t.name)
			if os.Rename(filepath.Join(root, t.name), gone) == nil {
				_ = removeAll(gone) // or at the next start
			}
		}
		a.trees.mu.Unlock()
	}
}

// clearTemporary removes what a killed worker left half made.
func (a *Area) clearTemporary() error {
	tmp := filepath.Join(a.cfg.Cache, "tmp")
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return fmt.Errorf("clear the cache: %w", err)
	}
	for _, e := range entries {
		if err := removeAll(filepath.Join(tmp, e.Name())); err != nil {
			return fmt.Errorf("clear the cache: %w", err)
		}
	}
	return nil
}
