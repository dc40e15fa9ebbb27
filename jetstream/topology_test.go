package jetstream_test

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
)

func TestTopologyValidate(t *testing.T) {
	t.Parallel()
	pools := func(b ...string) map[string][]string {
		m := map[string][]string{}
		for _, s := range b {
			backend, list, _ := strings.Cut(s, ":")
			m[backend] = strings.Split(list, " ")
		}
		return m
	}
	for _, tc := range []struct {
		name     string
		topology jetstream.Topology
		says     string // "" for valid
	}{
		{"Good", jetstream.Topology{Backends: pools("tpp:default db", "emis:default"), Replicas: 3, Store: 10 << 30}, ""},
		{"NoBackend", jetstream.Topology{Store: 10 << 30}, ""},
		{"TwoReplicas", jetstream.Topology{Replicas: 2, Store: 10 << 30}, "replicas"},
		{"ManyReplicas", jetstream.Topology{Replicas: 7, Store: 10 << 30}, "replicas"},
		{"SmallStore", jetstream.Topology{Store: 1 << 20}, "too small"},
		{"Backend", jetstream.Topology{Backends: pools("a.b:default"), Store: 10 << 30}, "backend"},
		{"Pool", jetstream.Topology{Backends: pools("a:>"), Store: 10 << 30}, "pool"},
		{"SameConsumer", jetstream.Topology{Backends: pools("a:b-c", "a-b:c"), Store: 10 << 30}, "pool b-c of backend a and pool c of backend a-b would share the consumer worker-a-b-c"},
		{"SamePool", jetstream.Topology{Backends: pools("a:db db"), Store: 10 << 30}, "share the consumer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := tc.topology.Validate()
			if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("Validate: %v, want %q", err, tc.says)
			}
		})
	}
}

// TestProvision: what the server has afterwards is bounded, can be provisioned
// again, and has the settings that the experiments forced.
func TestProvision(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	topology := jetstreamtest.Topology()
	for range 2 {
		diffs, err := f.Check(t.Context(), topology)
		if err != nil || len(diffs) > 0 {
			t.Errorf("Check after Provision = %v, %v; want none", diffs, err)
		}
		if err := f.Provision(t.Context(), topology); err != nil {
			t.Errorf("Provision again: %v", err)
		}
	}
	sum := int64(0)
	list := f.js.ListStreams(t.Context())
	for info := range list.Info() {
		c := info.Config
		sum += c.MaxBytes
		if c.MaxBytes <= 0 || c.MaxMsgSize == 0 {
			t.Errorf("%s is not bounded: %+v", c.Name, c)
		}
		if c.AllowDirect || c.MirrorDirect || c.NoAck || c.Storage != njs.FileStorage || c.PersistMode != njs.DefaultPersistMode {
			t.Errorf("%s may lose or hide writes: %+v", c.Name, c)
		}
		if c.Retention == njs.WorkQueuePolicy && (c.MaxAge != 0 || c.AllowMsgTTL || c.Discard != njs.DiscardNew) {
			t.Errorf("%s may drop what is to be done: %+v", c.Name, c)
		}
		for consumer := range streamConsumers(t, f, c.Name) {
			if consumer.MaxDeliver != -1 || len(consumer.BackOff) > 0 || consumer.InactiveThreshold != 0 || consumer.AckPolicy != njs.AckExplicitPolicy {
				t.Errorf("consumer %s of %s: %+v", consumer.Durable, c.Name, consumer)
			}
		}
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	if sum > topology.Store || sum < topology.Store*9/10 {
		t.Errorf("the streams may take %d bytes together, want nearly %d and no more", sum, topology.Store)
	}
	if got := f.stream(t, "KV_SLUICE_JOBS").Config.MaxMsgsPerSubject; got != 5 {
		t.Errorf("history of the jobs = %d, want 5", got)
	}
	if got := f.stream(t, "KV_SLUICE_LEASES").Config.SubjectDeleteMarkerTTL; got != 7*24*time.Hour {
		t.Errorf("markers of the leases stay for %s, want 7 days", got)
	}
	if got := f.consumer(t, jetstream.Requests, jetstream.PlannerConsumer).Config.MaxAckPending; got != 1 {
		t.Errorf("%d requests at once, want 1: their order matters", got)
	}
}

func streamConsumers(t testing.TB, f *fleet, stream string) map[*njs.ConsumerConfig]bool {
	t.Helper()
	s, err := f.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	configs := map[*njs.ConsumerConfig]bool{}
	list := s.ListConsumers(t.Context())
	for info := range list.Info() {
		configs[&info.Config] = true
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return configs
}

// TestRows: what people read of the topology is complete.
func TestRows(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, row := range jetstreamtest.Topology().Rows() {
		kinds[row.Kind]++
		if row.Kind != "consumer" && !strings.Contains(string(doc), row.Name) {
			t.Errorf("doc.go leaves out %s", row.Name)
		}
		if row.Name == "" || row.Keeps == "" || row.Why == "" || row.Subjects == "" && row.Kind != "consumer" {
			t.Errorf("a row is not complete: %+v", row)
		}
	}
	if want := map[string]int{"stream": 8, "register": 4, "consumer": 9}; !maps.Equal(kinds, want) {
		t.Errorf("Rows has %v, want %v", kinds, want)
	}
}

// TestCheckFindsDrift changes one thing each on the server: Check names it, and
// Provision mends it.
func TestCheckFindsDrift(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	stream := func(name string, change func(*njs.StreamConfig)) func(*testing.T) {
		return func(t *testing.T) {
			config := f.stream(t, name).Config
			change(&config)
			if _, err := f.js.UpdateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
		}
	}
	consumer := func(name, durable string, change func(*njs.ConsumerConfig)) func(*testing.T) {
		return func(t *testing.T) {
			config := f.consumer(t, name, durable).Config
			change(&config)
			if _, err := f.js.UpdateConsumer(t.Context(), name, config); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		want   string
		change func(*testing.T)
	}{
		{"stream SLUICE_OUTCOMES is missing, should be there", func(t *testing.T) {
			if err := f.js.DeleteStream(t.Context(), jetstream.Outcomes); err != nil {
				t.Fatal(err)
			}
		}},
		{"consumer worker-test-db of SLUICE_ACTIONS is missing, should be there", func(t *testing.T) {
			if err := f.js.DeleteConsumer(t.Context(), jetstream.Actions, "worker-test-db"); err != nil {
				t.Fatal(err)
			}
		}},
		{"stream SLUICE_EVENTS: subjects is sluice.event.>,sluice.more, should be sluice.event.>", stream(jetstream.Events, func(c *njs.StreamConfig) { c.Subjects = append(c.Subjects, "sluice.more") })},
		{"stream SLUICE_EVENTS: max_age is 1h0m0s, should be 168h0m0s", stream(jetstream.Events, func(c *njs.StreamConfig) { c.MaxAge = time.Hour })},
		{"stream SLUICE_EVENTS: max_bytes is unlimited, should be 26843540", stream(jetstream.Events, func(c *njs.StreamConfig) { c.MaxBytes = -1 })},
		{"stream SLUICE_REQUESTS: max_msg_size is 1024, should be unlimited", stream(jetstream.Requests, func(c *njs.StreamConfig) { c.MaxMsgSize = 1024 })},
		{"stream SLUICE_REQUESTS: duplicates is 1m0s, should be 10m0s", stream(jetstream.Requests, func(c *njs.StreamConfig) { c.Duplicates = time.Minute })},
		{"stream SLUICE_ACTIONS: max_msgs is 7, should be 20000", stream(jetstream.Actions, func(c *njs.StreamConfig) { c.MaxMsgs = 7 })},
		{"stream SLUICE_ACTIONS: discard_new_per_subject is false, should be true", stream(jetstream.Actions, func(c *njs.StreamConfig) { c.DiscardNewPerSubject = false })},
		{"stream SLUICE_ACTIONS: no_ack is true, should be false", stream(jetstream.Actions, func(c *njs.StreamConfig) { c.NoAck = true })},
		{"stream SLUICE_FILES: discard is DiscardOld, should be DiscardNew", stream(jetstream.Files, func(c *njs.StreamConfig) { c.Discard = njs.DiscardOld })},
		{"stream KV_SLUICE_JOBS: allow_direct is true, should be false", stream("KV_SLUICE_JOBS", func(c *njs.StreamConfig) { c.AllowDirect = true })},
		{"stream KV_SLUICE_JOBS: max_msgs_per_subject is 1, should be 5", stream("KV_SLUICE_JOBS", func(c *njs.StreamConfig) { c.MaxMsgsPerSubject = 1 })},
		{"stream KV_SLUICE_LEASES: subject_delete_marker_ttl is 1h0m0s, should be 168h0m0s", stream("KV_SLUICE_LEASES", func(c *njs.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Hour })},
		{"stream SLUICE_LOGS: republish is sluice.log.> on elsewhere.>, headers only false, should be nothing", stream(jetstream.Logs, func(c *njs.StreamConfig) {
			c.RePublish = &njs.RePublish{Source: "sluice.log.>", Destination: "elsewhere.>"}
		})},
		{"stream SLUICE_EVENTS: republish is nothing, should be sluice.event.persister.> on sluice.verdict.>, headers only false", stream(jetstream.Events, func(c *njs.StreamConfig) { c.RePublish = nil })},
		{"stream KV_SLUICE_COMMITS: allow_rollup is true, should be false", stream("KV_SLUICE_COMMITS", func(c *njs.StreamConfig) { c.AllowRollup = true })},
		{"consumer persister-test of SLUICE_FILES: ack_wait is 1s, should be 20s", consumer(jetstream.Files, "persister-test", func(c *njs.ConsumerConfig) { c.AckWait = time.Second })},
		{"consumer persister-test of SLUICE_FILES: max_deliver is 3, should be -1", consumer(jetstream.Files, "persister-test", func(c *njs.ConsumerConfig) { c.MaxDeliver = 3 })},
		{"consumer planner of SLUICE_REQUESTS: max_ack_pending is 50, should be 1", consumer(jetstream.Requests, "planner", func(c *njs.ConsumerConfig) { c.MaxAckPending = 50 })},
		{"consumer planner of SLUICE_EVENTS: filter is sluice.event.worker.>, should be ", consumer(jetstream.Events, "planner", func(c *njs.ConsumerConfig) { c.FilterSubject = "sluice.event.worker.>" })},
		{"consumer planner of SLUICE_EVENTS: backoff is [1s 2s], should be []", consumer(jetstream.Events, "planner", func(c *njs.ConsumerConfig) {
			c.MaxDeliver, c.BackOff = 3, []time.Duration{time.Second, 2 * time.Second}
		})},
		{"consumer planner of SLUICE_EVENTS: inactive_threshold is 1h0m0s, should be 0s", consumer(jetstream.Events, "planner", func(c *njs.ConsumerConfig) { c.InactiveThreshold = time.Hour })},
		{"consumer planner of SLUICE_EVENTS: headers_only is true, should be false", consumer(jetstream.Events, "planner", func(c *njs.ConsumerConfig) { c.HeadersOnly = true })},
	} {
		tc.change(t)
		diffs, err := f.Check(t.Context(), jetstreamtest.Topology())
		if err != nil || !contains(diffs, tc.want) {
			t.Errorf("Check = %v, %v; want %q among them", diffs, err, tc.want)
		}
		if err := f.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
			t.Errorf("Provision after %q: %v", tc.want, err)
		}
		if diffs, err := f.Check(t.Context(), jetstreamtest.Topology()); err != nil || len(diffs) > 0 {
			t.Errorf("Check after mending %q = %v, %v; want none", tc.want, diffs, err)
		}
	}
}

func contains(diffs []jetstream.Difference, want string) bool {
	for _, d := range diffs {
		if strings.ReplaceAll(d.String(), " sluice.more", ",sluice.more") == want {
			return true
		}
	}
	return false
}

// TestProvisionRefuses: what would cost messages, or cannot be done, is refused
// with a sentence; nothing is deleted.
func TestProvisionRefuses(t *testing.T) {
	t.Parallel()
	recreate := func(t *testing.T, f *fleet, name string, change func(*njs.StreamConfig)) {
		config := f.stream(t, name).Config
		if err := f.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		change(&config)
		if _, err := f.js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	larger := jetstreamtest.Topology()
	larger.Store = 4 << 30
	replicas := jetstreamtest.Topology()
	replicas.Replicas = 3
	for _, tc := range []struct {
		name, says string
		topology   jetstream.Topology
		change     func(*testing.T, *fleet)
	}{
		{"Storage", "its storage is Memory", jetstreamtest.Topology(), func(t *testing.T, f *fleet) {
			recreate(t, f, jetstream.Files, func(c *njs.StreamConfig) { c.Storage = njs.MemoryStorage; c.MaxBytes = 1 << 20 })
		}},
		{"Retention", "its retention is Limits", jetstreamtest.Topology(), func(t *testing.T, f *fleet) {
			recreate(t, f, jetstream.Files, func(c *njs.StreamConfig) { c.Retention = njs.LimitsPolicy })
		}},
		{"Sealed", "sealed", jetstreamtest.Topology(), func(t *testing.T, f *fleet) {
			config := f.stream(t, jetstream.Events).Config
			config.Sealed = true
			if _, err := f.js.UpdateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
		}},
		{"Bytes", "deletes the oldest", jetstreamtest.Topology(), func(t *testing.T, f *fleet) {
			recreate(t, f, jetstream.Advisories, func(c *njs.StreamConfig) { c.Subjects, c.MaxBytes = []string{"filler"}, -1 })
			for range 3 {
				if _, err := f.js.Publish(t.Context(), "filler", make([]byte, 950<<10)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"History", "deletes the oldest", jetstreamtest.Topology(), func(t *testing.T, f *fleet) {
			recreate(t, f, "KV_SLUICE_JOBS", func(c *njs.StreamConfig) { c.MaxMsgsPerSubject = 64 })
			if _, err := f.js.Publish(t.Context(), "$KV.SLUICE_JOBS.a", nil); err != nil {
				t.Fatal(err)
			}
		}},
		{"SmallServer", "max_file", larger, func(*testing.T, *fleet) {}},
		{"Replicas", "a single server keeps one replica", replicas, func(*testing.T, *fleet) {}},
		{"Subjects", "another stream takes the same subjects", jetstreamtest.Topology(), func(t *testing.T, f *fleet) {
			if err := f.js.DeleteStream(t.Context(), jetstream.Outcomes); err != nil {
				t.Fatal(err)
			}
			if _, err := f.js.CreateStream(t.Context(), njs.StreamConfig{Name: "OTHER", Subjects: []string{"sluice.outcome.>"}, MaxBytes: 1 << 20}); err != nil {
				t.Fatal(err)
			}
		}},
		{"DeliverPolicy", "nats consumer rm SLUICE_EVENTS planner", jetstreamtest.Topology(), func(t *testing.T, f *fleet) {
			if err := f.js.DeleteConsumer(t.Context(), jetstream.Events, "planner"); err != nil {
				t.Fatal(err)
			}
			if _, err := f.js.CreateConsumer(t.Context(), jetstream.Events, njs.ConsumerConfig{Durable: "planner", AckPolicy: njs.AckExplicitPolicy, DeliverPolicy: njs.DeliverNewPolicy}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			tc.change(t, f)
			before := holdings(t, f)
			if err := f.Provision(t.Context(), tc.topology); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Provision: %v, want %q", err, tc.says)
			}
			if after := holdings(t, f); after != before {
				t.Errorf("Provision changed what is held from %s to %s", before, after)
			}
		})
	}
}

func holdings(t testing.TB, f *fleet) string {
	t.Helper()
	total := uint64(0)
	list := f.js.ListStreams(t.Context())
	for info := range list.Info() {
		total += info.State.Msgs
	}
	return fmt.Sprint(total, list.Err())
}

// TestProvisionKeeps what operators set and we have no opinion on.
func TestProvisionKeeps(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	config := f.stream(t, jetstream.Events).Config
	config.MaxAge, config.Compression, config.Metadata = time.Hour, njs.S2Compression, map[string]string{"owner": "ops"}
	if _, err := f.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := f.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	got := f.stream(t, jetstream.Events).Config
	if got.MaxAge != 7*24*time.Hour || got.Compression != njs.S2Compression || got.Metadata["owner"] != "ops" {
		t.Errorf("after Provision max_age is %s, compression %s, metadata %v; want 7 days and what was set", got.MaxAge, got.Compression, got.Metadata)
	}
}
