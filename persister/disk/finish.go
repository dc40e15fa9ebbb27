package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
)

// trees is a workspace in both tiers.
type trees struct {
	high   *tree
	medium *tree // nil if there is no such tier
}

func (s *Store) openTrees(workspace string) (*trees, error) {
	var t trees
	var err error
	if t.high, err = openTree(s.cfg.WorkspaceDir(workspace), s.cfg); err != nil {
		return nil, err
	}
	if s.cfg.Medium == "" {
		return &t, nil
	}
	if t.medium, err = openTree(filepath.Join(s.cfg.Medium, workspace), s.cfg.ofMedium()); err != nil {
		return nil, errors.Join(err, t.high.Close())
	}
	return &t, nil
}

func (t *trees) Close() error {
	err := t.high.Close()
	if t.medium != nil {
		err = errors.Join(err, t.medium.Close())
	}
	return err
}

// check reports tiers that a draft's files cannot be renamed into.
func (t *trees) check(d *draft) error {
	err := sameFileSystem(d.dir, t.high.root)
	if t.medium != nil {
		err = errors.Join(err, sameFileSystem(d.medium, t.medium.root))
	}
	return err
}

// manifest reads the workspace's manifest. A workspace of the reference has it
// in the moderately sensitive tier only.
func (t *trees) manifest(workspace string, known *manifests) (*persister.Manifest, error) {
	for _, tier := range []*tree{t.high, t.medium} {
		if tier == nil {
			continue
		}
		const name = metadataDir + "/" + manifestFile
		data, err := tier.read(name, maxManifest)
		var bad *differs
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			continue
		case errors.As(blame(err), &bad):
			return nil, &persister.Blocked{Path: name, Why: bad.how}
		case err != nil:
			return nil, fmt.Errorf("read the manifest of workspace %s: %w", workspace, err)
		}
		if m := known.take(workspace, data); m != nil {
			return m, nil
		}
		m, err := persister.ParseManifest(data)
		if err != nil {
			return nil, &persister.Blocked{Path: name, Why: err.Error()} // it will not mend itself
		}
		m.Workspace = workspace
		return m, nil
	}
	return persister.NewManifest(workspace), nil
}

// inTheWay lists what a job's outputs would collide with.
func (t *trees) inTheWay(outputs []persister.Output) (way persister.InTheWay, err error) {
	var high, medium []messages.Path
	for i := range outputs {
		high = append(high, outputs[i].Path)
		if outputs[i].Tier == messages.ModeratelySensitive {
			medium = append(medium, outputs[i].Path) // a message lies in the same folder
		}
	}
	if way.High, err = t.high.inTheWay(high); err != nil || t.medium == nil {
		return way, err
	}
	way.Medium, err = t.medium.inTheWay(medium)
	return way, err
}

// finish does the steps of a journal entry and removes it. Any of them may
// have been done before.
func (s *Store) finish(name string, p *plan) error {
	if err := s.apply(name, p); err != nil {
		return fmt.Errorf("finish journal entry %s: %w", name, err)
	}
	s.fault("persister.before-done")
	err := unix.Unlinkat(int(s.journal.Fd()), name+".json", 0)
	if err == nil {
		err = unix.Fsync(int(s.journal.Fd()))
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("end journal entry %s: %w", name, err)
	}
	s.fault("persister.after-done")
	return s.drop(name)
}

func (s *Store) apply(name string, p *plan) error {
	m, err := s.openMover(name, p)
	if err != nil {
		return err
	}
	defer m.Close()
	for _, gone := range p.RemoveMedium {
		if err := m.medium.remove(gone); err != nil {
			return err
		}
		s.fault("persister.between-removals")
	}
	for _, gone := range p.RemoveHigh {
		if err := m.high.remove(gone); err != nil {
			return err
		}
		s.fault("persister.between-removals")
	}
	for _, step := range p.Moves {
		if err := m.move(step); err != nil {
			return err
		}
		s.fault("persister.between-renames")
	}
	if err := m.sync(); err != nil {
		return err
	}
	s.fault("persister.before-manifest")
	for _, step := range p.Last {
		if err := m.move(step); err != nil {
			return err
		}
		s.fault("persister.between-manifests")
	}
	return m.sync()
}

// keep moves a record to its place. Nobody waits for it to be whole.
func (s *Store) keep(name string, moves []move) error {
	logs, err := openTree(s.cfg.Logs, s.cfg)
	if err != nil {
		return err
	}
	m := &mover{logs: logs}
	defer m.Close()
	if m.tmp, err = openDraftDir(s.tmp, name); err != nil {
		return err
	}
	for _, step := range moves {
		if err := m.move(step); err != nil {
			return err
		}
		s.fault("persister.between-records")
	}
	return m.sync()
}

// A mover does the moves of one plan.
type mover struct {
	trees
	logs      *tree
	tmp       *os.File // the draft's folders
	mediumTmp *os.File
	staging   *os.File // only if the plan moves files from there
}

func (s *Store) openMover(name string, p *plan) (*mover, error) {
	m := &mover{}
	t, err := s.openTrees(p.Attempt.Workspace)
	if err != nil {
		return nil, err
	}
	m.trees = *t
	if m.logs, err = openTree(s.cfg.Logs, s.cfg); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if m.tmp, err = openDraftDir(s.tmp, name); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if s.medium != nil {
		if m.mediumTmp, err = openDraftDir(s.medium, name); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	for _, step := range p.Moves {
		if !step.Staged {
			continue
		}
		from := filepath.Join(string(p.Attempt.Job), fmt.Sprint(p.Attempt.Number), stagedFiles)
		m.staging, err = openAt(s.staging, from, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath&^unix.RESOLVE_NO_XDEV)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(err, m.Close())
		}
		break
	}
	return m, nil
}

// openDraftDir opens a draft's folder. One that is gone has no file left to
// move: an empty one says the same.
func openDraftDir(parent *os.File, name string) (*os.File, error) {
	dir, err := openAt(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath)
	if errors.Is(err, fs.ErrNotExist) {
		return makeDraftDir(parent, name)
	}
	return dir, err
}

func (m *mover) move(step move) error {
	from, to := m.tmp, m.high
	switch step.Tree {
	case logsTree:
		to = m.logs
	case mediumTree:
		from, to = m.mediumTmp, m.medium
	}
	if step.Staged {
		from = m.staging
	}
	if to == nil {
		return fmt.Errorf("place %s: there is no %s tier any more", step.To, step.Tree)
	}
	return to.place(from, string(step.From), step.To, step.was)
}

// sync makes the renames durable.
func (m *mover) sync() error {
	for _, t := range []*tree{m.high, m.medium, m.logs} {
		if t == nil {
			continue
		}
		if err := t.syncDirs(); err != nil {
			return err
		}
	}
	return nil
}

func (m *mover) Close() error {
	var errs []error
	for _, t := range []*tree{m.high, m.medium, m.logs} {
		if t != nil {
			errs = append(errs, t.Close())
		}
	}
	for _, f := range []*os.File{m.tmp, m.mediumTmp, m.staging} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
