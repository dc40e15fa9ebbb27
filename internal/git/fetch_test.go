package git_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/git"
)

const nowhere = "0123456789abcdef0123456789abcdef01234567"

func TestFetch(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("project.yaml", "version: '5'\n")
	first := r.commit("first")
	r.write("project.yaml", "version: '4'\n")
	second := r.commit("second")
	m := mirrors(t)

	for _, commit := range []string{first, second, first} {
		if err := m.Fetch(t.Context(), r.dir, "", commit); err != nil {
			t.Fatalf("Fetch(%s): %v", commit, err)
		}
		if ok, err := m.Exists(r.dir, commit); !ok || err != nil {
			t.Errorf("Exists(%s) = %v, %v, want true", commit, ok, err)
		}
	}
	got, err := m.File(t.Context(), r.dir, first, "project.yaml", 100)
	if err != nil || string(got) != "version: '5'\n" {
		t.Errorf("File of the first commit = %q, %v, want version 5", got, err)
	}
	if err := m.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}

	if err := os.RemoveAll(r.dir); err != nil {
		t.Fatal(err)
	}
	if err := m.Fetch(t.Context(), r.dir+"/", "", first); err != nil {
		t.Errorf("Fetch of what is there asks the repository: %v", err)
	}
}

func TestFetchErrors(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("a", "a")
	commit := r.commit("first")
	tag := r.git("hash-object", "-w", "a")
	m := mirrors(t)

	wantKind(t, m.Fetch(t.Context(), r.dir, "", nowhere), git.NoCommit, "Error fetching commit "+nowhere+" from "+r.dir)
	wantKind(t, m.Fetch(t.Context(), r.dir, "", tag), git.NoCommit, "is a blob, not a commit")
	wantKind(t, m.Fetch(t.Context(), r.dir, "", "main"), git.NoCommit, "main is not a commit")
	wantKind(t, m.Fetch(t.Context(), r.dir, "", strings.ToUpper(commit)), git.NoCommit, "is not a commit")
	wantKind(t, m.Fetch(t.Context(), r.dir+"-", "", commit), git.NoRepository, "Could not read from "+r.dir+"-")
	wantKind(t, m.Fetch(t.Context(), "https://evil.org/x", "", commit), git.NotAllowed, "does not start with https://github.com")
	for _, c := range []string{nowhere, tag, commit} {
		if ok, err := m.Exists(r.dir, c); ok || err != nil {
			t.Errorf("Exists(%s) = %v, %v, want false", c, ok, err)
		}
	}
	wantOurs(t, m.Extract(t.Context(), r.dir, commit, t.TempDir()), git.ErrNotFetched.Error())

	m.Binary = "/nonexistent/git"
	wantOurs(t, m.Fetch(t.Context(), r.dir, "", commit), "find git")
}

// TestUploadPackURL: a URL that is an option runs nothing, even where the rules
// would let it through to git as a path.
func TestUploadPackURL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := mirrors(t)
	for _, url := range []string{
		"--upload-pack=touch " + dir + "/x", "ext::touch " + dir + "/x", "/--upload-pack=touch " + dir + "/x",
		"/$(touch " + dir + "/x)", "/';touch " + dir + "/x;'", "/`touch " + dir + "/x`",
	} {
		if err := m.Fetch(t.Context(), url, "main", nowhere); err == nil {
			t.Errorf("Fetch(%q) = nil, want an error", url)
		}
		if _, err := m.Tag(t.Context(), url, "v1"); err == nil {
			t.Errorf("Tag(%q) = nil, want an error", url)
		}
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("a URL was run: %v, %v", left, err)
	}
}

// TestOrgsNeverShare: repositories of one name have a mirror each.
func TestOrgsNeverShare(t *testing.T) {
	t.Parallel()
	a, b := newRepo(t), newRepo(t)
	a.write("x", "a")
	commit := a.commit("a")
	b.write("x", "b")
	b.commit("b")
	m := fetched(t, a, commit)
	if ok, err := m.Exists(b.dir, commit); ok || err != nil {
		t.Errorf("Exists in the other repository = %v, %v, want false", ok, err)
	}
	wantKind(t, m.Fetch(t.Context(), b.dir, "", commit), git.NoCommit, "Error fetching commit")
}

// TestConcurrentFetches: callers of one process share a fetch, and so do
// processes that share the directory.
func TestConcurrentFetches(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("project.yaml", "version: '5'\n")
	commit := r.commit("first")
	log := filepath.Join(t.TempDir(), "log")
	planner := mirrors(t)
	planner.Binary = wrapper(t, `echo "$command" >>`+log)
	worker := &git.Mirrors{Dir: planner.Dir, Rules: planner.Rules, Binary: planner.Binary}

	var all sync.WaitGroup
	for i := range 8 {
		m := []*git.Mirrors{planner, worker}[i%2]
		all.Go(func() {
			if err := m.Fetch(t.Context(), r.dir, "", commit); err != nil {
				t.Errorf("Fetch: %v", err)
			}
			if _, err := m.File(t.Context(), r.dir, commit, "project.yaml", 100); err != nil {
				t.Errorf("File: %v", err)
			}
		})
	}
	all.Wait()
	ran, err := os.ReadFile(log)
	if got := strings.Count(string(ran), "fetch\n"); got != 1 || err != nil {
		t.Errorf("git fetch ran %d times (%v), want once", got, err)
	}
}

// TestKilledFetch: a git that dies after the objects came, and before the
// mark, leaves a commit that is not trusted, and locks that hold nobody up.
func TestKilledFetch(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("project.yaml", "version: '5'\n")
	commit := r.commit("first")
	m := mirrors(t)
	m.Binary = wrapper(t, `if [ "$command" = fetch ]; then $git "$@"; : >"$GIT_DIR/shallow.lock"; : >"$GIT_DIR/objects/pack/tmp_pack_x"; kill -9 $$; fi`)

	wantOurs(t, m.Fetch(t.Context(), r.dir, "", commit), "git fetch")
	if ok, err := m.Exists(r.dir, commit); ok || err != nil {
		t.Fatalf("Exists after a killed fetch = %v, %v, want false", ok, err)
	}
	if _, err := m.File(t.Context(), r.dir, commit, "project.yaml", 100); !errors.Is(err, git.ErrNotFetched) {
		t.Errorf("File after a killed fetch: %v, want %v", err, git.ErrNotFetched)
	}
	m.Binary = ""
	if err := m.Fetch(t.Context(), r.dir, "", commit); err != nil {
		t.Fatalf("Fetch after a killed one: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(m.Dir, "*", "objects", "pack", "tmp_*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestCancelKillsAll: what git started dies with it when the context ends.
func TestCancelKillsAll(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("a", "a")
	commit := r.commit("first")
	fifo := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	m := mirrors(t)
	m.Binary = wrapper(t, `if [ "$command" = fetch ]; then exec 9>`+fifo+`; echo fetching >&9; sleep 3600; exit 1; fi`)

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	result := make(chan error, 1)
	go func() { result <- m.Fetch(ctx, r.dir, "", commit) }()
	alive, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	in := bufio.NewReader(alive)
	if line, err := in.ReadString('\n'); line != "fetching\n" {
		t.Fatalf("the fetch says %q, %v", line, err)
	}
	stopped := errors.New("the test has seen enough")
	cancel(stopped)
	if err := <-result; !errors.Is(err, stopped) {
		t.Errorf("Fetch = %v, want %v", err, stopped)
	}
	if _, err := in.ReadByte(); err != io.EOF { // the last process that could write is gone
		t.Errorf("read = %v, want EOF", err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commit := r.commit("first")
	m := mirrors(t)
	m.Binary = wrapper(t, `[ "$command" != fetch ] || exec sleep 3600`)
	if err := m.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Timeout = time.Nanosecond
	wantOurs(t, m.Fetch(t.Context(), r.dir, "", commit), "git took too long: the limit is 1ns")
}

// TestTransientErrors: only the two that upstream knows are tried again, five
// times at most, after waits that double.
func TestTransientErrors(t *testing.T) {
	t.Parallel()
	waits := []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second}
	for _, tc := range []struct {
		name, says string
		failures   int
		waits      []time.Duration
		want       error
	}{
		{name: "passes", says: "error: RPC failed; curl 56 GnuTLS recv error (-9)", failures: 2, waits: waits[:2]},
		{name: "stays", says: "OpenSSL SSL_read: Connection was reset", failures: 100, waits: waits, want: git.ErrNetwork},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t)
			commit := r.commit("first")
			count := filepath.Join(t.TempDir(), "count")
			m := mirrors(t)
			m.Binary = wrapper(t, `if [ "$command" = fetch ]; then
echo >>`+count+`
if [ $(wc -l <`+count+`) -le `+strconv.Itoa(tc.failures)+` ]; then echo "`+tc.says+`" >&2; exit 128; fi
fi`)
			var waited []time.Duration
			m.Wait = func(_ context.Context, d time.Duration) error {
				waited = append(waited, d)
				return nil
			}
			err := m.Fetch(t.Context(), r.dir, "", commit)
			if !errors.Is(err, tc.want) {
				t.Errorf("Fetch = %v, want %v", err, tc.want)
			}
			if tc.want != nil {
				wantOurs(t, err, "Network error when fetching commit "+commit+" from "+r.dir+"\n(This may work if you try again later)")
			}
			if diff := cmp.Diff(tc.waits, waited); diff != "" {
				t.Errorf("waits (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOtherErrorsAreNotRetried: and they are ours.
func TestOtherErrorsAreNotRetried(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commit := r.commit("first")
	m := mirrors(t)
	m.Binary = wrapper(t, `if [ "$command" = fetch ]; then echo "fatal: Could not resolve host: github.com" >&2; exit 128; fi`)
	m.Wait = func(context.Context, time.Duration) error {
		t.Error("waited")
		return nil
	}
	wantOurs(t, m.Fetch(t.Context(), r.dir, "", commit), "Could not resolve host")
}

// TestEnvironment: git knows nothing of this process but what it must.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.git("config", "uploadpack.packObjectsHook", "false")
	r.write("a", "a")
	commit := r.commit("first")
	log := filepath.Join(t.TempDir(), "log")
	m := mirrors(t)
	m.Env = []string{"HTTPS_PROXY=http://proxy.example.org:3128", "HOME=/root"}
	m.Binary = wrapper(t, `env >>`+log)
	if err := m.Fetch(t.Context(), r.dir, "", commit); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if strings.HasPrefix(name, "GIT_CONFIG_KEY_") || strings.HasPrefix(name, "GIT_CONFIG_VALUE_") {
			continue
		}
		if name == "HOME" && value != filepath.Join(m.Dir, "home") {
			t.Errorf("HOME = %s, want an empty folder of ours", value)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{"GIT_ALLOW_PROTOCOL", "GIT_ATTR_NOSYSTEM", "GIT_CEILING_DIRECTORIES", "GIT_CONFIG_COUNT", "GIT_CONFIG_GLOBAL",
		"GIT_CONFIG_NOSYSTEM", "GIT_DIR", "GIT_LITERAL_PATHSPECS", "GIT_NO_LAZY_FETCH", "GIT_NO_REPLACE_OBJECTS", "GIT_PROTOCOL_FROM_USER",
		"GIT_TERMINAL_PROMPT", "HOME", "HTTPS_PROXY", "LC_ALL", "PATH", "PWD", "XDG_CONFIG_HOME"}
	if diff := cmp.Diff(want, slices.Compact(names)); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(filepath.Join(m.Dir, "home")); len(left) > 0 || err != nil {
		t.Errorf("git's home has %v (%v), want nothing", left, err)
	}
}
