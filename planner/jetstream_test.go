package planner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
	"sluice/planner"
)

// files is a source that has one project file.
type files string

func (files) CheckSource(messages.Source) error { return nil }

func (f files) Project(context.Context, messages.Source) ([]byte, error) { return []byte(f), nil }

// study is a project of one action and n others that need it.
func study(n int) files {
	var file strings.Builder
	file.WriteString("version: '5.0'\nactions:\n  gen: {run: 'ehrql:v1 generate-dataset d.py --output d.csv', outputs: {highly_sensitive: {d: d.csv}}}\n")
	for i := range n {
		fmt.Fprintf(&file, "  a%d: {run: 'python:v2 a.py %d', needs: [gen], outputs: {highly_sensitive: {d: 'o%d.csv'}}}\n", i, i, i)
	}
	return files(file.String())
}

// serverBench runs a planner and a worker over a real NATS server until the
// test ends.
func serverBench(t *testing.T, c *jetstream.Conn, src planner.Source) context.Context {
	t.Helper()
	ctx := serverPlanner(t, c, src, planner.DefaultConfig())
	serverWorker(ctx, t, c, "test")
	return ctx
}

// serverPlanner runs a planner over a real NATS server until the test ends.
func serverPlanner(t *testing.T, c *jetstream.Conn, src planner.Source, cfg planner.Config) context.Context {
	t.Helper()
	p, err := planner.New(cfg, planner.Ports{
		Requests: c.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner"), Events: c.Queue(jetstream.Events, jetstream.PlannerConsumer, "planner"),
		Outbox: c, Actions: c, Files: c, Dead: c, Room: c, Controls: c, Line: c, Source: src,
		Jobs: c.JobsRegister(), Latest: c.LatestRegister(), Plans: c.PlansRegister(), Commits: c.CommitsRegister(),
		Leases: c.LeasesRegister(), Leader: c.LeaderRegister(), Workers: c.PresenceRegister(), Settings: c.SettingsRegister(),
	}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return ctx
}

// serverWorker serves a backend's pools until ctx ends.
func serverWorker(ctx context.Context, t *testing.T, c *jetstream.Conn, backend string) {
	t.Helper()
	announce(ctx, t, c, backend)
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 2)
	for _, pool := range []string{"default", "db"} {
		go func() {
			ended <- serve(ctx, c, c.Queue(jetstream.Actions, jetstream.WorkerConsumer(backend, pool), "worker w1"))
		}()
	}
	t.Cleanup(func() {
		stop()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

// announce says that a backend has a worker.
func announce(ctx context.Context, t *testing.T, c *jetstream.Conn, backend string) {
	t.Helper()
	presence := &messages.Presence{Worker: "w1", Backend: backend, Pools: map[string]messages.Slots{"default": {Total: 8}, "db": {Total: 1}}}
	if err := c.Announce(ctx, presence, time.Hour); err != nil {
		t.Fatal(err)
	}
}

// request publishes a request for all of a study.
func request(ctx context.Context, t *testing.T, c *jetstream.Conn, backend string, id messages.RequestID) {
	t.Helper()
	r := &messages.Request{
		ID: id, Backend: backend, Workspace: "ws", Actions: []string{"run_all"}, ForceRunDependencies: true,
		Source: messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: commit},
	}
	if err := c.Publish(ctx, r.Subject(), r, string(id)); err != nil {
		t.Fatal(err)
	}
}

// finished waits until a request is finished.
func finished(ctx context.Context, t *testing.T, c *jetstream.Conn, backend string, id messages.RequestID) {
	t.Helper()
	watch, seen := context.WithCancel(ctx)
	defer seen()
	err := c.PlansRegister().Watch(watch, messages.PlanKey(backend, "ws", id), func(e messages.Entry[messages.Plan]) {
		if e.Value != nil && e.Value.Finished {
			seen()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("request %s was not finished in time", id)
	}
}

// finish publishes a request, waits until it is finished, and looks at its jobs.
func finish(ctx context.Context, t *testing.T, c *jetstream.Conn, jobs int) {
	t.Helper()
	began := time.Now()
	request(ctx, t, c, "test", "r1")
	finished(ctx, t, c, "test", "r1")
	t.Logf("%d jobs took %v", jobs, time.Since(began))
	n := 0
	err := c.JobsRegister().All(ctx, "test.ws.*", func(e messages.Entry[messages.Job]) {
		if n++; e.Value.Code != messages.Success || e.Value.Attempt != 1 {
			t.Errorf("%s: got %s (%s), attempt %d", e.Value.Action, e.Value.Code, e.Value.Message, e.Value.Attempt)
		}
	})
	if err != nil || n != jobs {
		t.Errorf("there are %d jobs (%v), want %d", n, err, jobs)
	}
}

// TestOnAServer runs jobs over a real NATS server: one that all others need,
// and they all at once.
func TestOnAServer(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	finish(serverBench(t, c, study(100)), t, c, 101)
}

// TestServerRestarts: the server goes away in the middle, and comes back.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := jetstreamtest.ServerAt(t, dir, "127.0.0.1:0")
	address := strings.TrimPrefix(first.URL(), "nats://")
	c := jetstreamtest.Connect(t, first)
	if err := c.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	second := make(chan *jetstream.Server, 1)
	t.Cleanup(func() { // after what uses it
		if s := <-second; s != nil {
			s.Stop()
		}
	})
	ctx := serverBench(t, c, study(60))
	go func() { // restarts once a few jobs have ended
		watch, enough := context.WithCancel(ctx)
		defer enough()
		ended := map[string]bool{}
		_ = c.JobsRegister().Watch(watch, "test.ws.*", func(e messages.Entry[messages.Job]) {
			if e.Value != nil && e.Value.State.Final() {
				ended[e.Key] = true
			}
			if len(ended) == 10 {
				enough()
			}
		})
		first.Stop()
		s, err := jetstream.Serve(jetstream.ServerOptions{Name: "test", StoreDir: dir, Listen: address, MaxStore: 1 << 30, NoSync: true, Log: zerolog.Nop()})
		if err != nil {
			t.Errorf("start the server again: %v", err)
		}
		second <- s
	}()
	finish(ctx, t, c, 61)
}

// serve is a worker and a persister whose actions take no time.
func serve(ctx context.Context, c *jetstream.Conn, inbox *jetstream.Queue) error {
	for {
		d, err := inbox.Next(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		var a messages.Action
		if err := messages.Decode(d.Data, &a); err != nil {
			return err
		}
		key := messages.LeaseKey(a.Backend, a.Job, a.Attempt)
		lease := &messages.Lease{State: messages.LeaseHeld, Owner: "w1", Nonce: "n", Weight: a.Weight, Pool: a.Pool}
		revision, err := c.LeasesRegister().Create(ctx, key, lease, time.Minute)
		switch {
		case errors.Is(err, messages.ErrConflict): // it came again, and is done
			_ = d.Settle(ctx, nil)
			continue
		case err != nil:
			return err
		}
		go func() { _ = d.Settle(ctx, nil) }() // if that is lost, it comes again
		for _, stage := range []messages.Stage{messages.StagePreparing, messages.StageExecuting, messages.StageFinalizing} {
			e := &messages.WorkerEvent{Job: a.Job, Attempt: a.Attempt, Backend: a.Backend, Workspace: a.Workspace, Worker: "w1", Stage: stage}
			if err := c.Publish(ctx, e.Subject(), e, ""); err != nil {
				return err
			}
		}
		lease.State = messages.LeaseReleased
		if _, err := c.LeasesRegister().Update(ctx, key, lease, revision, time.Hour); err != nil {
			return err
		}
		commit := &messages.Commit{Job: a.Job, Attempt: a.Attempt, Manifest: "sha256:" + strings.Repeat("0", 64), Result: &messages.Result{Files: 1}}
		if _, err := c.CommitsRegister().Create(ctx, messages.CommitKey(a.Backend, a.Job), commit); err != nil {
			return err
		}
		e := &messages.PersisterEvent{Job: a.Job, Attempt: a.Attempt, Winner: a.Attempt, Backend: a.Backend, Workspace: a.Workspace, Verdict: messages.Persisted}
		if err := c.Publish(ctx, e.Subject(), e, ""); err != nil {
			return err
		}
	}
}
