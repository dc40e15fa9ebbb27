package persister

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"sluice/messages"
)

// An Output is a file that a job's commit makes visible.
type Output struct {
	Path   messages.Path
	Tier   messages.Tier
	Size   int64
	Digest string // sha256:…
	Time   time.Time
	Finding
}

// Shared reports whether the file goes into the moderately sensitive tier too.
func (o *Output) Shared() bool { return o.Tier == messages.ModeratelySensitive && o.Allowed() }

// A Change is what a job brings to its workspace.
type Change struct {
	Job       *messages.Job
	Outputs   []Output
	Succeeded bool
	Actions   []string // of the project at the job's commit; nil: not known

	DeleteObsolete bool // Config's
}

// InTheWay lists the files of each tier that lie where a new output needs a
// folder, or beneath where it needs a file.
type InTheWay struct{ High, Medium []messages.Path }

// An Arrangement is what a change makes of its workspace.
type Arrangement struct {
	Manifest     *Manifest
	RemoveHigh   []messages.Path
	RemoveMedium []messages.Path // files that need not be there
	Messages     []MessageFile
}

// A MessageFile stands in the moderately sensitive tier for a file that was
// withheld from it.
type MessageFile struct {
	Path messages.Path
	Text string
}

// Blocked says that an output cannot lie where the action wants it, since
// something else does.
type Blocked struct {
	Path messages.Path // what is there
	By   string        // the action that made it, or "" if none did
}

func (b *Blocked) Error() string {
	if b.By == "" {
		return fmt.Sprintf("%s, which no action made, lies where an output needs a folder or a file; move it away", b.Path)
	}
	return fmt.Sprintf("%s, an output of action %s, lies where an output needs a folder or a file; give one of them another name", b.Path, messages.Quote(b.By))
}

// messagePath is where the message about a withheld file stands.
func messagePath(p messages.Path) messages.Path { return p + ".txt" }

// Arrange merges the change into the workspace's manifest, and says what must
// be removed:
//
//   - The moderately sensitive tier has of each new output exactly what this
//     job says: the file, a message, or nothing.
//   - When the action succeeds, what it no longer makes goes from that tier.
//     In the highly sensitive one it stays, marked as out of date, unless
//     DeleteObsolete takes it away there and from the manifest.
//   - What stands in the way of a new output goes, if it is the same action's
//     or that of an action which the project no longer has; else Blocked.
//   - A message never takes the place of an output.
func (c Change) Arrange(old *Manifest, inTheWay InTheWay) (*Arrangement, error) {
	a := &Arrangement{Manifest: old.Clone()}
	m := a.Manifest
	remove := map[messages.Path]bool{}
	made := make(map[messages.Path]bool, len(c.Outputs))
	for i := range c.Outputs {
		made[c.Outputs[i].Path] = true
	}
	c.markActions(m)
	for p, e := range m.Outputs {
		if e.Action == c.Job.Action && !made[p] {
			e.OutOfDateOutput = ptr(true)
			switch {
			case !c.Succeeded:
				continue
			case e.shared():
				remove[p] = true
			case e.withheld():
				remove[messagePath(p)] = true
			default:
				continue
			}
			e.RemovedBy = c.Job.ID
		}
	}
	if err := c.clear(a, inTheWay, remove); err != nil {
		return nil, err
	}
	c.deleteObsolete(a, made)
	for i := range c.Outputs {
		o := &c.Outputs[i]
		entry := c.entry(o)
		if before := m.Outputs[o.Path]; before != nil && before.shared() && o.Tier != messages.ModeratelySensitive {
			entry.RemovedBy = c.Job.ID
		}
		m.Outputs[o.Path] = entry
	}
	for i := range c.Outputs {
		o := &c.Outputs[i]
		if !o.Shared() {
			remove[o.Path] = remove[o.Path] || !isMessage(m, o.Path)
		}
		text := messagePath(o.Path)
		switch e := m.Outputs[text]; {
		case e != nil && e.shared(): // a real output has the name
		case o.Tier == messages.ModeratelySensitive && !o.Allowed():
			if text.Check() == nil {
				a.Messages = append(a.Messages, MessageFile{text, o.Text})
			}
		default:
			remove[text] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(remove)) {
		if e := m.Outputs[p]; remove[p] && (e == nil || !e.shared()) && !isMessage(m, p) {
			a.RemoveMedium = append(a.RemoveMedium, p)
		}
	}
	return a, nil
}

// deleteObsolete takes away what the action, which has succeeded, no longer
// makes. What it has put into the moderately sensitive tier goes already.
func (c Change) deleteObsolete(a *Arrangement, made map[messages.Path]bool) {
	if !c.DeleteObsolete || !c.Succeeded {
		return
	}
	for _, p := range slices.Sorted(maps.Keys(a.Manifest.Outputs)) {
		if a.Manifest.Outputs[p].Action == c.Job.Action && !made[p] {
			a.RemoveHigh = append(a.RemoveHigh, p)
			delete(a.Manifest.Outputs, p)
		}
	}
}

// markActions notes which outputs are of actions that the project no longer
// has, or has again.
func (c Change) markActions(m *Manifest) {
	if c.Actions == nil {
		return
	}
	has := make(map[string]bool, len(c.Actions))
	for _, name := range c.Actions {
		has[name] = true
	}
	for _, e := range m.Outputs {
		if !has[e.Action] {
			e.OutOfDateAction = ptr(true)
		} else if e.OutOfDateAction != nil {
			e.OutOfDateAction = ptr(false)
		}
	}
}

// clear decides about what stands in the way.
func (c Change) clear(a *Arrangement, inTheWay InTheWay, remove map[messages.Path]bool) error {
	m := a.Manifest
	drop := func(p messages.Path) error {
		e := m.Outputs[p]
		switch {
		case e == nil:
			return &Blocked{Path: p}
		case e.Action != c.Job.Action && !e.gone():
			return &Blocked{Path: p, By: e.Action}
		}
		return nil
	}
	for _, p := range inTheWay.High {
		if err := drop(p); err != nil {
			return err
		}
		a.RemoveHigh = append(a.RemoveHigh, p)
	}
	for _, p := range inTheWay.Medium {
		of := messages.Path(strings.TrimSuffix(string(p), ".txt"))
		if e := m.Outputs[of]; of != p && e != nil && e.Excluded && m.Outputs[p] == nil {
			remove[p] = true // a message
			continue
		}
		if err := drop(p); err != nil {
			return err
		}
		remove[p] = true
	}
	for _, p := range a.RemoveHigh {
		if e := m.Outputs[p]; e.shared() {
			remove[p] = true
		} else if e.withheld() {
			remove[messagePath(p)] = true
		}
	}
	for _, p := range a.RemoveHigh {
		delete(m.Outputs, p)
	}
	return nil
}

// isMessage reports whether what the moderately sensitive tier has at p is a
// message about a file that is withheld.
func isMessage(m *Manifest, p messages.Path) bool {
	of, ok := strings.CutSuffix(string(p), ".txt")
	if !ok || path.Base(of) == "" {
		return false
	}
	if e := m.Outputs[p]; e != nil && e.shared() {
		return false
	}
	e := m.Outputs[messages.Path(of)]
	return e != nil && e.withheld()
}

// entry returns the manifest's entry of a new output.
func (c Change) entry(o *Output) *ManifestEntry {
	e := &ManifestEntry{
		Level: o.Tier, Job: c.Job.ID, Request: string(c.Job.Request), Action: c.Job.Action, User: c.Job.By, Repo: c.Job.Repo, Commit: c.Job.Commit,
		Size: o.Size, Timestamp: seconds(o.Time), ContentHash: strings.TrimPrefix(o.Digest, "sha256:"),
		Excluded: !o.Allowed(), RowCount: o.Rows, ColCount: o.Cols,
	}
	if e.Excluded {
		e.Message = &o.Reason
	}
	return e
}

func ptr[T any](v T) *T { return &v }
