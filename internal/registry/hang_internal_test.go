package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A line is the way to a registry, which may go dead.
type line struct {
	dead  atomic.Bool
	asked atomic.Int64
}

func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	l.asked.Add(1)
	if l.dead.Load() {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	h := http.Header{"Docker-Content-Digest": {"sha256:" + strings.Repeat("ab", 32)}}
	status := http.StatusOK
	if strings.Contains(r.URL.Path, "/broken/") {
		status = http.StatusInternalServerError
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: h, Body: http.NoBody}, nil
}

// TestHanging: a registry that hangs is waited for once in a while, by one at a
// time; all others get the last digest, or are told, at once.
func TestHanging(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, err := Parse("ghcr.io/core")
		if err != nil {
			t.Fatal(err)
		}
		l := &line{}
		r.client.Transport = l
		took := func(image string, known bool, want time.Duration) {
			t.Helper()
			began := time.Now()
			digest, err := r.Digest(t.Context(), image)
			if (err == nil) != known || known != (digest != "") || errors.Is(err, ErrNone) {
				t.Errorf("%s: got %q, %v, want known: %t", image, digest, err, known)
			}
			if got := time.Since(began); got != want {
				t.Errorf("%s took %s, want %s", image, got, want)
			}
		}
		took("r:v2", true, 0)
		took("broken:v1", false, 0) // an answer, if a bad one: nothing for others to fear
		took("python:v2", true, 0)

		l.dead.Store(true)
		took("new:v1", false, patience)
		asked := l.asked.Load()
		for range 100 {
			took("r:v2", true, 0)
			took("new:v1", false, 0)
		}
		if got := l.asked.Load(); got != asked {
			t.Errorf("it was asked %d times while it was down", got-asked)
		}

		// After the pause one asks, and nobody waits with it.
		<-time.After(pause)
		first := make(chan struct{})
		go func() { took("r:v2", true, patience); close(first) }()
		synctest.Wait()
		took("new:v1", false, 0)
		<-first

		// Whoever gives up by itself says nothing of the registry.
		<-time.After(pause)
		l.dead.Store(false)
		took("new:v1", true, 0)
		l.dead.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Digest(ctx, "other:v1"); err == nil {
			t.Error("a question that was broken off has an answer")
		}
		l.dead.Store(false)
		took("other:v1", true, 0)
	})
}
