package docker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/messages"
	"sluice/worker"
	"sluice/worker/docker"
)

// A line is a socket before the engine that can be cut.
type line struct {
	listener net.Listener
	engine   string
	mu       sync.Mutex
	cut      bool
	open     map[net.Conn]bool
	all      sync.WaitGroup
	waits    chan struct{} // one for each wait that is asked for
}

// Write sees what is sent to the engine.
func (l *line) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("/wait?")) {
		l.waits <- struct{}{}
	}
	return len(b), nil
}

func openLine(t *testing.T, engine string) *line {
	t.Helper()
	l := &line{engine: engine, open: map[net.Conn]bool{}, waits: make(chan struct{}, 100)}
	var err error
	if l.listener, err = net.Listen("unix", filepath.Join(t.TempDir(), "engine.sock")); err != nil {
		t.Fatal(err)
	}
	l.all.Go(l.serve)
	t.Cleanup(func() {
		_ = l.listener.Close()
		l.set(true)
		l.all.Wait()
	})
	return l
}

func (l *line) host() string { return "unix://" + l.listener.Addr().String() }

func (l *line) serve() {
	for {
		in, err := l.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("unix", l.engine)
		l.mu.Lock()
		if err != nil || l.cut {
			_ = in.Close()
			if out != nil {
				_ = out.Close()
			}
			l.mu.Unlock()
			continue
		}
		l.open[in], l.open[out] = true, true
		l.mu.Unlock()
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			l.all.Go(func() {
				var from io.Reader = way[1]
				if from == in {
					from = io.TeeReader(in, l)
				}
				_, _ = io.Copy(way[0], from)
				_ = way[0].Close()
			})
		}
	}
}

// set cuts the line, or mends it.
func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for c := range l.open {
			_ = c.Close()
		}
		clear(l.open)
	}
}

func start(t *testing.T, r *docker.Runtime, job messages.JobID, dir string, script string) worker.Container {
	t.Helper()
	box, err := r.Start(t.Context(), worker.Spec{
		Attempt: worker.Attempt{Job: job, Number: 1, Backend: "test"}, Image: "sh:v1", Args: []string{"sh", "-c", script}, Dir: dir, UID: 10000, GID: 10000,
		Limits: messages.Limits{CPUs: 99, Memory: 64 << 20, Processes: 64, Time: time.Minute},
	})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return box
}

// TestLostEngine: a container's end is not lost with the connection, and an end
// that the engine may have brought about is not believed.
func TestLostEngine(t *testing.T) {
	t.Parallel()
	direct := open(t, nil)
	l := openLine(t, "/var/run/docker.sock")
	r := open(t, func(c *docker.Config) { c.Host = l.host() })
	for _, tc := range []struct {
		name    string
		ends    bool // while the line is cut
		wantErr string
	}{
		{name: "the container goes on"},
		{name: "the container ends meanwhile", ends: true, wantErr: "while the engine could not be reached"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			job := messages.NewJobID("lost", tc.name+prefix)
			box := start(t, r, job, t.TempDir(), "sleep 1000")
			seen := sees(t, direct, job)
			t.Cleanup(func() {
				if err := seen.Remove(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
			ended := make(chan error, 1)
			var exit worker.Exit
			go func() {
				var err error
				exit, err = box.Wait(t.Context())
				ended <- err
			}()
			<-l.waits // before the start
			l.set(true)
			if tc.ends {
				if err := seen.Stop(t.Context(), time.Second); err != nil {
					t.Fatal(err)
				}
			}
			l.set(false)
			if !tc.ends {
				<-l.waits // again
				if err := box.Stop(t.Context(), time.Second); err != nil {
					t.Fatalf("Stop through the mended line: %v", err)
				}
			}
			err := <-ended
			switch {
			case tc.wantErr == "" && err == nil && exit.Code == 143:
			case tc.wantErr != "" && err != nil && strings.Contains(err.Error(), tc.wantErr):
			default:
				t.Errorf("Wait = %+v, %v, want error %q", exit, err, tc.wantErr)
			}
		})
	}
}

func sees(t *testing.T, r *docker.Runtime, job messages.JobID) worker.Container {
	t.Helper()
	found, err := r.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range found {
		if c.Attempt().Job == job {
			return c
		}
	}
	t.Fatalf("container of %s is not found", job)
	return nil
}

func TestNoEngine(t *testing.T) {
	t.Parallel()
	r := open(t, func(c *docker.Config) { c.Host = "unix://" + filepath.Join(t.TempDir(), "none.sock") })
	err := r.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no Docker Engine answers") || !strings.Contains(err.Error(), "install") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Check = %v, want one sentence that offers the way on", err)
	}
	var failure *messages.Failure
	if _, err := r.Image(t.Context(), "sh:v1"); err == nil || errors.As(err, &failure) {
		t.Errorf("Image = %v, want an error that is ours", err)
	}
	if _, err := r.Find(t.Context()); err == nil {
		t.Error("Find succeeded without an engine")
	}
}

// TestPull: what registries say, as engines pass it on.
func TestPull(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		status  int
		body    string
		failure bool
	}{
		{"unknown version", 404, `{"message":"manifest for ghcr.io/x/awk:v9 not found: manifest unknown: manifest unknown"}`, true},
		{"unknown repository", 404, `{"message":"pull access denied for awk, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"}`, true},
		{"private", 500, `{"message":"Head \"https://ghcr.io/v2/x/manifests/v1\": denied"}`, true},
		{"in the stream", 200, `{"status":"Pulling from x"}` + "\n" + `{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}`, true},
		{"no network", 500, `{"message":"Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io: no such host"}`, false},
		{"broken off", 200, `{"status":"Pulling from x"}` + "\n" + `{"error":"unexpected EOF"}`, false},
		{"not what an engine says", 200, `<html>`, false},
		{"pulled, and not there", 200, `{"status":"Done"}`, false},
		{"too many requests", 429, `{"message":"toomanyrequests: You have reached your pull rate limit"}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Api-Version", "1.41")
				switch {
				case strings.HasSuffix(q.URL.Path, "/_ping"):
				case strings.Contains(q.URL.Path, "/images/create"):
					w.WriteHeader(tc.status)
					fmt.Fprintln(w, tc.body)
				default:
					w.WriteHeader(http.StatusNotFound)
					fmt.Fprintln(w, `{"message":"No such image"}`)
				}
			}))
			t.Cleanup(server.Close)
			r := open(t, func(c *docker.Config) {
				c.Host, c.Pull, c.ImagePrefix = "tcp://"+server.Listener.Addr().String(), true, "ghcr.io/x/"
			})
			_, err := r.Image(t.Context(), "awk:v9")
			var failure *messages.Failure
			if err == nil || errors.As(err, &failure) != tc.failure {
				t.Fatalf("Image error = %v, want a Failure: %t", err, tc.failure)
			}
			if tc.failure && (!strings.Contains(failure.Detail, `"awk:v9" (ghcr.io/x/awk:v9) is not available`) || failure.Code != messages.JobError) {
				t.Errorf("Failure = %v, want both names of the image", failure)
			}
		})
	}
}
