package git_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/git"
	"sluice/internal/needs"
)

func TestCheckURL(t *testing.T) {
	t.Parallel()
	const (
		start  = " does not start with https://github.com"
		org    = " does not belong to one of the following Github organisations: opensafely opensafely-actions"
		format = " was not of the expected format: https://github.com/[organisation]/[project-name]"
	)
	for _, tc := range []struct {
		url   string
		local bool
		want  string // of the message; empty for no error
	}{
		{url: "https://github.com/opensafely/test-study"},
		{url: "https://github.com/opensafely/test-study/"},
		{url: "https://github.com/opensafely/test-study.git"},
		{url: "https://github.com/opensafely-actions/cox-ipw"},
		{url: "/srv/study", local: true},
		{url: "/srv/a study", local: true},

		{url: "", want: "Repository URL " + start},
		{url: "http://github.com/opensafely/x", want: "Repository URL http://github.com/opensafely/x" + start},
		{url: "https://GITHUB.com/opensafely/x", want: "Repository URL https://GITHUB.com/opensafely/x" + start},
		{url: "https://github.com:443/opensafely/x", want: start},
		{url: "https://github.com.evil.org/opensafely/x", want: start},
		{url: "https://evil.org/github.com/opensafely/x", want: start},
		{url: "https://evil.org#@github.com/opensafely/x", want: start},
		{url: "https://github.com@evil.org/opensafely/x", want: start},
		{url: "https://github.com", want: org},
		{url: "https://github.com/OpenSAFELY/x", want: "Repository https://github.com/OpenSAFELY/x" + org},
		{url: "https://github.com/evil/x", want: org},
		{url: "https://github.com/../opensafely/x", want: org},
		{url: "HTTPS://github.com/opensafely/x", want: format},
		{url: "https://github.com/opensafely", want: format},
		{url: "https://github.com/opensafely/x/tree/main", want: format},
		{url: "https://github.com//opensafely/x", want: format},
		{url: "https://github.com/opensafely/..", want: format},
		{url: "https://github.com/opensafely/.", want: format},
		{url: "https://github.com/opensafely/-x", want: format},
		{url: "https://github.com/opensafely/%2e%2e", want: format},
		{url: `https://github.com/opensafely/a\..`, want: format},
		{url: "https://github.com/opensafely/x?y", want: format},
		{url: "https://github.com/opensafely/x#y", want: format},
		{url: "https://github.com/opensafely/x\n", want: format},
		{url: "https://github.com/opensafely/x\x00y", want: format},
		{url: "https://github.com/opensafely/--upload-pack=touch", want: format},

		{url: "--upload-pack=touch /tmp/x", want: start},
		{url: "--upload-pack=touch /tmp/x", local: true, want: start},
		{url: "-u", local: true, want: start},
		{url: "ext::sh -c touch% /tmp/x", local: true, want: start},
		{url: "file:///srv/study", local: true, want: start},
		{url: "ssh://git@github.com/opensafely/x", want: "Repository URL ssh://git@github.com/opensafely/x" + start},
		{url: "git@github.com:opensafely/x", want: start},
		{url: "/srv/study", want: "Repository URL /srv/study" + start},
		{url: "srv/study", local: true, want: start},
		{url: "/srv/study --upload-pack=touch", local: true, want: "not allowed"},
		{url: "/srv/study\nx", local: true, want: "not allowed"},
		{url: "http://127.0.0.1:80/study", local: true, want: start},
		{url: "/" + strings.Repeat("x", 2000), local: true, want: "the limit is 2000"},
	} {
		err := git.Rules{AllowLocal: tc.local}.CheckURL(tc.url)
		if tc.want == "" {
			if err != nil {
				t.Errorf("CheckURL(%q, local %v) = %v, want nil", tc.url, tc.local, err)
			}
			continue
		}
		if !errors.Is(err, git.NotAllowed) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("CheckURL(%q, local %v) = %v, want %q", tc.url, tc.local, err, tc.want)
		}
	}
}

func TestCheckURLShowsNoPassword(t *testing.T) {
	t.Parallel()
	err := git.Rules{}.CheckURL("https://me:hunter2@github.com/opensafely/x")
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "me:********@github.com") {
		t.Errorf("CheckURL = %v, want a refusal without the password", err)
	}
}

func TestAllowedOrgs(t *testing.T) {
	t.Parallel()
	rules := git.Rules{AllowedOrgs: []string{"ours"}}
	if err := rules.CheckURL("https://github.com/ours/x"); err != nil {
		t.Errorf("CheckURL(ours) = %v, want nil", err)
	}
	if err := rules.CheckURL("https://github.com/opensafely/x"); !errors.Is(err, git.NotAllowed) {
		t.Errorf("CheckURL(opensafely) = %v, want a refusal", err)
	}
	if err := (git.Rules{AllowedOrgs: []string{}}).CheckURL("https://github.com/"); !errors.Is(err, git.NotAllowed) {
		t.Errorf("CheckURL with no organisation = %v, want a refusal", err)
	}
}

// TestAcceptedURLs: whatever the rules accept is a repository of an allowed
// organisation, and nothing that git or a server reads in another way.
func TestAcceptedURLs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		url := rapid.StringMatching(`(https|http|ext|ssh)(://|::)(github\.com|[a-z@.:]{0,12})/(opensafely|[a-z./]{0,8})/[ -~\n]{0,12}`).Draw(t, "url")
		if git.Rules.CheckURL(git.Rules{}, url) != nil {
			return
		}
		name := strings.TrimRight(strings.TrimPrefix(url, "https://github.com/opensafely/"), "/")
		if name == "" || name == "." || name == ".." || name[0] == '-' || strings.ContainsAny(name, "/?#%\\\n@:") || strings.Contains(name, "://") {
			t.Fatalf("CheckURL(%q) = nil", url)
		}
	})
}

// TestCheckURLAgrees: the verdicts and sentences of the reference.
func TestCheckURLAgrees(t *testing.T) {
	t.Parallel()
	count := 0
	for _, line := range needs.Cases[json.RawMessage](t, "requests.jsonl") {
		var c struct {
			ID, Endpoint, Error string
			URL                 string   `json:"repo_url"`
			Orgs                []string `json:"allowed_orgs"`
			Valid               bool
		}
		if err := json.Unmarshal(line, &c); err != nil || c.Endpoint != "repo_url" {
			continue // cases of other kinds have fields of other types
		}
		count++
		got := ""
		if err := (git.Rules{AllowedOrgs: c.Orgs}).CheckURL(c.URL); err != nil {
			got = err.Error()
		}
		if got != c.Error || c.Valid != (got == "") {
			t.Errorf("%s: CheckURL(%q) = %q, want %q", c.ID, c.URL, got, c.Error)
		}
	}
	if count == 0 {
		t.Error("no case is about a repository's URL")
	}
}
