package git

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// File returns a file of a commit that Fetch has completed. Path is relative to
// the top of the tree and has no "." or ".."; no link is followed. The error is
// NoFile, TooLarge (more than maxBytes), or NotAllowed if it is no regular file.
func (m *Mirrors) File(ctx context.Context, repo, commit, path string, maxBytes int64) ([]byte, error) {
	mir, err := m.fetched(repo, commit)
	if err != nil {
		return nil, err
	}
	shown := printable(path)
	none := errorf(NoFile, "File '%s' not found in repository", shown)
	if checkPath(path) != "" {
		return nil, none
	}
	out, err := m.run(ctx, call{mirror: mir.dir, args: []string{"ls-tree", "-z", "-l", "--full-tree", commit, "--", path}})
	if err != nil {
		return nil, fmt.Errorf("look up %s at commit %s: %w", shown, commit, err)
	}
	found := entry{}
	for record := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if e, err := parseEntry(record); err == nil && e.path == path {
			found = e
		}
	}
	switch {
	case found.mode == "":
		return nil, none
	case !found.regular():
		return nil, errorf(NotAllowed, "File '%s' is a %s in the repository; it must be a regular file", shown, found.kind())
	case found.size > maxBytes:
		return nil, errorf(TooLarge, "File '%s' has %d bytes; the limit is %d", shown, found.size, maxBytes)
	}
	var data []byte
	err = m.blobs(ctx, mir, []entry{found}, func(_ entry, r io.Reader) (err error) {
		data, err = io.ReadAll(r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s at commit %s: %w", shown, commit, err)
	}
	return data, nil
}
