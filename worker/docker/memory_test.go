package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/messages"
	"sluice/worker"
	"sluice/worker/docker"
)

// A late engine is that of this machine, but that its record of a container
// never says that memory was wanting: as Docker 20.10's, when it is told too
// late.
type lateEngine struct {
	*docker.Runtime
	asked atomic.Int32 // for events
	saw   atomic.Int64 // when the last record was given, in ns
}

// openLate puts answer before the engine where events are asked for, if it is
// not nil.
func openLate(t *testing.T, answer func(*lateEngine, http.ResponseWriter, *http.Request)) *lateEngine {
	t.Helper()
	e := &lateEngine{}
	dial := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", "/var/run/docker.sock")
	}}
	through := &httputil.ReverseProxy{
		Transport: dial, FlushInterval: -1,
		Rewrite: func(q *httputil.ProxyRequest) { q.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		ModifyResponse: func(a *http.Response) error {
			if !strings.HasSuffix(a.Request.URL.Path, "/json") || a.StatusCode != http.StatusOK {
				return nil
			}
			e.saw.Store(time.Now().UnixNano())
			body, err := io.ReadAll(a.Body)
			if err != nil {
				return err
			}
			body = bytes.ReplaceAll(body, []byte(`"OOMKilled":true`), []byte(`"OOMKilled":false`))
			a.Body, a.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			a.Header.Del("Content-Length")
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasSuffix(q.URL.Path, "/events") {
			e.asked.Add(1)
			if answer != nil {
				answer(e, w, q)
				return
			}
		}
		through.ServeHTTP(w, q)
	}))
	t.Cleanup(func() {
		server.Close()
		dial.CloseIdleConnections()
	})
	e.Runtime = open(t, func(c *docker.Config) { c.Host = "tcp://" + server.Listener.Addr().String() })
	return e
}

// TestOutOfMemoryLate: what the engine's record does not say is asked of its
// events, whatever the exit code; an action that succeeds costs no question.
// (What is known of a container that waited: TestToll.)
func TestOutOfMemoryLate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, script string
		code         int
		want         bool
		asked        int32
	}{
		{"killed", "tail /dev/zero", 137, true, 1},
		{"a child was", "tail /dev/zero; exit 3", 3, true, 1},
		{"killed by itself", "kill -9 $$", 137, false, 1},
		{"failed", "exit 3", 3, false, 1},
		{"succeeded", "exit 0", 0, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := openLate(t, nil)
			y := yard{Runtime: e.Runtime}
			exit, _, box := y.run(t, y.Start, y.spec(t, "", "sh", "-c", tc.script))
			if exit.Code != tc.code || exit.OOMKilled != tc.want || e.asked.Load() != tc.asked {
				t.Errorf("exit = %+v after %d questions, want code %d, out of memory %t, %d questions", exit, e.asked.Load(), tc.code, tc.want, tc.asked)
			}
			if again, err := box.Wait(t.Context()); err != nil || again != exit || e.asked.Load() != tc.asked {
				t.Errorf("Wait again = %+v, %v, after %d questions, want the same and none", again, err, e.asked.Load())
			}
			var record container.InspectResponse
			data, err := box.Inspect(t.Context())
			if err = errors.Join(err, json.Unmarshal(data, &record)); err != nil || record.State.OOMKilled != tc.want {
				t.Errorf("record = %s, %v, want one that says the same", data, err)
			}
		})
	}
}

// TestOutOfMemoryUnknown: an event that comes while it is waited for is heeded;
// an engine that does not say costs the answer, not the exit; a wait can be
// broken off.
func TestOutOfMemoryUnknown(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	for _, tc := range []struct {
		name    string
		answer  func(w http.ResponseWriter, q *http.Request, late time.Duration, cancel context.CancelCauseFunc)
		want    bool
		wantErr error
	}{
		{name: "told late", want: true, answer: func(w http.ResponseWriter, _ *http.Request, late time.Duration, _ context.CancelCauseFunc) {
			_, _ = io.WriteString(w, `{"Type":"container","Action":"die"}`+"\n")
			_ = http.NewResponseController(w).Flush()
			if late >= time.Second {
				_, _ = io.WriteString(w, `{"Type":"container","Action":"oom"}`+"\n")
			}
		}},
		{name: "refused", answer: func(w http.ResponseWriter, _ *http.Request, _ time.Duration, _ context.CancelCauseFunc) {
			http.Error(w, `{"message":"no events here"}`, http.StatusInternalServerError)
		}},
		{name: "told of something else", answer: func(w http.ResponseWriter, _ *http.Request, _ time.Duration, _ context.CancelCauseFunc) {
			_, _ = io.WriteString(w, `{"Type":"container","Action":"die"}`+"\n")
		}},
		{name: "broken off by the engine", answer: func(w http.ResponseWriter, _ *http.Request, _ time.Duration, _ context.CancelCauseFunc) {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "broken off by us", wantErr: enough, answer: func(_ http.ResponseWriter, q *http.Request, _ time.Duration, cancel context.CancelCauseFunc) {
			cancel(enough)
			<-q.Context().Done()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			e := openLate(t, func(e *lateEngine, w http.ResponseWriter, q *http.Request) {
				until, err := strconv.ParseFloat(q.FormValue("until"), 64)
				if err != nil {
					t.Errorf("until = %q, want seconds", q.FormValue("until"))
				}
				late := time.Duration(until*1e9) - time.Duration(e.saw.Load())
				tc.answer(w, q, late.Round(time.Millisecond), cancel)
			})
			box := start(t, e.Runtime, messages.NewJobID("late", t.Name()+prefix), t.TempDir(), "exit 137")
			t.Cleanup(func() {
				if err := box.Remove(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
			exit, err := box.Wait(ctx)
			if !errors.Is(err, tc.wantErr) || exit.OOMKilled != tc.want {
				t.Errorf("Wait = %+v, %v, want out of memory %t, %v", exit, err, tc.want, tc.wantErr)
			}
			if err == nil && exit.Code != 137 || err != nil && exit != (worker.Exit{}) {
				t.Errorf("Wait = %+v, %v, want code 137 or an error", exit, err)
			}
		})
	}
}

// TestOutOfMemoryBound: an engine that neither answers nor hangs up is not
// waited for.
func TestOutOfMemoryBound(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() }))
	t.Cleanup(server.Close)
	r := open(t, func(c *docker.Config) {
		c.Host, c.Timeout = "tcp://"+server.Listener.Addr().String(), time.Millisecond
	})
	if killed, err := r.OOMEvent(t.Context(), "some", "2026-01-01T00:00:00Z", time.Millisecond); killed || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("OOMEvent = %t, %v, want no more than that time is up", killed, err)
	}
}
