package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// CheckCommitOnBranch reports why a commit may not be run: it must be on the
// branch as that is on the server now. A commit that anybody proposed in a pull
// request is in the repository, but on no branch. For local repositories there
// is no such rule.
func (m *Mirrors) CheckCommitOnBranch(ctx context.Context, repo, branch, commit string) error {
	if err := m.check(repo, commit); err != nil {
		return err
	}
	if m.Rules.local(repo) {
		return nil
	}
	if branch == "" {
		return errorf(NoBranch, "A branch name must be supplied")
	}
	on, err := m.OnBranch(ctx, repo, branch, commit)
	if err != nil {
		return err
	}
	if !on {
		return errorf(NoCommit, "Could not find commit on branch '%s': %s", branch, commit)
	}
	return nil
}

// OnBranch reports whether a branch, as it is on the server now, is at the
// commit or has it in its history. The error is NoBranch if there is none.
func (m *Mirrors) OnBranch(ctx context.Context, repo, branch, commit string) (bool, error) {
	if err := m.check(repo, commit); err != nil {
		return false, err
	}
	ref := "refs/heads/" + branch
	refs, err := m.remoteRefs(ctx, repo, ref)
	if err != nil {
		return false, err
	}
	head, ok := refs[ref]
	if !ok {
		return false, errorf(NoBranch, "Could not find branch '%s'", printable(branch))
	}
	mir, err := m.mirror(repo)
	if err != nil {
		return false, err
	}
	on := false
	err = m.locked(ctx, mir, func(lock *os.File) error {
		if err := m.open(ctx, mir, lock); err != nil {
			return err
		}
		var err error
		if on, err = m.reaches(ctx, mir, head, commit, lock); err != nil || !on {
			return err
		}
		return mir.see(branch, commit)
	})
	return on, err
}

// reaches reports whether commit is head or one of its ancestors, and fetches
// as little of the history as that takes. The caller holds the lock.
func (m *Mirrors) reaches(ctx context.Context, mir mirror, head, commit string, lock *os.File) (bool, error) {
	if head == commit {
		return true, nil
	}
	// What is here may be cut off, but never says yes wrongly.
	if on, err := m.ancestor(ctx, mir, commit, head); on || err != nil {
		return on, err
	}
	for _, depth := range []int{someDepth, allDepth} {
		if err := m.deepen(ctx, mir, head, depth, lock); err != nil {
			return false, err
		}
		if on, err := m.ancestor(ctx, mir, commit, head); on || err != nil {
			return on, err
		}
	}
	return false, nil
}

// ancestor answers from what the mirror has.
func (m *Mirrors) ancestor(ctx context.Context, mir mirror, commit, head string) (bool, error) {
	for _, id := range []string{commit, head} {
		out, err := m.run(ctx, call{mirror: mir.dir, args: []string{"cat-file", "--batch-check=%(objecttype)"}, stdin: strings.NewReader(id + "\n")})
		if err != nil {
			return false, fmt.Errorf("look at commit %s: %w", id, err)
		}
		if strings.TrimSpace(string(out)) != "commit" {
			return false, nil
		}
	}
	_, err := m.run(ctx, call{mirror: mir.dir, args: []string{"merge-base", "--is-ancestor", commit, head}})
	if said := (*gitError)(nil); errors.As(err, &said) && said.code == 1 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for commit %s below %s: %w", commit, head, err)
	}
	return true, nil
}

// Tag returns the commit that a tag stands for. The error is NoTag if the
// repository has no such tag.
func (m *Mirrors) Tag(ctx context.Context, repo, tag string) (commit string, err error) {
	if err := m.Rules.CheckURL(repo); err != nil {
		return "", err
	}
	ref := "refs/tags/" + tag
	refs, err := m.remoteRefs(ctx, repo, ref, ref+"^{}")
	if err != nil {
		return "", err
	}
	for _, name := range []string{ref + "^{}", ref} { // an annotated tag is not a commit itself
		if id, ok := refs[name]; ok {
			return id, nil
		}
	}
	return "", errorf(NoTag, "'%s' is not a tag listed in %s/tags", printable(tag), show(trimURL(repo)))
}

// remoteRefs asks the server for refs. Git takes each name as a pattern, and
// answers with all that end in it: the caller looks for the exact one.
func (m *Mirrors) remoteRefs(ctx context.Context, repo string, names ...string) (map[string]string, error) {
	if !isRef(names[0]) {
		return nil, nil
	}
	dir, err := m.dir()
	if err != nil {
		return nil, err
	}
	if err := prepareDir(dir); err != nil {
		return nil, err
	}
	url, protocol := m.Rules.remote(repo)
	args := append([]string{"ls-remote", "--quiet", "--end-of-options", url}, names...)
	out, err := m.ask(ctx, call{args: args, url: url, protocol: protocol})
	switch {
	case errors.Is(err, ErrNetwork):
		return nil, broken("reading "+show(repo), err)
	case err != nil:
		return nil, m.unreachable(repo, fmt.Errorf("read refs of %s: %w", show(repo), err))
	}
	refs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if id, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); ok && isCommit(id) {
			refs[name] = id
		}
	}
	return refs, nil
}

// isRef reports whether git would take the name for a ref, by the rules of
// git-check-ref-format.
func isRef(name string) bool {
	if len(name) > 1000 || strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.HasSuffix(name, ".") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(`~^:?*[\`, c) })
}
