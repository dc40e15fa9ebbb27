// Package git reads studies from git repositories: one file of a commit, or
// the whole tree of it. It runs the git binary, never through a shell, on bare
// mirrors of its own, and trusts neither the server nor the commit.
//
//	Fetch ──▶ mirror of the repository ──▶ File      (planner: project.yaml)
//	                                  └──▶ Extract   (worker: the code)
//
// A mirror has no hooks, no filters, no submodules, no working tree and no
// secrets. Git gets a fixed environment, settings that reach it by environment
// variables, one allowed protocol, a time limit, and a process group that is
// killed with its context.
//
// Objects received are not checked by fsck: it refuses the untidy dates and
// modes of real, old repositories, while what could harm us (names in trees)
// is checked by Extract, which has better words for it.
package git

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"
)

// Mirrors reads repositories, and keeps what it has fetched in a directory.
// Processes may share the directory. All methods may be called at the same
// time; an *Error says that the request is at fault. Do not copy it once used.
type Mirrors struct {
	Dir     string        // holds the mirrors; made where it is not there
	Binary  string        // of git; empty means "git"
	Rules   Rules         // which repositories may be read
	Timeout time.Duration // of one git command; zero means ten minutes
	Limits  Limits        // of a commit's tree
	Env     []string      // "NAME=value", further variables for git: HTTPS_PROXY, SSL_CERT_FILE, …

	// Wait waits between tries; nil waits by the clock.
	Wait func(ctx context.Context, d time.Duration) error

	fetches flights
	locks   semaphores
}

// Limits bound what Extract writes. Zero means the default.
type Limits struct {
	Files int   // files, links and folders; 200,000
	Bytes int64 // of all files together; 4 GiB
}

func (l Limits) files() int {
	if l.Files > 0 {
		return l.Files
	}
	return 200_000
}

func (l Limits) bytes() int64 {
	if l.Bytes > 0 {
		return l.Bytes
	}
	return 4 << 30
}

// Fetch makes a commit readable. It does nothing if it has been fetched
// before, by whichever process; concurrent callers share one fetch.
//
// Unless the repository is local, the commit must be on the branch. A commit
// that was once found there is not looked up again: call CheckCommitOnBranch
// for today's answer.
func (m *Mirrors) Fetch(ctx context.Context, repo, branch, commit string) error {
	if err := m.check(repo, commit); err != nil {
		return err
	}
	local := m.Rules.local(repo)
	mir, err := m.mirror(repo)
	if err != nil {
		return err
	}
	if (local || mir.seen(branch, commit)) && mir.has(commit) {
		return nil
	}
	err = m.fetches.do(ctx, strings.Join([]string{mir.url, branch, commit}, "\x00"), func(ctx context.Context) error {
		if !local && !mir.seen(branch, commit) {
			if err := m.CheckCommitOnBranch(ctx, repo, branch, commit); err != nil {
				return err
			}
		}
		return m.locked(ctx, mir, func(lock *os.File) error { return m.fetchCommit(ctx, mir, commit, lock) })
	})
	return err
}

// Exists reports whether Fetch has completed for a commit. It asks no server.
func (m *Mirrors) Exists(repo, commit string) (bool, error) {
	if err := m.check(repo, commit); err != nil {
		return false, err
	}
	mir, err := m.mirror(repo)
	if err != nil {
		return false, err
	}
	return mir.has(commit), nil
}

// check reports what is wrong with the words of a request.
func (m *Mirrors) check(repo, commit string) error {
	if err := m.Rules.CheckURL(repo); err != nil {
		return err
	}
	if !isCommit(commit) {
		return errorf(NoCommit, "%s is not a commit: it takes 40 lower-case hexadecimal digits", show(commit))
	}
	return nil
}

func isCommit(s string) bool {
	return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == ""
}

// fetched opens a mirror for reading a commit.
func (m *Mirrors) fetched(repo, commit string) (mirror, error) {
	if err := m.check(repo, commit); err != nil {
		return mirror{}, err
	}
	mir, err := m.mirror(repo)
	if err != nil {
		return mirror{}, err
	}
	if !mir.has(commit) {
		return mirror{}, fmt.Errorf("read commit %s of %s: %w", commit, show(repo), ErrNotFetched)
	}
	return mir, nil
}

// slug names a mirror's directory: readable, and different for each URL.
func slug(url string) string {
	sum := sha256.Sum256([]byte(url))
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '-'
	}, url[strings.LastIndexByte(url, '/')+1:])
	if len(name) > 60 {
		name = name[:60]
	}
	return strings.Trim(name+"-"+hex.EncodeToString(sum[:12]), "-") + ".git"
}
