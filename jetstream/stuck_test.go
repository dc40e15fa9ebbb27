package jetstream_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/jetstream"
)

// TestStuck: a queue that does not get past a message is told with the message;
// one whose messages merely wait, or came again once, is not.
func TestStuck(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	q := f.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner", jetstream.Retrying(time.Millisecond, time.Millisecond))
	for range 3 {
		if err := f.Repeat(t.Context(), jetstream.Tapped{Subject: "sluice.request.test.ws", Data: []byte("{}")}, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := next(t, q).Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		list, err := f.Stuck(t.Context(), time.Hour)
		if err != nil || len(list) != 0 {
			t.Fatalf("stuck: %v (%v), want nothing that old", list, err)
		}
		if err := next(t, q).Settle(t.Context(), errors.New("not now")); err != nil {
			t.Fatal(err)
		}
	}
	list, err := f.Stuck(t.Context(), 0)
	if err != nil || len(list) != 1 {
		t.Fatalf("stuck: %v (%v), want one", list, err)
	}
	s := list[0]
	if s.Stream != jetstream.Requests || s.Sequence != 2 || s.Subject != "sluice.request.test.ws" || s.Tries < 6 || s.Tries > 9 || s.Waiting != 1 {
		t.Errorf("got %+v", s)
	}
	if text := s.String(); !strings.Contains(text, "message 2 of SLUICE_REQUESTS") || !strings.Contains(text, "`nats stream rmm SLUICE_REQUESTS 2`") {
		t.Errorf("got %s", text)
	}
}
