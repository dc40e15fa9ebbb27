package jetstream_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// TestAll: every key once, also while others write; through a restart.
func TestAll(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	latest := f.LatestRegister()
	const keys = 3000
	var group sync.WaitGroup
	for w := range 10 {
		group.Go(func() {
			for n := w; n < keys; n += 10 {
				if _, err := latest.Create(t.Context(), messages.LatestKey("test", "ws", fmt.Sprint(n)), &messages.Latest{Action: "a"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	all := func() map[string]messages.Revision {
		seen := map[string]messages.Revision{}
		if err := latest.All(t.Context(), "test.ws.latest.*", func(e messages.Entry[messages.Latest]) {
			if old, again := seen[e.Key]; again && e.Revision <= old {
				t.Errorf("%s comes with revision %d after %d", e.Key, e.Revision, old)
			}
			seen[e.Key] = e.Revision
		}); err != nil {
			t.Fatalf("All: %v", err)
		}
		return seen
	}
	if got := len(all()); got != keys {
		t.Errorf("All hands over %d keys, want %d", got, keys)
	}

	// A writer moves keys behind the reader all the while: none may be missed.
	ctx, stop := context.WithCancel(t.Context())
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		for n := 0; ctx.Err() == nil; n = (n + 7) % keys {
			key := messages.LatestKey("test", "ws", fmt.Sprint(n))
			if e, err := latest.Get(ctx, key); err == nil {
				_, _ = latest.Update(ctx, key, &messages.Latest{Action: "b"}, e.Revision)
			}
		}
	}()
	for range 5 {
		if got := len(all()); got != keys {
			t.Errorf("All hands over %d keys while some change, want %d", got, keys)
		}
	}
	stop()
	<-writing

	// The server restarts after the first values.
	first := true
	seen := map[string]bool{}
	if err := latest.All(t.Context(), "", func(e messages.Entry[messages.Latest]) {
		if first {
			first = false
			f.restart(t)
		}
		if seen[e.Key] {
			t.Errorf("%s comes twice though it does not change", e.Key)
		}
		seen[e.Key] = true
	}); err != nil || len(seen) != keys {
		t.Errorf("All across a restart hands over %d keys, %v; want %d", len(seen), err, keys)
	}
	if got := f.stream(t, "KV_SLUICE_JOBS").State.Consumers; got != 0 {
		t.Errorf("%d consumers are left behind, want none", got)
	}
}

func TestAllEnds(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	n := 0
	if err := c.JobsRegister().All(t.Context(), "", func(messages.Entry[messages.Job]) { n++ }); err != nil || n != 0 {
		t.Errorf("All of an empty register hands over %d, %v", n, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := c.JobsRegister().All(ctx, "", func(messages.Entry[messages.Job]) {}); err == nil {
		t.Error("All with an ended context says that it has read all")
	}
}

// TestWatchSurvivesRestarts: after each restart the next change arrives, and
// one consumer is on the server at a time.
func TestWatchSurvivesRestarts(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	settings := f.SettingsRegister()
	key := messages.SettingKey("test")
	changes := make(chan messages.Entry[messages.Setting])
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() {
		watched <- settings.Watch(ctx, "setting.*", func(e messages.Entry[messages.Setting]) {
			select {
			case changes <- e:
			case <-ctx.Done():
			}
		})
	}()
	rev := messages.Revision(0)
	for round := range 4 {
		if round > 0 {
			f.restart(t)
		}
		var err error
		if rev, err = settings.Update(t.Context(), key, &messages.Setting{Drain: []string{fmt.Sprintf("w%d", round)}}, rev); err != nil {
			t.Fatal(err)
		}
		for e := range changes { // a change may come again
			if e.Revision == rev {
				break
			}
		}
	}
	if err := settings.Remove(t.Context(), key, rev, 0); err != nil {
		t.Fatal(err)
	}
	for e := range changes {
		if e.Revision > rev {
			if e.Value != nil || e.Expired || e.Key != key {
				t.Errorf("a removed key comes as %+v", e)
			}
			break
		}
	}
	stop()
	if err := <-watched; err != nil {
		t.Errorf("Watch: %v", err)
	}
	if got := f.stream(t, "KV_SLUICE_FLEET").State.Consumers; got != 0 {
		t.Errorf("%d consumers are left behind, want none", got)
	}
}

// TestWatchStops amid values that nobody takes.
func TestWatchStops(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for n := range 600 {
		if _, err := f.js.PublishAsync("$KV.SLUICE_FLEET.setting."+fmt.Sprint(n), []byte(`{"schema":1}`), njs.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	<-f.js.PublishAsyncComplete()
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	if err := f.SettingsRegister().Watch(ctx, "", func(messages.Entry[messages.Setting]) { n++; stop() }); err != nil || n != 1 {
		t.Errorf("Watch hands over %d values after it was told to stop, %v; want 1", n, err)
	}
	if got := f.stream(t, "KV_SLUICE_FLEET").State.Consumers; got != 0 {
		t.Errorf("%d consumers are left behind, want none", got)
	}
}

// TestMissingRegister: who reads what was not provisioned hears what to do.
func TestMissingRegister(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Connect(t, jetstreamtest.Server(t))
	if err := c.LeasesRegister().Watch(t.Context(), "", func(messages.Entry[messages.Lease]) {}); err == nil {
		t.Error("Watch of a missing register goes on")
	}
	if err := c.LeasesRegister().All(t.Context(), "", func(messages.Entry[messages.Lease]) {}); err == nil {
		t.Error("All of a missing register goes through")
	}
	if err := c.Publish(t.Context(), files(1).Subject(), files(1), ""); err == nil {
		t.Error("Publish without a stream goes through")
	}
	if _, err := c.Count(t.Context(), jetstream.Files, ""); err == nil {
		t.Error("Count without a stream goes through")
	}
}
