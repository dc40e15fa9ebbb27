package gateway_test

import (
	"errors"
	"time"

	"sluice/messages"
)

// The times of the reference's jobs.
var (
	madeAt    = time.Unix(1700000000, 0).UTC()
	startedAt = madeAt.Add(10 * time.Second)
	endedAt   = madeAt.Add(100 * time.Second)
)

// plant writes a job that there was before, with the plan of its request, as a
// planner would have.
func (b *bench) plant(e existing) {
	b.t.Helper()
	ctx, id := b.t.Context(), messages.RequestID(e.Rap)
	or := func(s *string, other string) {
		if *s == "" {
			*s = other
		}
	}
	or(&e.Backend, "test")
	or(&e.Workspace, "test-study")
	or(&e.State, "pending")
	or(&e.Commit, commit)
	j := &messages.Job{
		ID: messages.NewJobID(id, e.Action), Request: id, Backend: e.Backend, Workspace: e.Workspace, Action: e.Action,
		Source: messages.Source{Repo: "/repo", Branch: "main", Commit: e.Commit}, Pool: "default", Weight: 1, Run: "python:v2 x.py", Image: "python:v2",
		Rules:   []messages.Rule{{Tier: messages.HighlySensitive, Name: "d", Pattern: "d.csv"}},
		Created: madeAt, Updated: madeAt, Code: messages.Created, State: messages.Pending, Message: "secret-name.csv",
	}
	switch e.State {
	case "running":
		j.State, j.Code, j.Started, j.Attempt = messages.Running, messages.Executing, startedAt, 1
		lease := &messages.Lease{State: messages.LeaseHeld, Owner: "w1", Nonce: "n", Weight: 1, Pool: "default"}
		if _, err := b.conn.LeasesRegister().Create(ctx, messages.LeaseKey(e.Backend, j.ID, 1), lease, time.Hour); err != nil {
			b.t.Fatal(err)
		}
	case "succeeded":
		j.State, j.Code, j.Started, j.Completed, j.Attempt = messages.Succeeded, messages.Success, startedAt, endedAt, 1
	}
	if _, err := b.conn.JobsRegister().Create(ctx, messages.JobKey(e.Backend, e.Workspace, j.ID), j); err != nil {
		b.t.Fatal(err)
	}
	latest := &messages.Latest{Action: e.Action, Jobs: []messages.JobID{j.ID}}
	if _, err := b.conn.LatestRegister().Create(ctx, messages.LatestKey(e.Backend, e.Workspace, e.Action), latest); err != nil {
		b.t.Fatal(err)
	}
	key := messages.PlanKey(e.Backend, e.Workspace, id)
	planned := messages.Planned{Action: e.Action, Job: j.ID, Why: messages.WhyAsked}
	entry, err := b.conn.PlansRegister().Get(ctx, key)
	if errors.Is(err, messages.ErrNotFound) {
		plan := &messages.Plan{
			Request: messages.Request{ID: id, Backend: e.Backend, Workspace: e.Workspace, Source: j.Source, Actions: []string{e.Action}},
			Jobs:    []messages.Planned{planned}, Created: madeAt, Done: true,
		}
		_, err = b.conn.PlansRegister().Create(ctx, key, plan)
	} else if err == nil {
		entry.Value.Jobs = append(entry.Value.Jobs, planned)
		_, err = b.conn.PlansRegister().Update(ctx, key, entry.Value, entry.Revision)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// told waits until the planner has told of what was planted.
func (b *bench) told(list []existing) {
	b.t.Helper()
	for _, e := range list {
		backend := e.Backend
		if backend == "" {
			backend = "test"
		}
		subject := (&messages.Outcome{Backend: backend, Request: messages.RequestID(e.Rap)}).Subject()
		b.eventually("an outcome of "+e.Rap, func() bool { return len(b.published("SLUICE_OUTCOMES", subject)) > 0 })
	}
}
