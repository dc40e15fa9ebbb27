package jetstream_test

import (
	"testing"

	"github.com/rs/zerolog"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// durable is a provisioned server that syncs each write, as in service.
func durable(b *testing.B) *jetstream.Conn {
	s, err := jetstream.Serve(jetstream.ServerOptions{Name: "bench", StoreDir: b.TempDir(), MaxStore: 1 << 30, Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Stop)
	c := connect(b, jetstream.Options{Server: s, Log: zerolog.Nop()})
	if err := c.Provision(b.Context(), jetstreamtest.Topology()); err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkPublish is one message, stored, synced and acknowledged.
func BenchmarkPublish(b *testing.B) {
	c := durable(b)
	e := &messages.WorkerEvent{Job: job(1), Attempt: 1, Backend: "test", Workspace: "ws", Worker: "w", Stage: messages.StageClaimed}
	for b.Loop() {
		if err := c.Publish(b.Context(), e.Subject(), e, ""); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUpdate is one compare-and-set of a lease with its time to live.
func BenchmarkUpdate(b *testing.B) {
	c := durable(b)
	leases, key := c.LeasesRegister(), messages.LeaseKey("test", job(1), 1)
	rev := messages.Revision(0)
	for b.Loop() {
		var err error
		if rev, err = leases.Update(b.Context(), key, lease("w"), rev, 60e9); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAll reads 100,000 keys.
func BenchmarkAll(b *testing.B) {
	f := newFleet(b)
	const keys = 100_000
	for n := range keys {
		if _, err := f.js.PublishAsync("$KV.SLUICE_JOBS."+messages.LatestKey("test", "ws", string(job(n))), []byte(`{"schema":1,"action":"a","jobs":[]}`)); err != nil {
			b.Fatal(err)
		}
		if n%1000 == 999 {
			<-f.js.PublishAsyncComplete()
		}
	}
	for b.Loop() {
		got := 0
		if err := f.LatestRegister().All(b.Context(), "", func(messages.Entry[messages.Latest]) { got++ }); err != nil || got != keys {
			b.Fatalf("%d of %d keys, %v", got, keys, err)
		}
	}
}
