package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

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
	Digest  string          `json:"image_digest,omitempty"`
	Given   []messages.Path `json:"given,omitempty"`
	Files   *messages.Files `json:"files,omitempty"`
}

func (e *entry) attempt() Attempt {
	return Attempt{Job: e.Action.Job, Number: e.Action.Attempt, Backend: e.Action.Backend}
}

// Began is when the attempt's time limit began to run.
func (e *entry) Began() time.Time { return e.Claimed }

// A journal is a folder with a file an attempt.
type journal struct{ dir string }

func openJournal(state string) (journal, error) {
	j := journal{filepath.Join(state, "journal")}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return j, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

func (j journal) path(a Attempt) string {
	return filepath.Join(j.dir, fmt.Sprintf("%s.%d.json", a.Job, a.Number))
}

// write makes an entry durable: under a temporary name, synced, then renamed.
func (j journal) write(e *entry) (err error) {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	path := j.path(e.attempt())
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(j.dir)
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (j journal) remove(a Attempt) error {
	if err := os.Remove(j.path(a)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove journal entry: %w", err)
	}
	return nil
}

// read returns every entry. One that cannot be read is an error: what it spoke
// of must not be lost without a word.
func (j journal) read() ([]*entry, error) {
	names, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var entries []*entry
	for _, n := range names {
		path := filepath.Join(j.dir, n.Name())
		if !strings.HasSuffix(n.Name(), ".json") {
			_ = os.Remove(path) // a half-written one: the old, if any, still stands
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		e := &entry{}
		if err := json.Unmarshal(data, e); err != nil {
			return nil, fmt.Errorf("read journal entry %s: %w; move it away to start without it", path, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
