package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sluice/internal/gateway"
	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
	"sluice/planner"
)

const commit = "07d5f283bb66f52a49933b016cf8dc144cfc7180"

// file is a source that has one project file.
type file string

func (file) CheckSource(messages.Source) error { return nil }

func (f file) Project(context.Context, messages.Source) ([]byte, error) { return []byte(f), nil }

// study is what requests ask for.
const study file = `
version: 5
actions:
  action1: {run: 'python:v2 x.py', outputs: {highly_sensitive: {d: d1.csv}}}
  action2: {run: 'python:v2 y.py', outputs: {highly_sensitive: {d: d2.csv}}}
`

// singly reads a stream one message at a time.
type singly struct {
	conn   *jetstream.Conn
	stream string
}

func (s singly) Next(ctx context.Context, subject string, from uint64) (gateway.Stored, error) {
	f, err := s.conn.Next(ctx, s.stream, subject, from)
	return gateway.Stored{Subject: f.Subject, Data: f.Data, Sequence: f.Sequence, At: f.At}, err
}

// A bench is a NATS server, and what runs over it.
type bench struct {
	t    *testing.T
	conn *jetstream.Conn
	url  string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{t: t, conn: jetstreamtest.Conn(t)}
}

// start runs something until the test ends, or stop is called.
func (b *bench) start(what string, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("%s: %v", what, err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// planner runs a planner.
func (b *bench) planner(src planner.Source) (stop func()) {
	b.t.Helper()
	c, cfg := b.conn, planner.DefaultConfig()
	cfg.Backends = []string{"test", "tpp", "other"}
	p, err := planner.New(cfg, planner.Ports{
		Requests: c.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner"), Events: c.Queue(jetstream.Events, jetstream.PlannerConsumer, "planner"),
		Outbox: c, Actions: c, Files: c, Dead: c, Room: c, Controls: c, Line: c, Source: src,
		Jobs: c.JobsRegister(), Latest: c.LatestRegister(), Plans: c.PlansRegister(), Commits: c.CommitsRegister(),
		Leases: c.LeasesRegister(), Leader: c.LeaderRegister(), Workers: c.PresenceRegister(), Settings: c.SettingsRegister(),
	}, zerolog.Nop())
	if err != nil {
		b.t.Fatal(err)
	}
	return b.start("planner", p.Run)
}

// make returns a gateway.
func (b *bench) make(answer time.Duration, tokens map[string]string) *gateway.Gateway {
	b.t.Helper()
	list, err := gateway.ParseTokens([]string{"test", "tpp", "other"}, func(name string) string { return tokens[name] }, "")
	if err != nil {
		b.t.Fatal(err)
	}
	c := b.conn
	return gateway.New(gateway.Config{Tokens: list, Answer: answer}, gateway.Ports{
		Outbox: c, Outcomes: singly{c, jetstream.Outcomes}, Requests: singly{c, jetstream.Requests},
		Presence: c, Settings: c.SettingsRegister(), Hints: c,
	}, zerolog.Nop())
}

// serve runs a gateway on a port of its own.
func (b *bench) serve(answer time.Duration, tokens map[string]string) (stop func()) {
	b.t.Helper()
	g := b.make(answer, tokens)
	listener, err := gateway.Listen{Address: "127.0.0.1:0"}.Open()
	if err != nil {
		b.t.Fatal(err)
	}
	b.url = "http://" + listener.Addr().(*net.TCPAddr).String() + "/controller/v1"
	return b.start("gateway", func(ctx context.Context) error { return g.Serve(ctx, listener, []string{"test", "tpp", "other"}) })
}

var testTokens = map[string]string{"TEST_CLIENT_TOKENS": "test_token"}

// ask sends a body to the API.
func (b *bench) ask(method, endpoint, token string, body []byte) (status int, answer []byte) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+endpoint, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	client := &http.Client{Timeout: 3 * time.Minute}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// post asks with the usual token and reads the answer.
func (b *bench) post(endpoint, body string) (status int, answer map[string]any) {
	b.t.Helper()
	status, data := b.ask(http.MethodPost, endpoint, "test_token", []byte(body))
	if err := json.Unmarshal(data, &answer); err != nil {
		return status, map[string]any{"text": string(data)}
	}
	return status, answer
}

// create is the body of a request for jobs.
func create(id, actions string) string {
	return fmt.Sprintf(`{"backend": "test", "rap_id": %q, "workspace": "ws", "repo_url": "https://github.com/opensafely/study", "branch": "main",
		"commit": %q, "database_name": "default", "requested_actions": [%s], "codelists_ok": true, "force_run_dependencies": false,
		"created_by": "u", "project": "p", "orgs": ["o"]}`, id, commit, actions)
}

// eventually waits for what others do.
func (b *bench) eventually(what string, done func() bool) {
	b.t.Helper()
	limit := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-limit:
			b.t.Fatalf("gave up waiting: %s", what)
		case <-tick.C:
		}
	}
}

// published returns what was published on a subject of a stream.
func (b *bench) published(stream, subject string) (list []string) {
	b.t.Helper()
	for from := uint64(0); ; {
		f, err := b.conn.Next(b.t.Context(), stream, subject, from)
		if err != nil {
			return list
		}
		list, from = append(list, string(f.Data)), f.Sequence+1
	}
}

// contains reports whether an answer has a text anywhere.
func contains(answer map[string]any, text string) bool {
	data, _ := json.Marshal(answer)
	return strings.Contains(string(data), text)
}
