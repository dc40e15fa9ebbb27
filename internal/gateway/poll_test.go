package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/gateway"
	"sluice/jetstream"
	"sluice/messages"
)

// A jobServer is one that runners poll.
type jobServer struct {
	mu       sync.Mutex
	requests []map[string]any
	jobs     map[string]map[string]any // the newest of each, by request and action
	flags    string
	calls    int
	broken   int // calls that fail before one works
	strange  []string
}

func (s *jobServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.calls <= s.broken {
		http.Error(w, "not now", http.StatusBadGateway)
		return
	}
	s.flags = r.Header.Get("Flags")
	switch {
	case r.Header.Get("Authorization") != "job-server-token":
		s.strange = append(s.strange, "token "+r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodGet && r.URL.Path == "/api/v2/job-requests/" && r.URL.RawQuery == "backend=test":
		_ = json.NewEncoder(w).Encode(map[string]any{"results": s.requests})
	case r.Method == http.MethodPost && r.URL.Path == "/api/v2/jobs/":
		var jobs []map[string]any
		data, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(data, &jobs); err != nil {
			s.strange = append(s.strange, err.Error())
		}
		for _, j := range jobs {
			s.jobs[fmt.Sprint(j["job_request_id"], " ", j["action"])] = j
		}
	default:
		s.strange = append(s.strange, r.Method+" "+r.URL.String())
		w.WriteHeader(http.StatusNotFound)
	}
}

// job returns what a job server was told of a job.
func (s *jobServer) job(name string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[name]
}

func (s *jobServer) add(id string, fields map[string]any) {
	r := map[string]any{
		"identifier": id, "sha": commit, "requested_actions": []string{"action1"}, "cancelled_actions": []string{}, "force_run_dependencies": false,
		"created_by": "u", "created_at": "2026-11-02T09:30:00Z", "backend": "test", "project": "p", "orgs": []string{"o"},
		"workspace": map[string]any{"name": "ws", "repo": "https://github.com/opensafely/study", "branch": "main", "db": "default"},
	}
	for key, value := range fields {
		r[key] = value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, old := range s.requests {
		if old["identifier"] == id {
			s.requests[i] = r
			return
		}
	}
	s.requests = append(s.requests, r)
}

func (b *bench) poll(url string) {
	b.t.Helper()
	g := b.make(time.Second, nil)
	poll := gateway.Poll{URL: url, Token: "job-server-token", Backend: "test", Every: 100 * time.Millisecond}
	b.start("poll", func(ctx context.Context) error { return g.Poll(ctx, poll) })
}

// TestPoll: what a job server has to be done is published once, though two
// gateways poll it; its jobs are told to it, and so is a request that has made
// none; what it wants cancelled is. A failing job server is asked again.
func TestPoll(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	remote := &jobServer{jobs: map[string]map[string]any{}, broken: 2}
	server := httptest.NewServer(remote)
	t.Cleanup(server.Close)
	b.planner(study)
	set := &messages.Setting{Paused: &messages.Switch{Since: madeAt}}
	if _, err := b.conn.SettingsRegister().Create(t.Context(), messages.SettingKey("test"), set); err != nil {
		t.Fatal(err)
	}
	remote.add("good", nil)
	remote.add("unknown", map[string]any{"requested_actions": []string{"nothere"}})
	remote.add("badspace", map[string]any{"workspace": map[string]any{"name": "a b", "repo": "https://github.com/opensafely/study", "branch": "main", "db": "default"}})
	remote.add("../..", nil) // cannot be the name of a request
	remote.add("twice", nil) // its action is under way already
	b.poll(server.URL + "/api/v2/")
	b.poll(server.URL + "/api/v2")
	for name, want := range map[string]string{
		"good action1":       "pending paused Backend is currently paused for maintenance, job will start once this is completed",
		"unknown __error__":  "failed job_error JobRequestError: Action 'nothere' not found in project.yaml",
		"badspace __error__": "failed job_error JobRequestError: Invalid workspace name (allowed are alphanumeric, dash and underscore)",
		"twice __error__":    "failed job_error JobRequestError: All requested actions were already scheduled to run",
	} {
		b.eventually(name, func() bool {
			j := remote.job(name)
			return fmt.Sprint(j["status"], " ", j["status_code"], " ", j["status_message"]) == want
		})
	}
	if j := remote.job("good action1"); j["identifier"] != string(messages.NewJobID("good", "action1")) || j["created_by"] != "u" || j["project"] != "p" || j["run_command"] != "python:v2 x.py" {
		t.Errorf("job = %v", j)
	}
	remote.add("good", map[string]any{"cancelled_actions": []string{"action1"}})
	b.eventually("the cancellation", func() bool { return remote.job("good action1")["status_code"] == "cancelled_by_user" })
	if list := b.published(jetstream.Requests, "sluice.request.>"); len(list) != 3 {
		t.Errorf("%d requests were published, want 3: %s", len(list), list)
	}
	remote.mu.Lock()
	defer remote.mu.Unlock()
	if len(remote.strange) > 0 || remote.flags != `{"paused":{"v":"true","ts":"2023-11-14T22:13:20Z"}}` {
		t.Errorf("the job server was asked %v, with flags %s", remote.strange, remote.flags)
	}
}

// TestPollRedirected: the token goes to the job server that was named, and to
// no other.
func TestPollRedirected(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other := make(chan string, 1)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { other <- r.Header.Get("Authorization") }))
	t.Cleanup(thief.Close)
	asked := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	b.poll(server.URL)
	for range 3 {
		<-asked
	}
	select {
	case token := <-other:
		t.Errorf("another server was asked, with %q", token)
	default:
	}
}

// TestPollCheck: a token never crosses a network in the clear.
func TestPollCheck(t *testing.T) {
	good := gateway.Poll{URL: "https://jobs.example.org/api/v2/", Token: "t", Backend: "test", Every: time.Second}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, bad := range []func(*gateway.Poll){
		func(p *gateway.Poll) { p.URL = "http://jobs.example.org/" },
		func(p *gateway.Poll) { p.URL = "https://user:secret@jobs.example.org/" },
		func(p *gateway.Poll) { p.URL = "jobs.example.org" },
		func(p *gateway.Poll) { p.Token = "" },
		func(p *gateway.Poll) { p.Backend = "T" },
		func(p *gateway.Poll) { p.Every = 0 },
	} {
		p := good
		bad(&p)
		if err := p.Check(); err == nil {
			t.Errorf("%+v was taken", p)
		} else if strings.Contains(err.Error(), "user:secret") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}
