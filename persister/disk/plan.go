package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
)

// planSchema is the version of plans that this build writes and finishes.
const planSchema = 1

// A plan is every step that makes a job's change visible. It is written before
// the commit; in the journal it must be finished. Each step may be done again.
type plan struct {
	Schema       int               `json:"schema"`
	Attempt      persister.Attempt `json:"attempt"`
	RemoveHigh   []messages.Path   `json:"remove_high,omitempty"`
	RemoveMedium []messages.Path   `json:"remove_medium,omitempty"`
	Moves        []move            `json:"moves"`
	Last         []move            `json:"last"` // manifests
}

// A move renames a temporary file into a tree.
type move struct {
	Tree   string        `json:"tree"`
	From   messages.Path `json:"from"`
	Staged bool          `json:"staged,omitempty"` // From is in staging, not in the draft's folder
	To     messages.Path `json:"to"`

	// Of an output: how to know it again, if an earlier try has moved it. The time
	// is as its file system keeps it, which may not have room for any.
	Size *int64    `json:"size,omitempty"`
	Time time.Time `json:"time,omitzero"`
}

// was reports whether a file in a tree is the one that the move put there.
// Some file systems keep times to two seconds only.
func (m move) was(st unix.Stat_t) bool {
	if m.Size == nil {
		return true
	}
	age := time.Unix(st.Mtim.Unix()).Sub(m.Time)
	return st.Size == *m.Size && (m.Time.IsZero() || age.Abs() <= 2*time.Second)
}

// output is the step that places output i in a tree.
func (d *draft) output(i int, tree string, to messages.Path) (move, error) {
	m := move{Tree: tree, From: messages.Path(highName(i)), To: to, Size: &d.files[i].Size}
	from := d.dir
	switch {
	case tree == mediumTree:
		m.From, from = messages.Path(mediumName(i)), d.medium
	case d.staged[i]:
		m.From, m.Staged, from = d.files[i].Path, true, d.from
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(from.Fd()), string(m.From), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return m, fmt.Errorf("look at the copy of %s: %w", d.files[i].Path, err)
	}
	if at := time.Unix(st.Mtim.Unix()).UTC(); at.Year() >= 1 && at.Year() <= 9999 { // as JSON has them; else the size must do
		m.Time = at
	}
	return m, nil
}

// Trees of a plan.
const (
	highTree   = "high"
	mediumTree = "medium"
	logsTree   = "logs"
)

const (
	planFile = "plan.json" // of a draft
	maxPlan  = 2 << 30     // bytes: a plan has three lines for each of MaxListed files at most
)

// write stores data as a new file that is made durable by the barrier that
// follows.
func write(dir *os.File, name string, cfg Config, data []byte) error {
	f, err := create(dir, name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = own(f, cfg, uint32(cfg.FileMode.Perm()))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), explain(err, dir))
	}
	return nil
}

func (d *draft) writePlan(p *plan) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write the plan of %s: %w", d.at, err)
	}
	if len(data) > maxPlan {
		return &persister.Blocked{Path: planFile, Why: fmt.Sprintf("it would have %d bytes; the limit is %d", len(data), maxPlan)}
	}
	return write(d.dir, planFile, Config{FileMode: 0o600, Owner: -1, Group: -1}, data)
}

// bind makes a draft's plan binding: from here on it will be finished.
func (s *Store) bind(name string) error {
	err := unix.Renameat(int(s.tmp.Fd()), name+"/"+planFile, int(s.journal.Fd()), name+".json")
	if err == nil {
		err = unix.Fsync(int(s.journal.Fd()))
	}
	if err != nil {
		return fmt.Errorf("write journal entry %s: %w", name, explain(err, s.journal))
	}
	return nil
}

// readPlan reads a plan. The error of one that is missing is fs.ErrNotExist.
func readPlan(dir *os.File, name string) (*plan, error) {
	t := &tree{root: dir}
	data, err := t.read(name, maxPlan)
	if err != nil {
		return nil, err
	}
	p := &plan{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("read plan %s in %s: %w", name, dir.Name(), err)
	}
	if p.Schema != planSchema {
		return nil, fmt.Errorf("plan %s in %s has version %d; this build finishes version %d", name, dir.Name(), p.Schema, planSchema)
	}
	return p, nil
}
