package persister

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"sluice/messages"
)

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
// something else does, or since the place cannot be written to.
type Blocked struct {
	Path messages.Path // what is there
	By   string        // the action that made it, or "" if none did
	Why  string        // what else is wrong with it, if it is not just in the way
}

func (b *Blocked) Error() string {
	switch {
	case b.Why != "":
		return fmt.Sprintf("%s keeps an output from its place: %s", b.Path, b.Why)
	case b.By == "":
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
//   - A message never takes the place of an output, nor that of a folder which
//     an output of the job needs.
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
			there := e.medium(p)
			removed := c.Succeeded && there != ""
			if removed {
				remove[there] = true
			}
			if removed || !e.obsolete() {
				m.change(p, func(e *ManifestEntry) {
					if e.OutOfDateOutput = ptr(true); removed {
						e.RemovedBy = c.Job.ID
					}
				})
			}
		}
	}
	cleared, err := c.clear(a, old, inTheWay, remove)
	if err != nil {
		return nil, err
	}
	c.deleteObsolete(a, made)
	for i := range c.Outputs {
		o := &c.Outputs[i]
		before := m.Outputs[o.Path]
		m.Outputs[o.Path] = c.entries[i]
		if before != nil && before.shared() && o.Tier != messages.ModeratelySensitive {
			m.change(o.Path, func(e *ManifestEntry) { e.RemovedBy = c.Job.ID })
		}
	}
	texts := c.messages(a, remove)
	for p := range cleared {
		remove[p] = true
	}
	for _, p := range slices.Sorted(maps.Keys(remove)) {
		before, now := old.Outputs[p], m.Outputs[p]
		switch {
		case cleared[p]:
		case now != nil && now.shared(), texts[p]:
			continue // it is replaced
		case isMessage(m, p) && (before == nil || !before.shared()):
			continue // about a file that is still withheld
		}
		a.RemoveMedium = append(a.RemoveMedium, p)
	}
	return a, nil
}

// messages adds the messages about the job's withheld files, and returns where
// they stand. What is not to be where a file was withheld is removed.
func (c Change) messages(a *Arrangement, remove map[messages.Path]bool) map[messages.Path]bool {
	m, folders, texts := a.Manifest, c.folders(), map[messages.Path]bool{}
	for i := range c.Outputs {
		o := &c.Outputs[i]
		if !o.Shared() {
			remove[o.Path] = true
		}
		text := messagePath(o.Path)
		switch e := m.Outputs[text]; {
		case e != nil && e.shared(): // a real output has the name
		case o.Tier != messages.ModeratelySensitive || o.Allowed():
			remove[text] = true
		case text.Check() == nil && !folders[text]:
			texts[text] = true
			a.Messages = append(a.Messages, MessageFile{text, o.Text})
		}
	}
	return texts
}

// folders are those that the job's outputs, or the messages about them, need in
// the moderately sensitive tier.
func (c Change) folders() map[messages.Path]bool {
	folders := map[messages.Path]bool{}
	for i := range c.Outputs {
		if c.Outputs[i].Tier != messages.ModeratelySensitive {
			continue
		}
		for p := path.Dir(string(c.Outputs[i].Path)); p != "." && !folders[messages.Path(p)]; p = path.Dir(p) {
			folders[messages.Path(p)] = true
		}
	}
	return folders
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
	for p, e := range m.Outputs {
		if gone := !has[e.Action]; gone != e.gone() {
			m.change(p, func(e *ManifestEntry) { e.OutOfDateAction = &gone })
		}
	}
}

// clear decides about what stands in the way, and returns what must go from the
// moderately sensitive tier for that.
func (c Change) clear(a *Arrangement, old *Manifest, inTheWay InTheWay, remove map[messages.Path]bool) (map[messages.Path]bool, error) {
	m, cleared := a.Manifest, map[messages.Path]bool{}
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
			return nil, err
		}
		a.RemoveHigh = append(a.RemoveHigh, p)
	}
	for _, p := range inTheWay.Medium {
		if cleared[p] = true; isMessage(old, p) {
			continue
		}
		if err := drop(p); err != nil {
			return nil, err
		}
		if m.Outputs[p].shared() { // of the other tier it is gone already
			m.change(p, func(e *ManifestEntry) { e.RemovedBy = c.Job.ID })
		}
	}
	for _, p := range a.RemoveHigh {
		if there := m.Outputs[p].medium(p); there != "" {
			remove[there] = true
		}
	}
	for _, p := range a.RemoveHigh {
		delete(m.Outputs, p)
	}
	return cleared, nil
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

func ptr[T any](v T) *T { return &v }
