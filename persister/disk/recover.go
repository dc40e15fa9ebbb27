package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
)

// Recover finishes journal entries, drops what was never committed, and makes
// binding what was committed just before its process died. A workspace that
// cannot be mended does not keep the others from it.
func (s *Store) Recover(ctx context.Context, committed persister.Committed) error {
	workspaces, err := s.unfinished()
	if err != nil {
		return err
	}
	var errs []error
	for _, workspace := range workspaces {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, s.recover(ctx, workspace, committed))
	}
	return errors.Join(errs...)
}

func (s *Store) recover(ctx context.Context, workspace string, committed persister.Committed) error {
	lock, err := s.lockWorkspace(workspace)
	if err != nil {
		return err
	}
	err = s.finishOpen(ctx, workspace, committed)
	return errors.Join(err, lock.release())
}

// Published reports whether a job's change is complete.
func (s *Store) Published(ctx context.Context, a persister.Attempt, manifest string, committed persister.Committed) (bool, error) {
	if err := s.recover(ctx, a.Workspace, committed); err != nil {
		return false, err
	}
	logs, err := openTree(s.cfg.Logs, s.cfg)
	if err != nil {
		return false, err
	}
	defer logs.Close()
	data, err := logs.read(jobManifestPath(a), messages.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the manifest of %s: %w", a, err)
	}
	return messages.Digest(data) == manifest, nil
}

// unfinished lists the workspaces that have journal entries or drafts.
func (s *Store) unfinished() ([]string, error) {
	var workspaces []string
	for _, dir := range []*os.File{s.journal, s.tmp, s.medium} {
		if dir == nil {
			continue
		}
		names, err := list(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if workspace, _, ok := strings.Cut(name, "."); ok && messages.CheckWorkspace(workspace) == nil {
				workspaces = append(workspaces, workspace)
			}
		}
	}
	slices.Sort(workspaces)
	return slices.Compact(workspaces), nil
}

// list reads the names in a folder that is ours, sorted.
func list(dir *os.File) ([]string, error) {
	f, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, beneath)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("list %s: %w", dir.Name(), err)
	}
	slices.Sort(names)
	return names, nil
}

// finishOpen leaves nothing of a workspace, whose lock the caller has, that
// must or must not become visible. Drafts of others that live are left alone.
func (s *Store) finishOpen(ctx context.Context, workspace string, committed persister.Committed) error {
	entries, err := list(s.journal)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry, ".json")
		if !ok || !strings.HasPrefix(entry, workspace+".") {
			continue
		}
		if err := s.finishEntry(name); err != nil {
			return fmt.Errorf("%w: %w", persister.ErrUnfinished, err)
		}
	}
	for _, dir := range []*os.File{s.tmp, s.medium} {
		if dir == nil {
			continue
		}
		drafts, err := list(dir)
		if err != nil {
			return err
		}
		for _, name := range drafts {
			if strings.HasPrefix(name, workspace+".") {
				if err := s.settle(ctx, name, committed); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// finishEntry finishes a journal entry. That nobody else does is the workspace's
// lock; the attempt's is taken to remove what a killed process left of it.
func (s *Store) finishEntry(name string) error {
	lock, err := s.lockAttempt(name)
	if err != nil && !errors.Is(err, persister.ErrBusy) {
		return err
	}
	p, err := readPlan(s.journal, name+".json")
	if err == nil {
		err = s.finish(name, p)
	}
	if lock != nil {
		err = errors.Join(err, lock.release())
	}
	return err
}

// settle decides about a draft that a process left behind.
func (s *Store) settle(ctx context.Context, name string, committed persister.Committed) error {
	if _, ours := s.live.Load(name); ours {
		return nil // its lock need not be asked for
	}
	lock, err := s.lockAttempt(name)
	if errors.Is(err, persister.ErrBusy) {
		return nil // it lives
	}
	if err != nil {
		return err
	}
	return errors.Join(s.settleLocked(ctx, name, committed), lock.release())
}

func (s *Store) settleLocked(ctx context.Context, name string, committed persister.Committed) error {
	job, number, err := parseDraftName(name)
	if err != nil {
		return err
	}
	p, err := readPlan(s.tmp, name+"/"+planFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s.drop(name) // it was not even planned
	}
	winner, askErr := committed(ctx, job)
	if askErr != nil {
		return fmt.Errorf("settle %s: %w", name, askErr)
	}
	if winner != number {
		return s.drop(name) // what could not be read of its plan does not matter
	}
	if err != nil {
		return fmt.Errorf("%w: read the plan of %s, which has its job's commit: %w", persister.ErrUnfinished, name, err)
	}
	return s.carryOut(name, p)
}

// carryOut does what follows a commit.
func (s *Store) carryOut(name string, p *plan) error {
	err := s.bind(name)
	if err == nil {
		s.fault("persister.after-journal")
		err = s.finish(name, p)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", persister.ErrUnfinished, err)
	}
	return nil
}

// parseDraftName undoes draftName, but for the workspace.
func parseDraftName(name string) (job messages.JobID, number int, err error) {
	parts := strings.Split(name, ".")
	if len(parts) != 3 {
		return "", 0, fmt.Errorf("%s is not the name of a draft", messages.Quote(name))
	}
	number, err = strconv.Atoi(parts[2])
	if err != nil {
		return "", 0, fmt.Errorf("%s is not the name of a draft: %w", messages.Quote(name), err)
	}
	return messages.JobID(parts[1]), number, nil
}
