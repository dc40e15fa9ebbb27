package docker_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/worker"
	"sluice/worker/docker"
)

// A guard is a way to the engine on which containers can be kept from being
// removed.
type guard struct {
	url   string
	keeps atomic.Bool
	made  atomic.Int32 // containers that were asked for, but for those to wait
}

func openGuard(t *testing.T) *guard {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", "/var/run/docker.sock")
	}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	proxy.Transport, proxy.FlushInterval = transport, -1
	g := &guard{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasSuffix(q.URL.Path, "/containers/create") && !strings.HasPrefix(q.URL.Query().Get("name"), "sluice-parked-") {
			g.made.Add(1)
		}
		if q.Method == http.MethodDelete && g.keeps.Load() {
			http.Error(w, `{"message":"not now"}`, http.StatusInternalServerError)
			return
		}
		proxy.ServeHTTP(w, q)
	}))
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	g.url = "tcp://" + server.Listener.Addr().String()
	return g
}

// TestParkedOnce: an attempt never has two containers, though the first has no
// name by which the engine would refuse a second.
func TestParkedOnce(t *testing.T) {
	t.Parallel()
	g := openGuard(t)
	y := openYard(t)
	y.Runtime = open(t, func(c *docker.Config) { c.Parked, c.Dir, c.Host = 1, y.dir, g.url })
	park := func(spec worker.Spec) worker.Spec {
		t.Helper()
		if err := y.Park(spec); err != nil {
			t.Fatal(err)
		}
		return spec
	}
	wantRefused := func(spec worker.Spec, made int32, text string) {
		t.Helper()
		c, err := y.Start(t.Context(), spec)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("Start = %v, %v, want an error with %q", c, err, text)
		}
		if got := g.made.Load(); got != made {
			t.Errorf("%d containers were asked for, want %d", got, made)
		}
	}

	removed := park(y.spec(t, "removed", "true"))
	if err := y.Clog(); err != nil {
		t.Fatal(err)
	}
	exit, _, fresh := y.run(t, y.Start, removed)
	if docker.Parked(fresh) || exit.Code != 0 {
		t.Errorf("exit %+v, in advance: %t, want a fresh container instead of one that was removed", exit, docker.Parked(fresh))
	}

	kept := park(y.spec(t, "kept", "true"))
	if err := y.Clog(); err != nil {
		t.Fatal(err)
	}
	g.keeps.Store(true)
	keptFresh, err := y.Start(t.Context(), kept)
	if err != nil || docker.Parked(keptFresh) || g.made.Load() != 2 {
		t.Fatalf("Start = %v, in advance: %t, %d made; want a fresh container, as half a command is none", err, docker.Parked(keptFresh), g.made.Load())
	}
	if exit, err := keptFresh.Wait(t.Context()); err != nil || exit.Code != 0 {
		t.Errorf("Wait = %+v, %v", exit, err)
	}
	g.keeps.Store(false)
	if err := keptFresh.Remove(t.Context()); err != nil {
		t.Error(err)
	}

	again := park(y.spec(t, "again", "sh", "-c", untilGo))
	box, err := y.Start(t.Context(), again)
	if err != nil || !docker.Parked(box) {
		t.Fatalf("Start = %v, in advance: %t", err, docker.Parked(box))
	}
	wantRefused(again, 2, "may still run")
	if err := box.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	letGo(t, again)
	exit, _, third := y.run(t, y.Start, again)
	if exit.Code != 0 {
		t.Errorf("exit %+v of one that was started again after it was removed", exit)
	}

	// Of a class of its own, of which none waits at first.
	other := y.spec(t, "other", "sh", "-c", untilGo)
	other.Limits.Processes++
	made := g.made.Load()
	if box, err = y.Start(t.Context(), other); err != nil || docker.Parked(box) {
		t.Fatalf("Start = %v, in advance: %t", err, docker.Parked(box))
	}
	park(other)
	wantRefused(other, made+2, "exists and runs") // the engine refused the second, by its name
	if err := box.Remove(t.Context()); err != nil {
		t.Error(err)
	}

	y.Drain()
	if _, err := y.Find(t.Context()); err != nil {
		t.Error(err)
	}
	if left := y.left(t); len(left) != 2 || !slices.Contains(left, docker.ID(fresh)) || !slices.Contains(left, docker.ID(third)) {
		t.Errorf("left = %v, want the two attempts' that ended, and not the one that was kept", left)
	}
}
