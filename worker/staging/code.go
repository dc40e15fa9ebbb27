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
	t := a.trees.hold(key) // before it is looked for: what is held is not evicted
	w.tree = key
	dir := filepath.Join(a.cfg.Cache, "code", key)
	select {
	case t.gate <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	err := a.provide(ctx, action.Source, dir)
	<-t.gate
	if err != nil {
		return "", err
	}
	a.evict()
	return dir, a.sample(dir, w)
}

// provide makes an extraction, unless it is there.
func (a *Area) provide(ctx context.Context, src messages.Source, dir string) error {
	_, err := os.Lstat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = a.extract(ctx, src, dir)
	case err != nil:
		err = fmt.Errorf("look for the code: %w", err)
	}
	if err != nil {
		return err
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // its last use: the oldest goes first
	return nil
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
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return a.own(path)
	})
	if err != nil {
		return fmt.Errorf("give the code away: %w", err)
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
	all   map[string]*tree
	sizes map[string]int64 // of extractions, in bytes, as far as they were measured
}

type tree struct {
	uses int
	gate chan struct{} // full while somebody makes it
}

func (t *trees) hold(key string) *tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.all[key]
	if held == nil {
		held = &tree{gate: make(chan struct{}, 1)}
		t.all[key] = held
	}
	held.uses++
	return held
}

func (t *trees) letGo(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if held := t.all[key]; held != nil {
		if held.uses--; held.uses <= 0 {
			delete(t.all, key)
		}
	}
}

// evict removes the extractions that were used longest ago, none that is in
// use, until no more than Trees and TreeBytes are kept.
func (a *Area) evict() {
	root := filepath.Join(a.cfg.Cache, "code")
	entries, err := os.ReadDir(root)
	if err != nil {
		return
	}
	type last struct {
		name string
		used time.Time
		size int64
	}
	var old []last
	var total int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size := a.treeSize(root, e.Name())
			total += size
			old = append(old, last{e.Name(), info.ModTime(), size})
		}
	}
	slices.SortFunc(old, func(x, y last) int { return x.used.Compare(y.used) })
	kept := len(old)
	for _, t := range old {
		if kept <= a.cfg.Trees && total <= a.cfg.TreeBytes {
			return
		}
		if a.evictOne(root, t.name) {
			kept--
			total -= t.size
		}
	}
}

// treeSize measures an extraction, once.
func (a *Area) treeSize(root, name string) int64 {
	a.trees.mu.Lock()
	size, known := a.trees.sizes[name]
	a.trees.mu.Unlock()
	if known {
		return size
	}
	_ = filepath.WalkDir(filepath.Join(root, name), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is being removed
		}
		if info, err := d.Info(); err == nil && d.Type().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	a.trees.mu.Lock()
	defer a.trees.mu.Unlock()
	a.trees.sizes[name] = size
	return size
}

// evictOne takes a tree out of sight first: one under its own name is whole.
func (a *Area) evictOne(root, name string) (idle bool) {
	gone := filepath.Join(a.cfg.Cache, "tmp", "gone-"+name)
	a.trees.mu.Lock()
	idle = a.trees.all[name] == nil
	if idle {
		idle = os.Rename(filepath.Join(root, name), gone) == nil
		delete(a.trees.sizes, name)
	}
	a.trees.mu.Unlock()
	if idle {
		_ = removeAll(gone) // or at the next start
	}
	return idle
}

// clearCache removes what a killed worker left half made. After a restart of
// the machine it removes all: nothing there was synced.
func (a *Area) clearCache() error {
	tmp, code := filepath.Join(a.cfg.Cache, "tmp"), filepath.Join(a.cfg.Cache, "code")
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	note := filepath.Join(a.cfg.Cache, "boot")
	before, _ := os.ReadFile(note)
	clear := []string{tmp}
	if len(boot) == 0 || string(before) != string(boot) {
		clear = append(clear, code)
	}
	for _, dir := range clear {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("clear the cache: %w", err)
		}
		for _, e := range entries {
			if err := removeAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("clear the cache: %w", err)
			}
		}
	}
	if err := os.WriteFile(note, boot, 0o600); err != nil {
		return fmt.Errorf("clear the cache: %w", err)
	}
	return nil
}
