package jetstream_test

import (
	"context"
	"slices"
	"testing"

	"sluice/jetstream"
	"sluice/messages"
)

// TestUnread: what a durable consumer has not settled, in hand or not, and on
// the subject that is asked for.
func TestUnread(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	send := func(id messages.RequestID, workspace string) {
		r := &messages.Request{ID: id, Backend: "test", Workspace: workspace, Source: messages.Source{Repo: "https://github.com/opensafely/x", Branch: "main", Commit: "07d5f283bb66f52a49933b016cf8dc144cfc7180"}, Actions: []string{"a"}}
		if err := f.Publish(t.Context(), r.Subject(), r, ""); err != nil {
			t.Fatal(err)
		}
	}
	unread := func(subject string) (ids []messages.RequestID) {
		err := f.Unread(t.Context(), jetstream.Requests, jetstream.PlannerConsumer, subject, func(m jetstream.Followed) bool {
			var r messages.Request
			if err := messages.Decode(m.Data, &r); err != nil {
				t.Error(err)
			}
			ids = append(ids, r.ID)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if got := unread("sluice.request.*.*"); len(got) > 0 {
		t.Errorf("of an empty queue: %v", got)
	}
	send("r1", "one")
	send("r2", "two")
	q := f.Queue(jetstream.Requests, jetstream.PlannerConsumer, "test")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d, err := q.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := unread("sluice.request.*.*"), []messages.RequestID{"r1", "r2"}; !slices.Equal(got, want) {
		t.Errorf("with one in hand: %v, want %v", got, want)
	}
	if got, want := unread("sluice.request.*.two"), []messages.RequestID{"r2"}; !slices.Equal(got, want) {
		t.Errorf("of one subject: %v, want %v", got, want)
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got, want := unread("sluice.request.*.*"), []messages.RequestID{"r2"}; !slices.Equal(got, want) {
		t.Errorf("with one settled: %v, want %v", got, want)
	}
	if got := unread("sluice.request.*.one"); len(got) > 0 {
		t.Errorf("of a subject with nothing left: %v", got)
	}
}
