package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"sluice/internal/git"
	"sluice/messages"
)

// upstreamReusable is where upstream's reusable actions lie.
const upstreamReusable = "https://github.com/opensafely-actions"

// upstreamImages is the registry whose images are a closed list: any other name
// is a reusable action.
const upstreamImages = "ghcr.io/opensafely-core/"

// upstreamNames are those of its images.
var upstreamNames = []string{"ehrql", "stata-mp", "r", "jupyter", "python", "sqlrunner", "cohortextractor", "databuilder"}

// reusing has upstream's reusable actions used with upstream's registry, where
// nothing else is set: what `sluice run` and `sluice up` do, as upstream's own
// command line.
func (f gitFlags) reusing(imagePrefix string) gitFlags {
	if f.Reusable == "" && imagePrefix == upstreamImages {
		f.Reusable = upstreamReusable
	}
	if len(f.Images) == 0 {
		f.Images = upstreamNames
	}
	return f
}

// maxActionFile bounds an action.yaml that is read, in bytes.
const maxActionFile = 64 << 10

// IsImage reports whether a name is an image, and no reusable action.
func (s *source) IsImage(name string) bool { return slices.Contains(s.images, name) }

// Action finds a reusable action at a tag whose commit is on the branch main. A
// Failure has the reference's sentences (controller/reusable_actions.py).
func (s *source) Action(ctx context.Context, name, tag string) (src messages.Source, file []byte, err error) {
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" || name[0] == '.' || name[0] == '-' {
		return src, nil, messages.Failf(messages.JobError, "'%s' contains invalid characters", name)
	}
	src = messages.Source{Repo: strings.TrimRight(s.reusable, "/") + "/" + name, Branch: "main"}
	commit, err := s.mirrors.Tag(ctx, src.Repo, tag)
	var theirs *git.Error
	switch {
	case errors.As(err, &theirs) && theirs.Kind != git.NoTag:
		return src, nil, messages.Failf(messages.JobError, "could not find a repo at %s\nCheck that '%s' is in the list of available actions at https://actions.opensafely.org", src.Repo, name)
	case err != nil:
		return src, nil, reusableError(err, "%s", "")
	}
	src.Commit = commit
	on, err := s.mirrors.OnBranch(ctx, src.Repo, src.Branch, commit)
	switch {
	case err != nil:
		return src, nil, reusableError(err, "error validating '%s' in "+src.Repo, commit)
	case !on:
		return src, nil, messages.Failf(messages.JobError, "tag '%s' has not yet been approved for use (not merged into main branch)", tag)
	}
	if err := s.mirrors.Fetch(ctx, src.Repo, src.Branch, commit); err != nil {
		return src, nil, reusableError(err, "error reading '%s' from "+src.Repo, commit)
	}
	file, err = s.mirrors.File(ctx, src.Repo, commit, "action.yaml", maxActionFile)
	if errors.As(err, &theirs) && theirs.Kind == git.NoFile {
		return src, nil, messages.Failf(messages.JobError, "%s/tree/%s doesn't look like a valid action (no 'action.yaml' file present)", src.Repo, tag)
	}
	if err != nil {
		return src, nil, reusableError(err, "error reading '%s' from "+src.Repo, commit)
	}
	return src, file, nil
}

// reusableError gives the study's fault the reference's sentence; what may go
// away stays as it is. Without a subject the fault has its own.
func reusableError(err error, format, subject string) error {
	var theirs *git.Error
	switch {
	case !errors.As(err, &theirs):
		return err
	case subject == "":
		return messages.Failf(messages.JobError, "%s", theirs.Message)
	}
	return messages.Failf(messages.JobError, format, subject)
}
