package git

import (
	"context"
	"fmt"
	"strings"
)

// Differ returns which of some paths are other files at one commit than at
// another, or are at one of them only. A path that is at neither, or that no
// file can have, is none of them. Both commits must have been fetched.
func (m *Mirrors) Differ(ctx context.Context, repo, one, other string, paths []string) ([]string, error) {
	var fit []string
	for _, p := range paths {
		if checkPath(p) == "" {
			fit = append(fit, p)
		}
	}
	if len(fit) == 0 {
		return nil, nil
	}
	before, err := m.ids(ctx, repo, one, fit)
	if err != nil {
		return nil, err
	}
	after, err := m.ids(ctx, repo, other, fit)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, p := range fit {
		if before[p] != after[p] {
			list = append(list, p)
		}
	}
	return list, nil
}

// ids looks up what git calls the contents of files at a commit.
func (m *Mirrors) ids(ctx context.Context, repo, commit string, paths []string) (map[string]string, error) {
	mir, err := m.fetched(repo, commit)
	if err != nil {
		return nil, err
	}
	out, err := m.run(ctx, call{mirror: mir.dir, args: append([]string{"ls-tree", "-z", "-l", "--full-tree", commit, "--"}, paths...)})
	if err != nil {
		return nil, fmt.Errorf("compare with commit %s: %w", commit, err)
	}
	ids := map[string]string{}
	for record := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if e, err := parseEntry(record); err == nil && e.regular() {
			ids[e.path] = e.id
		}
	}
	return ids, nil
}
