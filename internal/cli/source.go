package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sluice/internal/git"
	"sluice/internal/registry"
	"sluice/messages"
)

// A source introduces git to the planner, which reads project files, and to
// workers, which extract trees. In a study's own folder (`sluice run`) there is
// no commit: the folder is read as it lies.
type source struct {
	mirrors *git.Mirrors
	folder  string // the one working folder that may be run; empty: none

	registry *registry.Registry // nil: images are not pinned
	images   []string           // names that are images
	reusable string             // URL below which reusable actions lie; empty: every name is an image
}

// maxProject bounds a project file that is read; the parser has its own, lower
// bound and the words for it.
const maxProject = 16 << 20

// CheckSource reports what is wrong with the words of a source.
func (s *source) CheckSource(src messages.Source) error {
	if src.Commit == messages.WorkingFolder {
		if s.folder == "" || src.Repo != s.folder {
			return messages.Failf(messages.InvalidRequest, "commit %s: only `sluice run` runs a folder as it lies; a request names a commit", src.Commit)
		}
		return nil
	}
	return outcome(s.mirrors.Rules.CheckURL(src.Repo))
}

// Project returns project.yaml as it is at the source's commit.
func (s *source) Project(ctx context.Context, src messages.Source) ([]byte, error) {
	if err := s.CheckSource(src); err != nil {
		return nil, err
	}
	if src.Commit == messages.WorkingFolder {
		return readProject(filepath.Join(src.Repo, "project.yaml"))
	}
	// Each time anew: a branch may have moved off a commit that was fetched before.
	if err := s.mirrors.CheckCommitOnBranch(ctx, src.Repo, src.Branch, src.Commit); err != nil {
		return nil, outcome(err)
	}
	if err := s.mirrors.Fetch(ctx, src.Repo, src.Branch, src.Commit); err != nil {
		return nil, outcome(err)
	}
	data, err := s.mirrors.File(ctx, src.Repo, src.Commit, "project.yaml", maxProject)
	return data, outcome(err)
}

// Differ returns which of some files are others at a source's commit than at
// another one, if both were fetched before.
func (s *source) Differ(ctx context.Context, src messages.Source, commit string, paths []string) ([]string, error) {
	return s.mirrors.Differ(ctx, src.Repo, src.Commit, commit, paths)
}

// Extract writes the tree of a commit into an empty folder.
func (s *source) Extract(ctx context.Context, src messages.Source, dir string) error {
	if err := s.CheckSource(src); err != nil {
		return err
	}
	if err := s.mirrors.Fetch(ctx, src.Repo, src.Branch, src.Commit); err != nil {
		return outcome(err)
	}
	return outcome(s.mirrors.Extract(ctx, src.Repo, src.Commit, dir))
}

// outcome makes what the request's author can mend a Failure.
func outcome(err error) error {
	var theirs *git.Error
	switch {
	case !errors.As(err, &theirs):
		return err
	case theirs.Kind == git.NoFile || theirs.Kind == git.TooLarge:
		return messages.Failf(messages.InvalidProject, "%s", theirs.Message)
	}
	return messages.Failf(messages.InvalidRequest, "%s", theirs.Message)
}

func readProject(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, messages.Failf(messages.InvalidProject, "there is no %s", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read project file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxProject+1))
	if err != nil {
		return nil, fmt.Errorf("read project file: %w", err)
	}
	if len(data) > maxProject {
		return nil, messages.Failf(messages.InvalidProject, "%s is larger than %d MiB", path, maxProject>>20)
	}
	return data, nil
}

// workingFolder is a study's folder as it lies.
func workingFolder(folder string) messages.Source {
	return messages.Source{Repo: folder, Commit: messages.WorkingFolder}
}
