package disk

import (
	"errors"
	"path"
	"slices"

	"sluice/messages"
	"sluice/persister"
)

// A place is a path in one of a plan's trees.
type place struct {
	tree string
	path messages.Path
}

// check reports a plan that contradicts itself: it places something twice, or
// where it needs a folder, or removes what it has placed when it is done again.
func (p *plan) check() error {
	all := slices.Concat(p.Moves, p.Last)
	placed, folders := make(map[place]bool, len(all)), map[place]bool{}
	for _, m := range all {
		if err := m.To.Check(); err != nil {
			return &persister.Blocked{Path: m.To, Why: err.Error()}
		}
		if placed[place{m.Tree, m.To}] {
			return &persister.Blocked{Path: m.To, Why: "it is placed twice in the " + m.Tree + " tree"}
		}
		placed[place{m.Tree, m.To}] = true
		for dir := path.Dir(string(m.To)); dir != "." && !folders[place{m.Tree, messages.Path(dir)}]; dir = path.Dir(dir) {
			folders[place{m.Tree, messages.Path(dir)}] = true
		}
	}
	for _, m := range all {
		if folders[place{m.Tree, m.To}] {
			return &persister.Blocked{Path: m.To, Why: "it is needed as a folder and as a file in the " + m.Tree + " tree"}
		}
	}
	for tree, removals := range p.removals() {
		for _, gone := range removals {
			if err := gone.Check(); err != nil {
				return &persister.Blocked{Path: gone, Why: err.Error()}
			}
			if placed[place{tree, gone}] {
				return &persister.Blocked{Path: gone, Why: "it is removed and placed in the " + tree + " tree"}
			}
		}
	}
	return nil
}

func (p *plan) removals() map[string][]messages.Path {
	return map[string][]messages.Path{highTree: p.RemoveHigh, mediumTree: p.RemoveMedium}
}

// sound reports a plan that the trees, as they are now, would not let us carry
// out to its end. It is asked while nothing else may change the workspace, and
// before the commit: after that there is no way back, and a plan that cannot be
// finished keeps all other jobs of its workspace waiting. What earlier jobs left
// is dealt with by then; this is about what else a tier may hold.
func (s *Store) sound(p *plan, t *trees) error {
	if err := p.check(); err != nil {
		return err
	}
	logs, err := openTree(s.cfg.Logs, s.cfg)
	if err != nil {
		return err
	}
	targets := map[string][]messages.Path{}
	for _, m := range slices.Concat(p.Moves, p.Last) {
		targets[m.Tree] = append(targets[m.Tree], m.To)
	}
	removals := p.removals()
	for name, tree := range map[string]*tree{highTree: t.high, mediumTree: t.medium, logsTree: logs} {
		if tree != nil {
			err = errors.Join(err, tree.takes(targets[name], removals[name]))
		}
	}
	return errors.Join(err, logs.Close())
}

// takes reports what keeps files from being removed from a tree, and others
// from being placed in it then.
func (t *tree) takes(targets, removals []messages.Path) error {
	goes := make(map[messages.Path]bool, len(removals))
	for _, p := range removals {
		goes[p] = true
		there, _, err := t.folder(path.Dir(string(p)))
		if err == nil && there {
			_, err = t.look(p)
		}
		if err != nil {
			return err
		}
	}
	found, err := t.inTheWay(targets)
	if err != nil {
		return err
	}
	for _, p := range found {
		if !goes[p] {
			return &persister.Blocked{Path: p}
		}
	}
	return nil
}
