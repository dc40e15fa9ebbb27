package cli

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// fleetFor provisions a server and has the commands of a test find it.
func fleetFor(t *testing.T) *jetstream.Conn {
	t.Helper()
	s := jetstreamtest.Server(t)
	c := jetstreamtest.Connect(t, s)
	if err := c.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUICE_NATS_URL", s.URL())
	t.Setenv("BACKEND", "")
	return c
}

func aRequest(id messages.RequestID) *messages.Request {
	return &messages.Request{ID: id, Backend: "test", Workspace: "ws", Source: messages.Source{Repo: "https://github.com/opensafely/x", Branch: "main", Commit: "07d5f283bb66f52a49933b016cf8dc144cfc7180"}, Actions: []string{"a"}}
}

// TestStatusOfARequest: one that was only just published is not unknown.
func TestStatusOfARequest(t *testing.T) {
	c := fleetFor(t)
	publish := func(m messages.Message, subject string) {
		t.Helper()
		if err := c.Publish(t.Context(), subject, m, ""); err != nil {
			t.Fatal(err)
		}
	}

	code, stdout, stderr := invoke("", "status", "nosuch")
	if code != ExitUsage || !strings.Contains(stderr, `"nosuch" is not known here`) {
		t.Errorf("unknown: exit code %d: %s%s", code, stdout, stderr)
	}

	queued := aRequest("queued")
	publish(queued, queued.Subject())
	code, stdout, stderr = invoke("", "status", "--wait", "1ms", "queued")
	if code != ExitOK || !strings.Contains(stdout, "queued, and not read yet: no planner is active") {
		t.Errorf("queued: exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, _ = invoke("", "status", "--wait", "1ms", "--json", "queued")
	if code != ExitOK || !strings.Contains(stdout, `"queued":true`) {
		t.Errorf("queued, as JSON: exit code %d: %s", code, stdout)
	}

	refused := &messages.Outcome{Kind: messages.OutcomeRejected, Request: "refused", Backend: "test", Workspace: "ws", Code: messages.InvalidRequest, Reasons: []string{"Invalid backend"}}
	publish(refused, refused.Subject())
	code, stdout, stderr = invoke("", "status", "refused")
	if code != ExitOK || !strings.Contains(stdout, "rejected: invalid_request\n  Invalid backend") {
		t.Errorf("refused: exit code %d: %s%s", code, stdout, stderr)
	}
	// What is there is found however short the wait is, and the server busy.
	plan, _, err := lookUp(t.Context(), c, "refused", "", "", time.Nanosecond)
	if err != nil || plan.Code != messages.InvalidRequest {
		t.Errorf("refused, without a wait: %+v, %v", plan, err)
	}
}

// TestLookUpWaits: a plan that is written while somebody waits for it is found.
func TestLookUpWaits(t *testing.T) {
	c := fleetFor(t)
	r := aRequest("soon")
	if err := c.Publish(t.Context(), r.Subject(), r, ""); err != nil {
		t.Fatal(err)
	}
	go func() { // as a planner does, at some time
		key := messages.PlanKey(r.Backend, r.Workspace, r.ID)
		if _, err := c.PlansRegister().Create(t.Context(), key, &messages.Plan{Request: *r, Done: true}); err != nil {
			t.Errorf("write a plan: %v", err)
		}
	}()
	plan, queued, err := lookUp(t.Context(), c, "soon", "", "", time.Minute)
	if err != nil || queued || !plan.Done {
		t.Errorf("lookUp = %+v, %v, %v", plan, queued, err)
	}
	if _, _, err := lookUp(t.Context(), c, "never", "", "", time.Millisecond); !errors.Is(err, errUnknown) {
		t.Errorf("of an unknown request: %v", err)
	}
}
