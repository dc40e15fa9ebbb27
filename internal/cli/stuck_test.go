package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"sluice/messages"
)

// TestStuckIsTold: an operator who asks sees that a planner begins anew and why,
// and who waits for a request does not read that others are read first.
func TestStuckIsTold(t *testing.T) {
	c := fleetFor(t)
	said, err := stuck(t.Context(), c)
	if err != nil || len(said) != 0 {
		t.Fatalf("of a fleet that is well is said: %q, %v", said, err)
	}
	l := &messages.Leader{Owner: "p1", Nonce: "n", Since: time.Now(), Again: 3, AgainAt: time.Now(), Because: "read the registers: \x1b[2J no"}
	if _, err := c.LeaderRegister().Create(t.Context(), messages.LeaderKey, l, time.Hour); err != nil {
		t.Fatal(err)
	}
	said, err = stuck(t.Context(), c)
	if err != nil || len(said) != 1 || !strings.Contains(said[0], "planner p1 has begun anew 3 times") || strings.Contains(said[0], "\x1b") || !strings.Contains(said[0], "read the registers") {
		t.Errorf("said: %q, %v", said, err)
	}
	var out bytes.Buffer
	a := &app{ctx: t.Context(), stdout: &out, stderr: &out}
	if err := a.printQueued(c, &messages.Plan{Request: *aRequest("r1")}, false); err != nil || !strings.Contains(out.String(), "something is stuck: planner p1 has begun anew") {
		t.Errorf("status: %q, %v", out.String(), err)
	}
}
