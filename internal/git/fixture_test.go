package git_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sluice/internal/git"
)

// A repo is a real repository, written by the git binary.
type repo struct {
	t   testing.TB
	dir string
}

func newRepo(t testing.TB) repo {
	t.Helper()
	r := repo{t, filepath.Join(t.TempDir(), "study")}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.git("init", "--quiet", "--initial-branch=main")
	return r
}

func (r repo) git(args ...string) string { return r.gitWith(nil, args...) }

func (r repo) gitWith(stdin []byte, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir = r.dir
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.org",
		"GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000"}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git %q: %v: %s", args, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func (r repo) write(path, contents string) {
	r.t.Helper()
	path = filepath.Join(r.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(contents), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// commit commits all that is in the folder.
func (r repo) commit(message string) string {
	r.t.Helper()
	r.git("add", "--all", "--force")
	r.git("commit", "--quiet", "--allow-empty", "--message", message)
	return r.git("rev-parse", "HEAD")
}

func (r repo) blob(contents string) string {
	r.t.Helper()
	return r.gitWith([]byte(contents), "hash-object", "-w", "--stdin")
}

// A leaf is one entry of a tree that no git would write.
type leaf struct{ mode, name, id string }

// tree writes a tree object byte by byte.
func (r repo) tree(leaves ...leaf) string {
	r.t.Helper()
	var raw []byte
	for _, l := range leaves {
		id, err := hex.DecodeString(l.id)
		if err != nil {
			r.t.Fatal(err)
		}
		raw = append(raw, l.mode+" "+l.name+"\x00"...)
		raw = append(raw, id...)
	}
	return r.gitWith(raw, "hash-object", "--literally", "-t", "tree", "-w", "--stdin")
}

// commitTree makes a tree the head of main.
func (r repo) commitTree(tree string) string {
	r.t.Helper()
	commit := r.git("commit-tree", "-m", "by hand", tree)
	r.git("update-ref", "refs/heads/main", commit)
	return commit
}

// mirrors returns mirrors that may read paths of this machine.
func mirrors(t testing.TB) *git.Mirrors {
	return &git.Mirrors{Dir: t.TempDir(), Rules: git.Rules{AllowLocal: true}}
}

// fetched returns mirrors that have a commit of r.
func fetched(t testing.TB, r repo, commit string) *git.Mirrors {
	t.Helper()
	m := mirrors(t)
	if err := m.Fetch(t.Context(), r.dir, "", commit); err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	return m
}

// A server serves repositories over HTTP, as github.com does.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	refuse   http.HandlerFunc // instead of git, if not nil
}

func serve(t testing.TB, r repo) *server {
	t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(r.dir), "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"},
		Stderr: io.Discard,
	}
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, req)
		refuse := s.refuse
		s.mu.Unlock()
		if refuse != nil {
			refuse(w, req)
			return
		}
		backend.ServeHTTP(w, req)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) study() string { return s.URL + "/study" }

// seen returns the requests so far, and forgets them.
func (s *server) seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.requests
	s.requests = nil
	return seen
}

// over returns mirrors that may read from the servers of this machine.
func over(t testing.TB) *git.Mirrors {
	return &git.Mirrors{Dir: t.TempDir(), Rules: git.Rules{}.OnLoopback()}
}

// wrapper writes a program that stands before git: the lines run first, with
// $command as git's command and $git as the real one.
func wrapper(t testing.TB, lines string) string {
	t.Helper()
	real, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "git")
	script := "#!/bin/sh\ngit=" + real + "\ncommand=$1\n" + lines + "\nexec $git \"$@\"\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantKind fails the test unless err is the user's, of a kind and with a text.
func wantKind(t testing.TB, err error, kind git.Kind, text string) {
	t.Helper()
	if user := (*git.Error)(nil); !errors.As(err, &user) || !errors.Is(err, kind) || !strings.Contains(user.Message, text) {
		t.Errorf("error = %v (%T), want %s with %q", err, err, kind, text)
	}
}

// wantOurs fails the test unless err is a fault of ours or of the network.
func wantOurs(t testing.TB, err error, text string) {
	t.Helper()
	if user := (*git.Error)(nil); err == nil || errors.As(err, &user) || !strings.Contains(err.Error(), text) {
		t.Errorf("error = %v (%T), want one of ours with %q", err, err, text)
	}
}
