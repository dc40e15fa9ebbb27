package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	tries     = 5
	firstWait = 4 * time.Second // then doubled
	someDepth = 10
	allDepth  = 1<<31 - 1 // git's word for everything
)

// transient is what git says when a connection broke in a way that upstream
// has met often, and that the next try usually survives.
var transient = []string{"GnuTLS recv error", "SSL_read: Connection was reset"}

// fetchCommit makes a commit complete. The caller holds the lock.
func (m *Mirrors) fetchCommit(ctx context.Context, mir mirror, commit string, lock *os.File) error {
	if mir.has(commit) {
		return nil // another process was faster
	}
	if err := m.open(ctx, mir, lock); err != nil {
		return err
	}
	if err := m.deepen(ctx, mir, commit, 1, lock); err != nil {
		return err
	}
	out, err := m.run(ctx, call{mirror: mir.dir, args: []string{"cat-file", "-t", commit}})
	if err != nil {
		return fmt.Errorf("look at commit %s: %w", commit, err)
	}
	if kind := strings.TrimSpace(string(out)); kind != "commit" {
		return errorf(NoCommit, "%s in %s is a %s, not a commit", commit, show(mir.url), kind)
	}
	args := []string{"update-ref", "--no-deref", "--end-of-options", fetchedRef(commit), commit}
	if _, err := m.run(ctx, call{mirror: mir.dir, args: args, lock: lock}); err != nil {
		return fmt.Errorf("mark commit %s as fetched: %w", commit, err)
	}
	return nil
}

// deepen fetches a commit with so many of its ancestors. The caller holds the
// lock.
func (m *Mirrors) deepen(ctx context.Context, mir mirror, commit string, depth int, lock *os.File) error {
	url, protocol := m.Rules.remote(mir.url)
	args := []string{"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc",
		"--depth=" + strconv.Itoa(depth), "--end-of-options", url, commit}
	_, err := m.ask(ctx, call{mirror: mir.dir, args: args, url: url, protocol: protocol, lock: lock})
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("commit %s from %s", commit, show(mir.url))
	switch said := (*gitError)(nil); {
	case errors.Is(err, ErrNetwork):
		return broken("fetching "+what, err)
	case errors.As(err, &said) && says(said, "not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref"):
		return errorf(NoCommit, "Error fetching %s", what)
	}
	return m.unreachable(mir.url, fmt.Errorf("fetch %s: %w", what, err))
}

// ask runs a git that talks to a server, again and again while the connection
// breaks in a way that passes.
func (m *Mirrors) ask(ctx context.Context, c call) ([]byte, error) {
	pause := firstWait
	for try := 1; ; try++ {
		out, err := m.run(ctx, c)
		if said := (*gitError)(nil); !errors.As(err, &said) || !says(said, transient...) {
			return out, err
		}
		if try == tries {
			return nil, fmt.Errorf("%w: %w", ErrNetwork, err)
		}
		if err := m.wait(ctx, pause); err != nil {
			return nil, err
		}
		pause *= 2
	}
}

// broken is upstream's sentence for a connection that does not hold.
func broken(doing string, err error) error {
	return fmt.Errorf("%s %s\n%w", "Network error when", doing, err)
}

func (m *Mirrors) wait(ctx context.Context, d time.Duration) error {
	if m.Wait != nil {
		return m.Wait(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unreachable tells a repository that is not there from a server that is not
// well. A token that is refused is the operator's matter, not the user's.
func (m *Mirrors) unreachable(repo string, err error) error {
	said := (*gitError)(nil)
	if !errors.As(err, &said) {
		return err
	}
	refused := says(said, "could not read Username", "Authentication failed", "error: 401", "error: 403")
	switch {
	case refused && m.Rules.hasToken():
		return fmt.Errorf("the repository access token was refused: %w", err)
	case refused, says(said, "not found", "does not appear to be a git repository", "error: 404"):
		return errorf(NoRepository, "Could not read from %s\nCheck that the repository exists and that its name is spelled right; if it is private, this backend cannot read it", show(repo))
	case says(said, "unable to update url base from redirection", "error: 301", "error: 302", "error: 307", "error: 308"):
		return errorf(NoRepository, "Could not read from %s\nThe repository was renamed or moved: use its new address", show(repo))
	}
	return err
}

func says(e *gitError, texts ...string) bool {
	for _, text := range texts {
		if strings.Contains(e.text, text) {
			return true
		}
	}
	return false
}
