package jetstream_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

func lease(owner string) *messages.Lease {
	return &messages.Lease{State: messages.LeaseHeld, Owner: owner, Nonce: "n-" + owner, Weight: 1, Pool: "default"}
}

var job = messages.NewJobID("r1", "a")

// TestLeaseIsClaimedOnce: an expired lease is not free for another claim, its
// marker can be revived by compare-and-set, and a renewal keeps the time to
// live.
func TestLeaseIsClaimedOnce(t *testing.T) {
	t.Parallel()
	leases := jetstreamtest.Conn(t).LeasesRegister()
	key := messages.LeaseKey("test", job, 1)

	if _, err := leases.Get(t.Context(), key); !errors.Is(err, messages.ErrNotFound) {
		t.Fatalf("Get of a new key: %v, want ErrNotFound", err)
	}
	first, err := leases.Create(t.Context(), key, lease("w1"), time.Second)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if _, err := leases.Create(t.Context(), key, lease("w2"), time.Second); !errors.Is(err, messages.ErrConflict) {
		t.Fatalf("second Create: %v, want ErrConflict", err)
	}
	renewed, err := leases.Update(t.Context(), key, lease("w1"), first, time.Second)
	if err != nil {
		t.Fatalf("Update: %v", err)
	}

	expired := make(chan messages.Entry[messages.Lease], 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_ = leases.Watch(ctx, key, func(e messages.Entry[messages.Lease]) {
			if e.Expired {
				expired <- e
				stop()
			}
		})
	}()
	marker := <-expired
	if marker.Revision <= renewed {
		t.Errorf("marker's revision is %d, want above %d", marker.Revision, renewed)
	}
	got, err := leases.Get(t.Context(), key)
	if err != nil || !got.Expired || got.Revision != marker.Revision || got.Value != nil {
		t.Fatalf("Get of an expired key = %+v, %v, want its marker at %d", got, err, marker.Revision)
	}
	if _, err := leases.Create(t.Context(), key, lease("w2"), time.Second); !errors.Is(err, messages.ErrConflict) {
		t.Errorf("Create of an expired key: %v, want ErrConflict", err)
	}
	if _, err := leases.Update(t.Context(), key, lease("w1"), marker.Revision, time.Minute); err != nil {
		t.Errorf("revive: %v", err)
	}
}

func TestRegisterComparesAndSets(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	latest := c.LatestRegister()
	key := messages.LatestKey("test", "ws", "an action / with.dots")
	v1 := &messages.Latest{Action: "a", Jobs: []messages.JobID{job}}
	rev, err := latest.Create(t.Context(), key, v1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := latest.Update(t.Context(), key, &messages.Latest{Action: "b"}, rev+1); !errors.Is(err, messages.ErrConflict) {
		t.Errorf("Update with another revision: %v, want ErrConflict", err)
	}
	again, err := latest.Create(t.Context(), key, &messages.Latest{Action: "a", Jobs: []messages.JobID{job}})
	if err != nil || again != rev {
		t.Errorf("the same write again = %d, %v; want revision %d: it may be our own, whose answer was lost", again, err, rev)
	}
	rev, err = latest.Update(t.Context(), key, &messages.Latest{Action: "b"}, rev)
	if err != nil {
		t.Fatal(err)
	}
	got, err := latest.Get(t.Context(), key)
	if err != nil || got.Value.Action != "b" || got.Revision != rev {
		t.Errorf("Get = %+v, %v", got, err)
	}
	var keys []string
	if err := latest.All(t.Context(), "test.ws.latest.*", func(e messages.Entry[messages.Latest]) { keys = append(keys, e.Key) }); err != nil || len(keys) != 1 || keys[0] != key {
		t.Errorf("All = %v, %v, want [%s]", keys, err, key)
	}
}

// TestRegistersAreReadFromTheLeader: direct reads gave old values in the lab.
func TestRegistersAreReadFromTheLeader(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	diffs, err := c.Check(t.Context(), jetstreamtest.Topology())
	if err != nil || len(diffs) > 0 {
		t.Errorf("Check after Provision = %v, %v; want none", diffs, err)
	}
	if err := c.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Errorf("Provision again: %v", err)
	}
	other := jetstreamtest.Topology()
	other.Backends["third"] = []string{"default"}
	other.Store *= 2
	diffs, err = c.Check(t.Context(), other)
	if err != nil || len(diffs) < 10 {
		t.Errorf("Check of another topology = %v, %v; want each difference", diffs, err)
	}
}

// TestQueue: what cannot be processed is with the dead, byte for byte, and
// blocks nothing; what was acknowledged does not come back.
func TestQueue(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	q := c.Queue(jetstream.Files, jetstream.PersisterConsumer("test"), "persister", jetstream.Retrying(time.Millisecond, time.Millisecond))
	files := func(j messages.JobID) *messages.Files {
		return &messages.Files{Job: j, Attempt: 1, Backend: "test", Workspace: "ws", Worker: "w", Listing: messages.Listing{}}
	}
	poison, good := messages.NewJobID("r", "poison"), messages.NewJobID("r", "good")
	for _, j := range []messages.JobID{poison, good} {
		if err := c.Publish(t.Context(), files(j).Subject(), files(j), "files/"+string(j)); err != nil {
			t.Fatal(err)
		}
	}
	var sent []byte
	ctx, stop := context.WithCancel(t.Context())
	tries := 0
	err := q.Receive(ctx, func(_ context.Context, d *messages.Delivery) error {
		place, _ := messages.ParseSubject(d.Subject)
		if place.Job == poison {
			sent = d.Data
			return messages.Park("no such job\nhere")
		}
		tries++
		if tries < 3 {
			return errors.New("not yet")
		}
		stop()
		return nil
	})
	if err != nil || tries != 3 {
		t.Fatalf("Receive: %v after %d tries", err, tries)
	}
	var letters []jetstream.DeadLetter
	if err := c.DeadLetters(t.Context(), func(l jetstream.DeadLetter) { letters = append(letters, l) }); err != nil || len(letters) != 1 {
		t.Fatalf("dead letters = %v, %v; want one", letters, err)
	}
	l := letters[0]
	if string(l.Data) != string(sent) || l.Reason != "no such job here" || l.Subject != files(poison).Subject() || l.By != "persister" {
		t.Errorf("dead letter = %+v", l)
	}
	if _, err := c.RetryDead(t.Context(), l.Sequence); err != nil {
		t.Fatal(err)
	}
	d, err := q.Next(t.Context())
	if err != nil || string(d.Data) != string(sent) {
		t.Fatalf("Next after the retry = %v, %v; want the original bytes", d, err)
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestActionIsQueuedOnce: a subject of SLUICE_ACTIONS holds one message.
func TestActionIsQueuedOnce(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	a := &messages.Action{
		Job: job, Attempt: 1, Request: "r1", Backend: "test", Pool: "default", Workspace: "ws", Name: "a", Image: "r:v1", Weight: 1,
		Source: messages.Source{Repo: "/repo", Commit: messages.WorkingFolder},
	}
	if err := c.Publish(t.Context(), a.Subject(), a, ""); err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), a.Subject(), a, ""); !errors.Is(err, messages.ErrQueued) {
		t.Errorf("second Publish: %v, want ErrQueued", err)
	}
	if err := c.PurgeAction(t.Context(), a.Subject()); err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), a.Subject(), a, ""); err != nil {
		t.Errorf("Publish after the purge: %v", err)
	}
}

// TestServerRestart: who waits for a message across a restart of the server
// gets the next one.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := jetstreamtest.ServerAt(t, dir, "127.0.0.1:0")
	url := s.URL()
	c := jetstreamtest.Connect(t, s)
	if err := c.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	q := c.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner")
	got := make(chan *messages.Delivery, 1)
	go func() {
		if d, err := q.Next(context.WithoutCancel(t.Context())); err == nil {
			got <- d
		}
	}()
	again, stop := c.Reconnected()
	defer stop()
	s.Stop()
	jetstreamtest.ServerAt(t, dir, url[len("nats://"):])
	<-again
	request := &messages.Request{ID: "r1", Backend: "test", Workspace: "ws", Source: messages.Source{Repo: "/r", Commit: messages.WorkingFolder}, Actions: []string{"a"}}
	if err := c.Publish(t.Context(), request.Subject(), request, ""); err != nil {
		t.Fatal(err)
	}
	if d := <-got; d.Subject != request.Subject() {
		t.Errorf("Next across a restart = %s", d.Subject)
	}
}
