package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// read returns every entry. One that cannot be read is an error, as what it
// spoke of must not be lost without a word; but one that the machine's restart
// broke spoke of what that ended: it is removed, and lost is told.
func (j *journal) read(lost func(path string, err error)) ([]*entry, error) {
	note := j.dir + ".boot" // the machine's at the last reading
	before, _ := os.ReadFile(note)
	now := bootID()
	restarted := len(before) > 0 && now != "" && string(before) != now
	names, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	pages, free := map[Attempt]string{}, []string(nil)
	var entries []*entry
	for _, n := range names {
		path := filepath.Join(j.dir, n.Name())
		if n.IsDir() || n.Name() == guard {
			continue
		}
		e, err := readPage(path)
		if err != nil && restarted {
			lost(path, err)
			e, err = nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read journal entry %s: %w; move it away to start without it", path, err)
		}
		if e == nil {
			empty, err := j.empty(path)
			if err != nil {
				return nil, fmt.Errorf("empty journal entry: %w", err)
			}
			if empty {
				free = append(free, path)
			}
			continue
		}
		pages[e.attempt()] = path
		entries = append(entries, e)
	}
	j.mu.Lock()
	j.pages, j.free = pages, free
	j.mu.Unlock()
	if string(before) != now {
		if err := os.WriteFile(note, []byte(now), 0o600); err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
	}
	return entries, nil
}

// readPage returns the entry of a file; nil if it has none: a free page, one
// whose first line was not written to its end, as nothing was done about that,
// or no page.
func readPage(path string) (*entry, error) {
	page := strings.HasSuffix(path, pageSuffix)
	if !page && !strings.HasSuffix(path, ".json") { // the suffix in earlier versions
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if page && len(bytes.TrimSpace(data[:bytes.LastIndexByte(data, '\n')+1])) == 0 {
		return nil, nil
	}
	return newest(data)
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
