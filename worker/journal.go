package worker

import (
	"bytes"
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
	"time"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// A phase is how far an attempt is, for a worker that takes it over.
type phase string

const (
	phaseClaimed phase = "claimed" // staging is being laid out; nothing runs
	phaseStarted phase = "started" // a container was created
	phaseListed  phase = "listed"  // the files message is known, and waits for a verdict
)

// An entry is what the journal keeps of an attempt.
type entry struct {
	Phase   phase           `json:"phase"`
	Action  messages.Action `json:"action"`
	Nonce   string          `json:"nonce"`
	Claimed time.Time       `json:"claimed_at"`
	Boot    string          `json:"boot"`              // of the machine: a container does not outlive it
	Began   time.Time       `json:"began_at,omitzero"` // when the time limit began to run
	Digest  string          `json:"image_digest,omitempty"`
	Given   []messages.Path `json:"given,omitempty"`
	Files   *messages.Files `json:"files,omitempty"`
	Refused messages.Code   `json:"refused,omitempty"` // why the files could not be listed, by the action's own fault
}

func (e *entry) attempt() Attempt {
	return Attempt{Job: e.Action.Job, Number: e.Action.Attempt, Backend: e.Action.Backend}
}

// bootID names this boot of the machine.
var bootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // not told apart, then
	}
	return strings.TrimSpace(string(id))
})

// A journal is a folder with a file an attempt, and in it a line a phase.
type journal struct {
	dir    string
	failed *atomic.Bool // the newest write: see check
}

func openJournal(state string) (journal, error) {
	j := journal{filepath.Join(state, "journal"), &atomic.Bool{}}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return j, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

func (j journal) path(a Attempt) string {
	return filepath.Join(j.dir, fmt.Sprintf("%s.%d.json", a.Job, a.Number))
}

// errLocked says that another process has the journal.
var errLocked = errors.New("another worker uses this folder")

// lock keeps other processes from this journal: two workers of one name would
// remove each other's containers. The kernel unlocks it when this process ends.
func (j journal) lock() (unlock func() error, err error) {
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
func (j journal) write(e *entry) error {
	data, err := json.Marshal(e)
	if err == nil {
		err = j.put(j.path(e.attempt()), data, e.Phase == phaseListed || e.Boot == "")
	}
	j.failed.Store(err != nil)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// put adds a line to a file, whole or not at all: the first under a temporary
// name, then renamed; the others each in one write, and not behind what a killed
// process wrote half of a line.
func (j journal) put(path string, data []byte, synced bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
	first := errors.Is(err, os.ErrNotExist)
	if first {
		f, err = os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	}
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
	err = errors.Join(err, f.Close())
	if first && err == nil {
		err = os.Rename(path+".new", path)
	}
	switch {
	case first && err != nil:
		return errors.Join(err, os.Remove(path+".new"))
	case err == nil && synced:
		return syncDir(j.dir)
	}
	return err
}

// check reports whether the journal can be written again after it could not: a
// worker that took actions meanwhile would spoil an attempt of each.
func (j journal) check() error {
	if !j.failed.Load() {
		return nil
	}
	path := filepath.Join(j.dir, "check.new") // read removes it, if we do not
	err := j.put(path, make([]byte, largeEntry), true)
	if err == nil {
		err = os.Remove(path)
	}
	j.failed.Store(err != nil)
	if err != nil {
		return fmt.Errorf("journal cannot be written: %w", err)
	}
	return nil
}

// largeEntry is about what a large journal entry takes, in bytes.
const largeEntry = 1 << 20

func (j journal) remove(a Attempt) error {
	if err := os.Remove(j.path(a)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove journal entry: %w", err)
	}
	return nil
}

// read returns every entry. One that cannot be read is an error, as what it
// spoke of must not be lost without a word; but one that the machine's restart
// broke spoke of what that ended: it is removed, and lost is told.
func (j journal) read(lost func(path string, err error)) ([]*entry, error) {
	note := j.dir + ".boot" // the machine's at the last reading
	before, _ := os.ReadFile(note)
	now := bootID()
	restarted := len(before) > 0 && now != "" && string(before) != now
	names, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var entries []*entry
	for _, n := range names {
		path := filepath.Join(j.dir, n.Name())
		if !strings.HasSuffix(n.Name(), ".json") {
			_ = os.Remove(path) // a half-written one, which nothing was done about
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		e, err := newest(data)
		if err != nil && restarted {
			lost(path, err)
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("remove journal entry: %w", err)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read journal entry %s: %w; move it away to start without it", path, err)
		}
		entries = append(entries, e)
	}
	if string(before) != now {
		if err := os.WriteFile(note, []byte(now), 0o600); err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
	}
	return entries, nil
}

// newest reads the last whole line of an attempt's: what follows it is half of
// one that a process was killed over.
func newest(lines []byte) (*entry, error) {
	for lines = bytes.TrimSpace(lines); ; {
		end := bytes.LastIndexByte(lines, '\n')
		e := &entry{}
		err := json.Unmarshal(lines[end+1:], e)
		if err == nil {
			return e, e.check()
		}
		if end < 0 {
			return nil, err
		}
		lines = bytes.TrimSpace(lines[:end])
	}
}

func (e *entry) check() error {
	switch e.Phase {
	case phaseClaimed, phaseStarted:
	case phaseListed:
		if e.Files == nil {
			return errors.New("it has no files message")
		}
	default:
		return fmt.Errorf("phase %s is not known", messages.Quote(string(e.Phase)))
	}
	return e.Action.Validate()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
