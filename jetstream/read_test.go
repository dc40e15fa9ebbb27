package jetstream_test

import (
	"errors"
	"testing"
	"time"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// TestReadSingly: a subject's messages one by one, and the newest, without a
// consumer; a hint after each.
func TestReadSingly(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	hints, stop, err := c.Hints("sluice.outcome.test.r1")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, id := range []messages.RequestID{"r1", "r2", "r1"} {
		o := &messages.Outcome{Kind: messages.OutcomeAccepted, Request: id, Backend: "test", Workspace: "ws", At: time.Now()}
		if err := c.Publish(t.Context(), o.Subject(), o, ""); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-hints:
	case <-time.After(2 * time.Minute):
		t.Error("no hint came")
	}
	var got []uint64
	for from := uint64(0); ; {
		f, err := c.Next(t.Context(), jetstream.Outcomes, "sluice.outcome.test.r1", from)
		if errors.Is(err, messages.ErrNotFound) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got, from = append(got, f.Sequence), f.Sequence+1
	}
	if len(got) != 2 || got[0] != 1 || got[1] != 3 {
		t.Errorf("sequences = %v, want 1 and 3", got)
	}
	if f, err := c.Next(t.Context(), jetstream.Outcomes, "sluice.outcome.test.*", 2); err != nil || f.Subject != "sluice.outcome.test.r2" {
		t.Errorf("Next of a wildcard = %s, %v; want r2", f.Subject, err)
	}
	if f, err := c.Last(t.Context(), jetstream.Outcomes, "sluice.outcome.test.r1"); err != nil || f.Sequence != 3 {
		t.Errorf("Last = %d, %v; want 3", f.Sequence, err)
	}
	if _, err := c.Last(t.Context(), jetstream.Outcomes, "sluice.outcome.test.nobody"); !errors.Is(err, messages.ErrNotFound) {
		t.Errorf("Last of nothing: %v, want ErrNotFound", err)
	}
}
