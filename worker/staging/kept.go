package staging

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// A keeping keeps inputs that attempts were given, for others that need the same:
// a file of the tier is copied, and its digest computed, once. It holds hard
// links to files of lower layers, which nobody ever writes: an attempt that
// changes what it was given gets a copy by the overlay. It knows what it kept
// itself, and nothing of what an earlier process did.
//
// What it keeps takes up room only once the attempts are gone, and never more
// than Config.Kept, nor more than is free beside it.
type keeping struct {
	dir  string
	most int64

	mu    sync.Mutex
	files map[origin]*keptInput
	bytes int64
	next  int
}

type keptInput struct {
	path string
	size int64
	used time.Time
}

// An origin is a file of the tier as it was when it was copied: one that was
// touched since is another.
type origin struct {
	digest string
	dev    uint64
	stamp
}

// openKeeping begins with nothing.
func openKeeping(dir string, most int64) (*keeping, error) {
	if err := removeAll(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return &keeping{dir: dir, most: most, files: map[origin]*keptInput{}}, nil
}

func originOf(f *os.File, digest string) (origin, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return origin{}, err
	}
	return origin{digest: digest, dev: st.Dev, stamp: stampOf(&st)}, nil
}

// lay links what was kept of a file of the tier to a path.
func (k *keeping) lay(from origin, to string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.files[from]
	if f == nil {
		return false
	}
	if os.Link(f.path, to) != nil { // it may have as many links as there may be
		k.drop(from)
		return false
	}
	f.used = time.Now()
	return true
}

// keep keeps a file that was just laid out and found right. What cannot be kept
// is copied again.
func (k *keeping) keep(from origin, path string, size int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if size > k.most/4 || k.files[from] != nil {
		return
	}
	k.next++
	name := filepath.Join(k.dir, strconv.Itoa(k.next))
	if os.Link(path, name) != nil {
		return
	}
	k.files[from] = &keptInput{path: name, size: size, used: time.Now()}
	k.bytes += size
	k.shrink(k.most)
}

// shrink drops what was used longest ago until no more than so many bytes are
// kept. Called with mu held.
func (k *keeping) shrink(most int64) {
	if k.bytes <= most {
		return
	}
	oldest := slices.SortedFunc(maps.Keys(k.files), func(x, y origin) int { return k.files[x].used.Compare(k.files[y].used) })
	for _, from := range oldest {
		if k.bytes <= most {
			return
		}
		k.drop(from)
	}
}

// drop lets go of a file; attempts that were given it keep it. Called with mu
// held.
func (k *keeping) drop(from origin) {
	f := k.files[from]
	delete(k.files, from)
	k.bytes -= f.size
	_ = os.Remove(f.path) // or at the next start
}

// makeRoom keeps no more than is free beside it.
func (k *keeping) makeRoom(free int64) (dropped bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.bytes
	k.shrink(max(free, 0))
	return k.bytes < before
}

// layKept lays an input that was given before, or copies it and keeps it.
func (a *Area) layKept(in *os.File, f messages.ManifestFile, to string) error {
	// Without overlays an attempt could write what is kept.
	if a.kept == nil || !a.overlay.Load() {
		return a.copyInput(in, f, to)
	}
	from, err := originOf(in, f.Digest)
	if err != nil {
		return err
	}
	if a.kept.lay(from, to) {
		return nil
	}
	if err := a.copyInput(in, f, to); err != nil {
		return err
	}
	if after, err := originOf(in, f.Digest); err == nil && after == from {
		a.kept.keep(from, to, f.Size)
	}
	return nil
}

// openKept makes room for inputs where links to them can be made: in this
// worker's own folder, or in staging where that is another file system.
func (a *Area) openKept() (err error) {
	if a.cfg.Kept <= 0 {
		return nil
	}
	dir := filepath.Join(a.cfg.Cache, "inputs")
	var root, cache unix.Stat_t
	if err := errors.Join(unix.Stat(a.cfg.Root, &root), unix.Stat(a.cfg.Cache, &cache)); err != nil {
		return fmt.Errorf("make room for inputs: %w", err)
	}
	if root.Dev != cache.Dev {
		dir = filepath.Join(a.cfg.Root, ".inputs-"+a.cfg.Worker)
	}
	if a.kept, err = openKeeping(dir, a.cfg.Kept); err != nil {
		return fmt.Errorf("make room for inputs: %w", err)
	}
	return nil
}
