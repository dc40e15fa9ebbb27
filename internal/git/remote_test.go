package git_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/git"
)

// history makes a branch of n commits and returns them, oldest first.
func (r repo) history(branch string, n int) []string {
	r.t.Helper()
	r.git("checkout", "--quiet", "-B", branch)
	var commits []string
	for i := range n {
		r.write(branch, fmt.Sprint(i))
		commits = append(commits, r.commit(fmt.Sprint(branch, " ", i)))
	}
	return commits
}

func TestCommitOnBranch(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	main := r.history("main", 30)
	side := r.history("side", 2)
	r.git("update-ref", "refs/pull/1/head", side[1])
	r.git("update-ref", "refs/heads/x/refs/heads/ghost", main[0])
	r.git("branch", "--quiet", "topic/one", main[3])
	r.git("update-ref", "refs/heads/side", main[2]) // the branch is gone, the pull request is not
	s := serve(t, r)
	m := over(t)

	for _, tc := range []struct {
		name, branch, commit string
		kind                 git.Kind // empty for no error
		want                 string
	}{
		{name: "head", branch: "main", commit: main[29]},
		{name: "within ten", branch: "main", commit: main[22]},
		{name: "far below", branch: "main", commit: main[4]},
		{name: "within ten again", branch: "main", commit: main[25]},
		{name: "slash", branch: "topic/one", commit: main[1]},
		{name: "no branch given", commit: main[0], kind: git.NoBranch, want: "A branch name must be supplied"},
		{name: "no such branch", branch: "gone", commit: main[0], kind: git.NoBranch, want: "Could not find branch 'gone'"},
		{name: "end of another name", branch: "ghost", commit: main[0], kind: git.NoBranch, want: "Could not find branch 'ghost'"},
		{name: "pattern", branch: "mai*", commit: main[29], kind: git.NoBranch, want: "Could not find branch 'mai*'"},
		{name: "option", branch: "--upload-pack=x", commit: main[29], kind: git.NoBranch, want: "Could not find branch '--upload-pack=x'"},
		{name: "not a ref", branch: "a..b\n", commit: main[29], kind: git.NoBranch, want: `Could not find branch '"a..b\n"'`},
		{name: "only in a pull request", branch: "main", commit: side[1], kind: git.NoCommit, want: "Could not find commit on branch 'main': " + side[1]},
		{name: "later than the branch", branch: "topic/one", commit: main[9], kind: git.NoCommit, want: "Could not find commit on branch 'topic/one': " + main[9]},
		{name: "nowhere", branch: "main", commit: nowhere, kind: git.NoCommit, want: "Could not find commit on branch 'main': " + nowhere},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, check := range []func() error{
				func() error { return m.CheckCommitOnBranch(t.Context(), s.study(), tc.branch, tc.commit) },
				func() error { return m.Fetch(t.Context(), s.study(), tc.branch, tc.commit) },
			} {
				if err := check(); tc.kind == "" && err != nil {
					t.Errorf("error = %v, want none", err)
				} else if tc.kind != "" {
					wantKind(t, err, tc.kind, tc.want)
				}
			}
			ok, err := m.Exists(s.study(), tc.commit)
			fetched := tc.kind == "" || tc.commit == main[29] // a case before this one has fetched it
			if err != nil || ok != fetched {
				t.Errorf("Exists = %v, %v, want %v", ok, err, fetched)
			}
			if tc.kind != "" {
				return
			}
			dir := t.TempDir()
			if err := m.Extract(t.Context(), s.study(), tc.commit, dir); err != nil || len(listing(t, dir)) == 0 {
				t.Errorf("Extract = %v, and %v", err, listing(t, dir))
			}
		})
	}
}

// TestMovedBranch: a commit that was on the branch is found without asking;
// the fresh answer is today's.
func TestMovedBranch(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commits := r.history("main", 3)
	s := serve(t, r)
	m := over(t)
	if err := m.Fetch(t.Context(), s.study(), "main", commits[2]); err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	r.git("update-ref", "refs/heads/main", commits[0])
	s.seen()
	if err := m.Fetch(t.Context(), s.study(), "main", commits[2]); err != nil {
		t.Errorf("Fetch again: %v", err)
	}
	if seen := s.seen(); len(seen) > 0 {
		t.Errorf("Fetch again made %d requests, want none", len(seen))
	}
	wantKind(t, m.CheckCommitOnBranch(t.Context(), s.study(), "main", commits[2]), git.NoCommit, "Could not find commit on branch 'main'")
	wantKind(t, m.Fetch(t.Context(), s.study(), "", commits[2]), git.NoBranch, "A branch name must be supplied")
}

// TestLocalHasNoBranchRule: but the plain question is answered there too.
func TestLocalHasNoBranchRule(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commits := r.history("main", 12)
	side := r.history("side", 1)
	m := mirrors(t)
	if err := m.CheckCommitOnBranch(t.Context(), r.dir, "gone", side[0]); err != nil {
		t.Errorf("CheckCommitOnBranch of a local repository: %v", err)
	}
	for commit, want := range map[string]bool{commits[11]: true, commits[0]: true, side[0]: false} {
		if got, err := m.OnBranch(t.Context(), r.dir, "main", commit); got != want || err != nil {
			t.Errorf("OnBranch(main, %s) = %v, %v, want %v", commit, got, err, want)
		}
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commits := r.history("main", 2)
	r.git("tag", "v1", commits[0])
	r.git("tag", "-a", "-m", "second", "v2", commits[1])
	r.git("tag", "deep/refs/tags/v3", commits[1])
	s := serve(t, r)
	m := over(t)
	for tag, want := range map[string]string{"v1": commits[0], "v2": commits[1], "deep/refs/tags/v3": commits[1]} {
		if got, err := m.Tag(t.Context(), s.study(), tag); got != want || err != nil {
			t.Errorf("Tag(%q) = %s, %v, want %s", tag, got, err, want)
		}
	}
	for _, tag := range []string{"v3", "v4", "v*", "main", "", "-x", "v1^{}", "../heads/main"} {
		_, err := m.Tag(t.Context(), s.study(), tag)
		wantKind(t, err, git.NoTag, "'"+tag+"' is not a tag listed in "+s.study()+"/tags")
	}
	_, err := m.Tag(t.Context(), s.URL+"/gone", "v1")
	wantKind(t, err, git.NoRepository, "Could not read from "+s.URL+"/gone")
}

const token = "ghp_TopSecret0123456789"

// basic is "sluice:" and the token as HTTP has them.
const basic = "c2x1aWNlOmdocF9Ub3BTZWNyZXQwMTIzNDU2Nzg5"

// TestToken: it goes to the server, and nowhere else.
func TestToken(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commit := r.history("main", 1)[0]
	s := serve(t, r)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, rules := range map[string]git.Rules{"value": {Token: token}, "file": {TokenFile: file}} {
		m := over(t)
		m.Rules = rules.OnLoopback()
		log := filepath.Join(t.TempDir(), "log")
		m.Binary = wrapper(t, `printf '%s\n' "$@" >>`+log)
		if err := m.Fetch(t.Context(), s.study(), "main", commit); err != nil {
			t.Fatalf("%s: Fetch: %v", name, err)
		}
		requests := s.seen()
		if len(requests) == 0 {
			t.Fatalf("%s: the server saw no request", name)
		}
		for _, req := range requests {
			if user, pass, _ := req.BasicAuth(); user != "sluice" || pass != token {
				t.Errorf("%s: %s has user %q and password %q, want the token", name, req.URL, user, pass)
			}
		}
		for _, place := range []string{m.Dir, filepath.Dir(log)} {
			for path, contents := range listing(t, place) {
				if strings.Contains(contents, token) || strings.Contains(contents, basic) {
					t.Errorf("%s: the token is in %s", name, path)
				}
			}
		}
	}
}

// TestTokenRedacted: whatever a server says back.
func TestTokenRedacted(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commit := r.history("main", 1)[0]
	s := serve(t, r)
	s.refuse = func(w http.ResponseWriter, req *http.Request) {
		_, pass, _ := req.BasicAuth()
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "you sent %s, which is %s\n", req.Header.Get("Authorization"), pass)
	}
	m := over(t)
	m.Rules = git.Rules{Token: token}.OnLoopback()
	err := m.Fetch(t.Context(), s.study(), "main", commit)
	wantOurs(t, err, "you sent Basic ********, which is ********")
	if strings.Contains(err.Error(), token) || strings.Contains(err.Error(), basic) {
		t.Errorf("error = %v: it shows the token", err)
	}

	m.Rules = git.Rules{Token: "two\nlines"}.OnLoopback()
	wantOurs(t, m.Fetch(t.Context(), s.study(), "main", commit), "the repository access token has a space or a control character")
	m.Rules = git.Rules{TokenFile: "/nonexistent"}.OnLoopback()
	wantOurs(t, m.Fetch(t.Context(), s.study(), "main", commit), "read the repository access token")
}

// TestTokenIsNotForLocalRepositories, which have nobody to show it to.
func TestTokenIsNotForLocalRepositories(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commit := r.history("main", 1)[0]
	m := mirrors(t)
	m.Rules.Token = token
	log := filepath.Join(t.TempDir(), "log")
	m.Binary = wrapper(t, `env >>`+log)
	if err := m.Fetch(t.Context(), r.dir, "", commit); err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	data, err := os.ReadFile(log)
	if err != nil || strings.Contains(string(data), basic) || strings.Contains(string(data), token) {
		t.Errorf("git got the token (%v)", err)
	}
}

// TestAnswers: what a server's answer means, with and without a token.
func TestAnswers(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commit := r.history("main", 1)[0]
	s := serve(t, r)
	elsewhere := serve(t, r)
	for _, tc := range []struct {
		name       string
		code       int
		open, with git.Kind // without and with a token; empty: ours
	}{
		{"unauthorised", http.StatusUnauthorized, git.NoRepository, ""},
		{"forbidden", http.StatusForbidden, git.NoRepository, ""},
		{"not found", http.StatusNotFound, git.NoRepository, git.NoRepository},
		{"moved", http.StatusMovedPermanently, git.NoRepository, git.NoRepository},
		{"found", http.StatusFound, git.NoRepository, git.NoRepository},
		{"too many", http.StatusTooManyRequests, "", ""},
		{"unwell", http.StatusBadGateway, "", ""},
	} {
		s.refuse = func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.Header().Set("Location", elsewhere.URL+req.URL.RequestURI())
			w.WriteHeader(tc.code)
		}
		for secret, kind := range map[string]git.Kind{"": tc.open, token: tc.with} {
			m := over(t)
			m.Rules = git.Rules{Token: secret}.OnLoopback()
			err := m.Fetch(t.Context(), s.study(), "main", commit)
			if kind == "" {
				wantOurs(t, err, "read refs of "+s.study())
			} else {
				wantKind(t, err, kind, "Could not read from "+s.study())
			}
			if t.Failed() {
				t.Fatalf("%s (%d), token %q", tc.name, tc.code, secret)
			}
		}
	}
	if seen := elsewhere.seen(); len(seen) > 0 {
		t.Errorf("a redirect was followed, with Authorization %q", seen[0].Header.Get("Authorization"))
	}
}
