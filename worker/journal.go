package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A journal is a folder of pages: files, of which each attempt in hand has one,
// and in it a line a phase. The page of an attempt that is done with is emptied,
// and is another's then: to make and remove a file for each costs more than what
// is written into it.
type journal struct {
	dir    string
	failed atomic.Bool // the newest write: see check

	mu    sync.Mutex
	pages map[Attempt]string // their paths
	free  []string           // of empty ones
}

const (
	pageSuffix = ".page"
	mostFree   = 256 // pages kept when a persister was away and many attempts waited

	// An empty file that earlier versions, which would remove the pages, take for a
	// broken entry: they do not start as long as it is there.
	guard = "written-by-a-later-version.json"
)

func openJournal(state string) (*journal, error) {
	j := &journal{dir: filepath.Join(state, "journal"), pages: map[Attempt]string{}}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := os.WriteFile(filepath.Join(j.dir, guard), nil, 0o600); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

// errLocked says that another process has the journal.
var errLocked = errors.New("another worker uses this folder")

// lock keeps other processes from this journal: two workers of one name would
// remove each other's containers. The kernel unlocks it when this process ends.
func (j *journal) lock() (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(filepath.Dir(j.dir), "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the journal: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f.Close, nil
}

// write keeps an entry: as a line of its own behind the attempt's earlier ones.
// A process that is killed finds it again without more. It is synced only when
// there is something that a restart of the machine leaves: an attempt whose
// files are listed. One that was on its way is run again, and an entry of one
// that is broken then is no loss: see read.
func (j *journal) write(e *entry) error {
	data, err := json.Marshal(e)
	var path string
	if err == nil {
		path, err = j.page(e.attempt())
	}
	if err == nil {
		err = addLine(path, data, e.Phase == phaseListed || e.Boot == "")
	}
	j.failed.Store(err != nil)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// page returns the path of an attempt's page, which is an empty one if it had
// none.
func (j *journal) page(a Attempt) (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if path, ok := j.pages[a]; ok {
		return path, nil
	}
	if n := len(j.free); n > 0 {
		j.pages[a], j.free = j.free[n-1], j.free[:n-1]
		return j.pages[a], nil
	}
	f, err := os.CreateTemp(j.dir, "*"+pageSuffix)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Close(), syncDir(j.dir)); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	j.pages[a] = f.Name()
	return f.Name(), nil
}

// addLine adds a line to a file, whole or not at all, in one write, and not behind
// what a killed process wrote half of a line.
func addLine(path string, data []byte, synced bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Write(slices.Concat([]byte("\n"), data, []byte("\n")))
	}
	if err == nil && synced {
		err = f.Sync()
	}
	if err != nil {
		err = errors.Join(err, f.Truncate(size)) // room on a full disk
	}
	return errors.Join(err, f.Close())
}

// check reports whether the journal can be written again after it could not: a
// worker that took actions meanwhile would spoil an attempt of each.
func (j *journal) check() error {
	if !j.failed.Load() {
		return nil
	}
	path := filepath.Join(j.dir, "check.new") // read removes it, if we do not
	err := os.WriteFile(path, nil, 0o600)
	if err == nil {
		err = errors.Join(addLine(path, make([]byte, largeEntry), true), os.Remove(path))
	}
	j.failed.Store(err != nil)
	if err != nil {
		return fmt.Errorf("journal cannot be written: %w", err)
	}
	return nil
}

// largeEntry is about what a large journal entry takes, in bytes.
const largeEntry = 1 << 20

// remove forgets an attempt.
func (j *journal) remove(a Attempt) error {
	j.mu.Lock()
	path, ok := j.pages[a]
	j.mu.Unlock()
	if !ok {
		return nil
	}
	free, err := j.empty(path)
	if err != nil {
		return fmt.Errorf("remove journal entry: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if delete(j.pages, a); free {
		j.free = append(j.free, path)
	}
	return nil
}

// empty makes a file a free page, or removes one that is none, or one too many.
func (j *journal) empty(path string) (free bool, err error) {
	j.mu.Lock()
	keep := strings.HasSuffix(path, pageSuffix) && len(j.free) < mostFree
	j.mu.Unlock()
	if keep {
		err = os.Truncate(path, 0)
	} else {
		err = os.Remove(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return keep && err == nil, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
