// Package registry asks an image registry which digest a name and version
// stand for now. It reads no image.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// ErrNone says that the registry has no such image, or shows it to nobody.
var ErrNone = errors.New("the registry has none of that name and version")

// errHidden is the latter, which for an image that was seen is no last word: a
// service that gives tokens out may be out of order.
var errHidden = fmt.Errorf("%w that anybody may see", ErrNone)

// A Registry is a registry's host and the folder of its images.
type Registry struct {
	host, folder string
	plain        bool // http, on this machine
	client       *http.Client

	mu   sync.Mutex
	seen map[string]string // the last digest of each image
	down error             // why the last question had no answer; nil if it had one
	rest time.Time         // until when, while it is down, nothing is asked
}

// Parse reads a registry as operators write it: "ghcr.io/opensafely-core/".
// One on this machine may be reached without TLS: "http://127.0.0.1:5000/x".
func Parse(s string) (*Registry, error) {
	rest, plain := strings.CutPrefix(s, "http://")
	if !plain {
		rest = strings.TrimPrefix(s, "https://")
	}
	host, folder, _ := strings.Cut(rest, "/")
	folder = strings.Trim(folder, "/")
	u, err := url.Parse("https://" + host)
	if err != nil || host == "" || u.Host != host || !word(folder, "abcdefghijklmnopqrstuvwxyz0123456789._-/") {
		return nil, fmt.Errorf("%q is not a registry; write it as ghcr.io/opensafely-core/", s)
	}
	if plain && u.Hostname() != "127.0.0.1" && u.Hostname() != "localhost" && u.Hostname() != "::1" {
		return nil, fmt.Errorf("%q: only a registry on this machine may be without TLS", s)
	}
	return &Registry{host: host, folder: folder, plain: plain, client: &http.Client{}, seen: map[string]string{}}, nil
}

// errSilent says that the registry gave no answer at all, not even a bad one:
// one that is bad may be of one image, which must not be the others' trouble.
var errSilent = errors.New("it does not answer")

// maxSeen bounds the digests that are remembered.
const maxSeen = 1000

// Bounds of a registry that does not answer. Nobody but the one who asks first
// after a pause waits for it.
const (
	patience = 10 * time.Second // with one question, the token's included
	pause    = 30 * time.Second // between two questions while it is down
)

// Digest returns what name:version stands for now. While the registry does not
// answer, or shows the image to nobody, that is what it stood for the last time;
// without one it is an error, which wraps ErrNone if there is no such image.
func (r *Registry) Digest(ctx context.Context, image string) (string, error) {
	name, version, ok := strings.Cut(image, ":")
	if !ok || name == "" || !word(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") || version == "" || !word(version, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") {
		return "", fmt.Errorf("image %q: %w", image, ErrNone)
	}
	if err := r.resting(); err != nil {
		return r.last(image, err)
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	digest, err := r.ask(asking, strings.Trim(r.folder+"/"+name, "/"), version)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !errors.Is(err, errSilent):
		r.down = nil
	case ctx.Err() == nil: // it was not whoever asks that gave up
		r.down, r.rest = err, time.Now().Add(pause)
	}
	switch {
	case err == nil:
		if len(r.seen) >= maxSeen {
			clear(r.seen)
		}
		r.seen[image] = digest
		return digest, nil
	case errors.Is(err, ErrNone) && !errors.Is(err, errHidden) || r.seen[image] == "":
		return "", err
	}
	return r.seen[image], nil
}

// resting returns why nothing is asked now, or nil: then the next one is the
// only one to ask for as long as a pause is.
func (r *Registry) resting() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil && time.Now().Before(r.rest) {
		return r.down
	}
	r.rest = time.Now().Add(pause)
	return nil
}

// last returns the last digest of an image, or the error if there is none.
func (r *Registry) last(image string, err error) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if digest := r.seen[image]; digest != "" {
		return digest, nil
	}
	return "", err
}

// accept is every kind of manifest: the digest is that of the one that is sent.
const accept = "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"

func (r *Registry) ask(ctx context.Context, repository, version string) (string, error) {
	scheme := "https://"
	if r.plain {
		scheme = "http://"
	}
	target := scheme + r.host + "/v2/" + repository + "/manifests/" + version
	answer, err := r.get(ctx, http.MethodHead, target, "")
	if err != nil {
		return "", err
	}
	if answer.StatusCode == http.StatusUnauthorized {
		token, err := r.token(ctx, answer.Header.Get("WWW-Authenticate"), repository)
		if err != nil {
			return "", err
		}
		if answer, err = r.get(ctx, http.MethodHead, target, token); err != nil {
			return "", err
		}
	}
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return "", fmt.Errorf("image %s:%s: %w", repository, version, ErrNone)
	case http.StatusUnauthorized, http.StatusForbidden:
		return "", fmt.Errorf("image %s:%s: %w", repository, version, errHidden)
	default:
		return "", fmt.Errorf("registry %s answers %s to the question for %s:%s", r.host, answer.Status, repository, version)
	}
	digest := answer.Header.Get("Docker-Content-Digest")
	if hex, ok := strings.CutPrefix(digest, "sha256:"); !ok || len(hex) != 64 || !word(hex, "0123456789abcdef") {
		return "", fmt.Errorf("registry %s does not say the digest of %s:%s", r.host, repository, version)
	}
	return digest, nil
}

// maxToken bounds the answer that has a token, in bytes.
const maxToken = 64 << 10

// token gets what anybody may have to read a repository.
func (r *Registry) token(ctx context.Context, challenge, repository string) (string, error) {
	fields := map[string]string{}
	rest, ok := strings.CutPrefix(challenge, "Bearer ")
	for part := range strings.SplitSeq(rest, ",") {
		if key, value, found := strings.Cut(part, "="); found {
			fields[strings.TrimSpace(key)] = strings.Trim(value, `"`)
		}
	}
	realm, err := url.Parse(fields["realm"])
	if !ok || err != nil || realm.Host == "" || realm.Scheme != "https" && !r.plain {
		return "", fmt.Errorf("registry %s does not say where to get a token", r.host)
	}
	q := realm.Query()
	q.Set("service", fields["service"])
	q.Set("scope", "repository:"+repository+":pull")
	realm.RawQuery = q.Encode()
	answer, err := r.get(ctx, http.MethodGet, realm.String(), "")
	if err != nil {
		return "", err
	}
	var body struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if answer.StatusCode != http.StatusOK || json.Unmarshal(answer.body, &body) != nil || body.Token+body.Access == "" {
		return "", fmt.Errorf("registry %s gives no token (%s)", r.host, answer.Status)
	}
	if body.Token == "" {
		return body.Access, nil
	}
	return body.Token, nil
}

type answer struct {
	*http.Response
	body []byte
}

func (r *Registry) get(ctx context.Context, method, target, token string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", accept)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("ask registry %s: %w: %w", r.host, errSilent, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxToken))
	if err != nil {
		return answer{}, fmt.Errorf("ask registry %s: %w: %w", r.host, errSilent, err)
	}
	return answer{res, body}, nil
}

// word reports whether all of a text is of these letters.
func word(s, letters string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return !strings.ContainsRune(letters, c) })
}
