package cli

import (
	"archive/zip"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/jetstream"
	"sluice/messages"
)

// plantJobs writes a request with a job that failed, one that was cancelled,
// one that needs the failed one, and one that waits for a worker.
func plantJobs(t *testing.T, c *jetstream.Conn) *messages.Request {
	t.Helper()
	r := aRequest("first")
	r.Actions, r.CreatedBy = []string{"bad", "stopped", "after", "waits"}, "ada"
	plan := &messages.Plan{Request: *r, Done: true, Created: time.Now()}
	for _, p := range []struct {
		action string
		state  messages.State
		code   messages.Code
	}{
		{"bad", messages.Failed, messages.NonzeroExit}, {"stopped", messages.Failed, messages.CancelledByUser},
		{"after", messages.Failed, messages.DependencyFailed}, {"waits", messages.Pending, messages.WaitingOnWorkers},
	} {
		j := &messages.Job{
			ID: messages.NewJobID(r.ID, p.action), Request: r.ID, Backend: r.Backend, Workspace: r.Workspace, Action: p.action, Source: r.Source,
			Pool: "default", Weight: 1, Image: "r:v1", Run: "r:v1 " + p.action, By: "ada", Created: time.Now(), Updated: time.Now(), State: p.state, Code: p.code, Message: p.code.Message(),
		}
		if p.action == "bad" {
			j.Attempt, j.Result = 1, &messages.Result{ExitCode: 3, Files: 1}
			j.Lost = []messages.Loss{{Attempt: 1, Worker: "w1", Reason: "the engine did not answer", At: time.Now()}}
		}
		if _, err := c.JobsRegister().Create(t.Context(), messages.JobKey(j.Backend, j.Workspace, j.ID), j); err != nil {
			t.Fatal(err)
		}
		plan.Jobs = append(plan.Jobs, messages.Planned{Action: p.action, Job: j.ID, Why: messages.WhyAsked})
	}
	if _, err := c.PlansRegister().Create(t.Context(), messages.PlanKey(r.Backend, r.Workspace, r.ID), plan); err != nil {
		t.Fatal(err)
	}
	return r
}

// newest returns the newest message that was published on a subject.
func newest[T any, P interface {
	*T
	messages.Message
}](t *testing.T, c *jetstream.Conn, subject string) (v T) {
	t.Helper()
	err := c.Follow(t.Context(), jetstream.Requests, subject, jetstream.Start{}, func(f jetstream.Followed) bool {
		v = *new(T)
		if err := messages.Decode(f.Data, P(&v)); err != nil {
			t.Error(err)
		}
		return f.Pending > 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRetry(t *testing.T) {
	c := fleetFor(t)
	first := plantJobs(t, c)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"first"}, "bad after"},
		{[]string{"first", "--cancelled"}, "bad stopped after"},
		{[]string{"first", "stopped"}, "stopped"},
		{[]string{"after"}, "after"},
		{[]string{string(messages.NewJobID("first", "bad"))[:6]}, "bad"},
	} {
		does(t, ExitOK, `"retries":"first"`, append([]string{"retry", "--json"}, tc.args...)...)
		r := newest[messages.Request](t, c, first.Subject())
		if got := strings.Join(r.Actions, " "); got != tc.want || r.ID == "first" || r.Commit != first.Commit || r.CreatedBy != "ada" {
			t.Errorf("retry %v asks for %s as %s", tc.args, got, r.ID)
		}
	}
	does(t, ExitUsage, "has not failed: its code is waiting_on_workers", "retry", "waits")
	does(t, ExitUsage, "has no failed job of action", "retry", "first", "waits")
	does(t, ExitUsage, "another id", "retry", "first", "--id", "first")
	does(t, ExitUsage, "no job or action", "retry", "nosuch")
}

func TestKill(t *testing.T) {
	c := fleetFor(t)
	t.Setenv("SUDO_USER", "eve")
	plantJobs(t, c)
	does(t, ExitUsage, "already finished: nonzero_exit", "kill", "waits", "bad")
	if n, err := c.Count(t.Context(), jetstream.Requests, "sluice.cancel.>"); err != nil || n != 0 {
		t.Errorf("%d were killed though one was refused, %v", n, err)
	}
	does(t, ExitOK, "killing", "kill", "waits")
	m := newest[messages.Cancel](t, c, "sluice.cancel.test.ws")
	if !m.Kill || m.By != "eve" || m.Request != "first" || strings.Join(m.Actions, " ") != "waits" {
		t.Errorf("cancellation: %+v", m)
	}
	does(t, ExitOK, "cancelling", "cancel", "first", "waits")
	if m := newest[messages.Cancel](t, c, "sluice.cancel.test.ws"); m.Kill || m.By != "eve" {
		t.Errorf("cancellation: %+v", m)
	}
}

// TestSubmitNames: whoever types is who asked, behind sudo, too.
func TestSubmitNames(t *testing.T) {
	t.Setenv("SUDO_USER", "eve")
	does(t, ExitOK, `"created_by":"eve"`, "submit", "--print", "--backend", "test", "--workspace", "ws", "--repo", "/study", "--commit", strings.Repeat("a", 40))
}

func TestListAndPs(t *testing.T) {
	c := fleetFor(t)
	plantJobs(t, c)
	count := func(want int, args ...string) {
		t.Helper()
		if got := strings.Count(does(t, ExitOK, "", append(args, "--json")...), `"request":"first"`); got != want {
			t.Errorf("sluice %s: %d jobs, want %d", strings.Join(args, " "), got, want)
		}
	}
	count(4, "list")
	count(3, "list", "--state", "failed")
	count(2, "list", "--code", "dependency_failed,nonzero_exit")
	count(1, "list", "--action", "waits", "--since", "1h")
	count(0, "list", "--worker", "w9")
	count(2, "list", "--limit", "2")
	count(1, "ps")
	count(0, "ps", "--state", "running")
	does(t, ExitUsage, "is not a state", "list", "--state", "done")
	does(t, ExitUsage, "is not the code of a job", "ps", "--code", "nosuch")
	does(t, ExitOK, "no job is like that", "list", "-w", "other")
}

func TestExplain(t *testing.T) {
	c := fleetFor(t)
	plantJobs(t, c)
	does(t, ExitOK, "no live worker has pool default", "explain", "waits")
	p := &messages.Presence{Worker: "w7", Backend: "test", Pools: map[string]messages.Slots{"default": {Total: 2, Used: 2}}, At: time.Now()}
	if err := c.Announce(t.Context(), p, time.Minute); err != nil {
		t.Fatal(err)
	}
	does(t, ExitOK, "paused", "pause", "--backend", "test", "--reason", "disks")
	text := does(t, ExitOK, "waiting_on_workers (pending)", "explain", "waits")
	for _, want := range []string{"worker w7: 2 of 2 slots in pool default used", "test: paused since", "asked for by request first of ada", ": asked for"} {
		if !strings.Contains(text, want) {
			t.Errorf("explain has no %q:\n%s", want, text)
		}
	}
	text = does(t, ExitOK, "nonzero_exit (failed)", "explain", "bad")
	for _, want := range []string{"exit code 3", "attempt 1 was lost"} {
		if !strings.Contains(text, want) {
			t.Errorf("explain has no %q:\n%s", want, text)
		}
	}
	var d dossier
	if err := json.Unmarshal([]byte(does(t, ExitOK, "", "explain", "--json", "waits")), &d); err != nil || d.Job.Action != "waits" || len(d.Workers) != 1 || d.Plan == nil {
		t.Errorf("as JSON: %+v, %v", d, err)
	}
}

func TestBundle(t *testing.T) {
	c := fleetFor(t)
	plantJobs(t, c)
	id := messages.NewJobID("first", "bad")
	say := func(m messages.Message, subject string) {
		t.Helper()
		if err := c.Publish(t.Context(), subject, m, ""); err != nil {
			t.Fatal(err)
		}
	}
	e := &messages.WorkerEvent{Job: id, Attempt: 1, Backend: "test", Workspace: "ws", Worker: "w1", Stage: messages.StageExecuting}
	say(e, e.Subject())
	say(&messages.LogChunk{Job: id, Attempt: 1, Text: "hello\n"}, messages.LogSubject("test", id, 1))
	t.Setenv("FULL_DATABASE_URL", "postgres://user:SECRET@db")
	t.Setenv("SLUICE_NATS_PASSWORD", "SECRET")
	t.Setenv("SLUICE_NATS_USER", "")
	file := filepath.Join(t.TempDir(), "b.zip")
	does(t, ExitOK, "keep it inside", "bundle", "bad", "-o", file)
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	parts := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		parts[f.Name] = string(data)
		if strings.Contains(string(data), "SECRET") {
			t.Errorf("%s has a secret", f.Name)
		}
	}
	for name, want := range map[string]string{
		"dossier.json": `"exit_code": 3`, "explain.txt": "nonzero_exit", "history.jsonl": `"action":"bad"`, "events.jsonl": `"stage":"executing"`, "log-1.txt": "hello", "versions.json": "sluice",
	} {
		if !strings.Contains(parts[name], want) {
			t.Errorf("%s: no %q in %q", name, want, parts[name])
		}
	}
	does(t, ExitUsage, "is there already", "bundle", "bad", "-o", file)
	does(t, ExitOK, `"dossier.json"`, "bundle", "bad", "--no-log", "--json", "-o", file+"2")
}
