package jetstream_test

import (
	"testing"

	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
)

// TestSweepQueues: what a consumer has settled is removed if the server has kept
// it, and nothing else: neither what waits, nor what is in somebody's hand, nor
// what is for others.
func TestSweepQueues(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	// A stream of limits keeps what is settled, as a work queue does whose servers
	// were killed at the wrong moment.
	config := f.stream(t, jetstream.Actions).Config
	if err := f.js.DeleteStream(t.Context(), jetstream.Actions); err != nil {
		t.Fatal(err)
	}
	config.Retention = njs.LimitsPolicy
	if _, err := f.js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	consumer := jetstream.WorkerConsumer("test", "default")
	if _, err := f.js.CreateConsumer(t.Context(), jetstream.Actions, njs.ConsumerConfig{
		Durable: consumer, FilterSubject: "sluice.action.test.default.*.*", AckPolicy: njs.AckExplicitPolicy, MaxDeliver: -1,
	}); err != nil {
		t.Fatal(err)
	}
	other := action(9)
	other.Pool = "db"
	publish(t, f.Conn, other)
	for n := range 4 {
		publish(t, f.Conn, action(n))
	}
	q := f.Queue(jetstream.Actions, consumer, "worker")
	for range 2 {
		if err := next(t, q).Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	hand := next(t, q)
	if n, err := f.Count(t.Context(), jetstream.Actions, ""); err != nil || n != 5 {
		t.Fatalf("%d messages (%v), want all 5 kept", n, err)
	}
	if err := f.SweepQueues(t.Context(), "test", []string{"default", "none"}); err != nil {
		t.Fatal(err)
	}
	for n, want := range []uint64{0, 0, 1, 1} {
		if got, err := f.Count(t.Context(), jetstream.Actions, action(n).Subject()); err != nil || got != want {
			t.Errorf("action %d: %d messages (%v), want %d", n, got, err, want)
		}
	}
	if got, err := f.Count(t.Context(), jetstream.Actions, other.Subject()); err != nil || got != 1 {
		t.Errorf("another pool's action: %d messages (%v), want it to stay", got, err)
	}
	publish(t, f.Conn, action(0)) // its next attempt
	if err := hand.Settle(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for _, want := range []string{action(3).Subject(), action(0).Subject()} {
		if d := next(t, q); d.Subject != want {
			t.Errorf("next is %s, want %s", d.Subject, want)
		}
	}
}
