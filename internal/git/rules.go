package git

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// DefaultOrgs are the organisations whose code runs where nothing else is set.
var DefaultOrgs = []string{"opensafely", "opensafely-actions"}

// Rules say which repositories may be read, and how they are reached.
type Rules struct {
	AllowedOrgs []string // of github.com; nil means DefaultOrgs
	AllowLocal  bool     // a URL that starts with "/" is a path on this machine, and no rule applies to it
	Proxy       string   // domain that stands in for github.com; empty means none
	Token       string   // for private repositories, sent to github.com or the proxy only
	TokenFile   string   // holds the token, where Token is empty; read at each use
	TokenUser   string   // tells the proxy's log who asks; empty means "sluice"

	loopback bool // tests: http://127.0.0.1 counts as github.com
}

const (
	maxURL   = 2000
	maxToken = 4096
)

// CheckURL reports why a repository may not be read, in the words of
// upstream's job runner. It looks at nothing but the words of the URL.
func (r Rules) CheckURL(url string) error {
	shown := show(url)
	if len(url) > maxURL {
		return errorf(NotAllowed, "Repository URL %s is %d bytes long; the limit is %d", shown, len(url), maxURL)
	}
	if r.local(url) {
		if !plain(url) {
			return errorf(NotAllowed, "Repository path %s has characters that are not allowed", shown)
		}
		return nil
	}
	if r.loopback && strings.HasPrefix(url, "http://127.0.0.1:") && plain(url) {
		return nil
	}
	scheme, rest, _ := strings.Cut(url, "://")
	host, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	if !strings.EqualFold(scheme, "https") || host != "github.com" {
		return errorf(NotAllowed, "Repository URL %s does not start with https://github.com", shown)
	}
	path, _, _ = strings.Cut(path, "?")
	path, _, _ = strings.Cut(path, "#")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	orgs := r.AllowedOrgs
	if orgs == nil {
		orgs = DefaultOrgs
	}
	if !slices.Contains(orgs, parts[0]) {
		return errorf(NotAllowed, "Repository %s does not belong to one of the following Github organisations: %s", shown, strings.Join(orgs, " "))
	}
	if len(parts) != 2 || trimURL(url) != "https://github.com/"+parts[0]+"/"+parts[1] || !plainName(parts[1]) {
		return errorf(NotAllowed, "Repository %s was not of the expected format: https://github.com/[organisation]/[project-name]", shown)
	}
	return nil
}

// local reports whether a URL is a path that the rules accept.
func (r Rules) local(url string) bool { return r.AllowLocal && strings.HasPrefix(url, "/") }

// plainName reports whether a repository's name is just that. It must not
// climb out of its organisation when a server or a client tidies the path.
func plainName(s string) bool {
	return plain(s) && s != "" && s != "." && s != ".." && s[0] != '-' && !strings.ContainsAny(s, `%\@:`)
}

func plain(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' }) &&
		!strings.Contains(s, "--upload-pack") && !strings.Contains(s, "--exec=")
}

// trimURL makes one of the ways to write a URL.
func trimURL(url string) string {
	if t := strings.TrimRight(url, "/"); t != "" {
		return t
	}
	return url
}

// remote returns what git is to be told, and which protocol that may use.
func (r Rules) remote(repo string) (url, protocol string) {
	url = trimURL(repo)
	switch {
	case r.local(repo):
		return url, "file"
	case strings.HasPrefix(url, "http://"): // loopback, or CheckURL had refused it
		return url, "http"
	case r.Proxy != "":
		return "https://" + r.Proxy + strings.TrimPrefix(url, "https://github.com"), "https"
	}
	return url, "https"
}

func (r Rules) hasToken() bool { return r.Token != "" || r.TokenFile != "" }

// header returns the key and value of the setting that carries the token, and
// the secrets that no error may show. They are empty where there is no token.
func (r Rules) header(url string) (key, value string, secrets []string, err error) {
	token := r.Token
	if token == "" && r.TokenFile != "" {
		if token, err = readToken(r.TokenFile); err != nil {
			return "", "", nil, err
		}
	}
	scheme, rest, found := strings.Cut(url, "://")
	if token == "" || !found {
		return "", "", nil, nil
	}
	if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", "", nil, errors.New("the repository access token has a space or a control character")
	}
	user := r.TokenUser
	if user == "" {
		user = "sluice"
	}
	host, _, _ := strings.Cut(rest, "/")
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + token))
	return "http." + scheme + "://" + host + "/.extraHeader", "Authorization: Basic " + basic, []string{token, basic}, nil
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the repository access token: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("read the repository access token: %w", err)
	}
	if len(data) > maxToken {
		return "", fmt.Errorf("read the repository access token: %s is longer than %d bytes", path, maxToken)
	}
	return strings.TrimSpace(string(data)), nil
}

const redacted = "********"

// show prints a URL for an error: bounded, on one line, without a password.
func show(url string) string {
	if len(url) > 200 {
		url = strings.ToValidUTF8(url[:200], "") + "…"
	}
	if scheme, rest, ok := strings.Cut(url, "://"); ok {
		host, path := rest, ""
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			host, path = rest[:i], rest[i:]
		}
		if at := strings.LastIndexByte(host, '@'); at >= 0 {
			user, _, secret := strings.Cut(host[:at], ":")
			if secret {
				url = scheme + "://" + user + ":" + redacted + host[at:] + path
			}
		}
	}
	return printable(url)
}

// printable returns a name for an error: on one line, and not too long.
func printable(s string) string {
	if len(s) > 250 {
		s = strings.ToValidUTF8(s[:250], "") + "…"
	}
	if quoted := strconv.QuoteToGraphic(s); quoted != `"`+s+`"` {
		return quoted
	}
	return s
}
