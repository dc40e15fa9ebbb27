package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/internal/registry"
)

// TestDigest: with a token that anybody gets, remembered while the registry is
// down or shows its images to nobody, and never of what it says badly.
func TestDigest(t *testing.T) {
	t.Parallel()
	digest, down := "sha256:"+strings.Repeat("ab", 32), false
	refusal := 0 // what it answers instead of showing an image, if it does
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down:
			w.WriteHeader(http.StatusBadGateway)
		case refusal != 0 && r.URL.Path != "/token" && r.Header.Get("Authorization") == "Bearer anybody":
			w.WriteHeader(refusal)
		case r.URL.Path == "/token":
			if r.URL.Query().Get("service") != "reg" || r.URL.Query().Get("scope") != "repository:core/r:pull" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			fmt.Fprint(w, `{"token": "anybody"}`)
		case r.Header.Get("Authorization") != "Bearer anybody" && strings.Contains(r.URL.Path, "/core/r/"):
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+server.URL+`/token",service="reg",scope="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v2/core/r/manifests/v2" && r.Method == http.MethodHead && strings.Contains(r.Header.Get("Accept"), "image.index"):
			w.Header().Set("Docker-Content-Digest", digest)
		case r.URL.Path == "/v2/core/bad/manifests/v1":
			w.Header().Set("Docker-Content-Digest", "sha256:../../x")
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	r, err := registry.Parse(server.URL + "/core/")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Digest(t.Context(), "r:v2"); err != nil || got != digest {
		t.Errorf("Digest = %q, %v", got, err)
	}
	for _, none := range []string{"r:v9", "nosuch:v1", "r", "../x:v1", "r:v2/../..", "R:v1", ":v1"} {
		if _, err := r.Digest(t.Context(), none); !errors.Is(err, registry.ErrNone) {
			t.Errorf("Digest(%q): %v, want none", none, err)
		}
	}
	if got, err := r.Digest(t.Context(), "bad:v1"); err == nil {
		t.Errorf("a bad answer is taken for %q", got)
	}
	for _, refusal = range []int{http.StatusUnauthorized, http.StatusForbidden} {
		if got, err := r.Digest(t.Context(), "r:v2"); err != nil || got != digest {
			t.Errorf("after %d, of one that was seen: %q, %v", refusal, got, err)
		}
		if _, err := r.Digest(t.Context(), "r:v8"); !errors.Is(err, registry.ErrNone) {
			t.Errorf("after %d, of one that was never seen: %v, want none", refusal, err)
		}
	}
	refusal = http.StatusNotFound
	if got, err := r.Digest(t.Context(), "r:v2"); !errors.Is(err, registry.ErrNone) {
		t.Errorf("after 404, of one that was seen: %q, %v, want none", got, err)
	}
	refusal, down = 0, true
	if got, err := r.Digest(t.Context(), "r:v2"); err != nil || got != digest {
		t.Errorf("while it is down: %q, %v", got, err)
	}
	if _, err := r.Digest(t.Context(), "python:v2"); err == nil || errors.Is(err, registry.ErrNone) {
		t.Errorf("while it is down, of one that was never seen: %v", err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "/x", "http://ghcr.io/x", "user@host/x", "ghcr.io/a b"} {
		if _, err := registry.Parse(bad); err == nil {
			t.Errorf("Parse(%q) = nil, want an error", bad)
		}
	}
	for _, good := range []string{"ghcr.io/opensafely-core/", "https://ghcr.io", "http://127.0.0.1:5000/x"} {
		if _, err := registry.Parse(good); err != nil {
			t.Errorf("Parse(%q): %v", good, err)
		}
	}
}
