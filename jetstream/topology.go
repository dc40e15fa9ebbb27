package jetstream

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/messages"
)

// Names of streams and registers, as `nats stream ls` shows them.
const (
	Requests   = "SLUICE_REQUESTS"
	Actions    = "SLUICE_ACTIONS"
	Files      = "SLUICE_FILES"
	Events     = "SLUICE_EVENTS"
	Outcomes   = "SLUICE_OUTCOMES"
	Logs       = "SLUICE_LOGS"
	Dead       = "SLUICE_DEAD"
	Advisories = "SLUICE_ADVISORIES"

	Jobs    = "SLUICE_JOBS"
	Leases  = "SLUICE_LEASES"
	Commits = "SLUICE_COMMITS"
	Fleet   = "SLUICE_FLEET"
)

// PlannerConsumer is the durable consumer of the planner, on SLUICE_REQUESTS
// and on SLUICE_EVENTS.
const PlannerConsumer = "planner"

// JobServerConsumer is the durable consumer of a job server, on
// SLUICE_OUTCOMES: one that may make no consumer of its own reads all the same
// what it missed.
const JobServerConsumer = "jobserver"

// WorkerConsumer names the durable consumer of a backend's pool.
func WorkerConsumer(backend, pool string) string { return "worker-" + backend + "-" + pool }

// PersisterConsumer names the durable consumer of a backend's persister.
func PersisterConsumer(backend string) string { return "persister-" + backend }

// A Topology is what a fleet needs on its server.
type Topology struct {
	Backends map[string][]string // pools of each backend
	Replicas int                 // 1, or 3 in a cluster
	Store    int64               // bytes that all streams together may take
}

const day = 24 * time.Hour

// minStore leaves the smallest streams room for some messages of full size, in
// bytes.
const minStore = 256 << 20

// maxMsgSize is what a stream takes at once: a message with its headers, which
// leaves room for those of a dead letter.
const maxMsgSize = messages.MaxPayload + 16<<10

// A stream is a row of the table.
type stream struct {
	share  int // of the store, in hundredths: one stream without a bound stops all
	single bool
	why    string
	config jetstream.StreamConfig
}

// table is every stream and register. Files, all of them; limits where
// something is kept for people, work queue where it is to be done once.
func table() []stream {
	limits := func(name string, age time.Duration, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{Name: name, Subjects: subjects, MaxAge: age, Discard: jetstream.DiscardOld, MaxMsgSize: maxMsgSize, Duplicates: 2 * time.Minute}
	}
	queue := func(name, subject string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Subjects: []string{subject}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
			MaxMsgSize: maxMsgSize, Duplicates: 2 * time.Minute,
		}
	}
	register := func(name string, history int64, marker time.Duration) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: "KV_" + name, Subjects: []string{"$KV." + name + ".>"}, Discard: jetstream.DiscardNew, MaxMsgsPerSubject: history,
			MaxMsgSize: maxMsgSize, AllowRollup: true, DenyDelete: true, AllowMsgTTL: true, SubjectDeleteMarkerTTL: marker, Duplicates: 2 * time.Minute,
		}
	}

	// What was read is kept until room is needed (room.go); what was not is
	// dropped for no reason, not for its age either.
	requests := limits(Requests, 0, "sluice.request.*.*", "sluice.cancel.*.*")
	requests.Discard = jetstream.DiscardNew
	requests.MaxMsgSize = -1 // what the server takes: who publishes without waiting must not lose one unheard
	requests.Duplicates = 10 * time.Minute

	actions := queue(Actions, "sluice.action.*.*.*.*")
	actions.MaxMsgsPerSubject, actions.DiscardNewPerSubject, actions.MaxMsgs = 1, true, 20_000

	logs := limits(Logs, 14*day, "sluice.log.*.*.*")
	logs.MaxMsgsPerSubject = 4000

	dead := limits(Dead, 90*day, "sluice.dead.>")
	dead.MaxMsgSize = -1

	// A consumer that delivers where its maker wants is a way around permissions,
	// so workers may make none; and what comes out of another account is exported
	// to none. Hence the server itself says what it has stored.
	events := limits(Events, 7*day, "sluice.event.>")
	events.RePublish = &jetstream.RePublish{Source: "sluice.event.persister.>", Destination: "sluice.verdict.>"}

	// A message with the header Nats-Rollup empties a stream that allows it.
	commits := register(Commits, 1, 0)
	commits.AllowRollup = false

	advisories := limits(Advisories, 7*day, "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.SLUICE_*.*", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.SLUICE_*.*")

	return []stream{
		{share: 5, config: requests, why: "job server → planner, requests and cancellations in one stream as their order matters; refuses new ones when full of unread ones, keeps read ones as an audit trail while there is room"},
		{share: 5, config: actions, why: "planner → workers of a backend and pool; one message a subject, refuses new ones when full: back-pressure"},
		{share: 10, config: queue(Files, "sluice.files.*.*.*"), why: "worker → persister: what an attempt left in staging"},
		{share: 10, config: events, why: "workers and persisters, each on its own branch → planner, and whoever watches; verdicts are repeated on sluice.verdict"},
		{share: 5, config: limits(Outcomes, 90*day, "sluice.outcome.*.*"), why: "planner → job server"},
		{share: 20, config: logs, single: true, why: "workers → whoever follows a log; drops the oldest"},
		{share: 5, config: dead, why: "what was given up, with its reason and the original bytes"},
		{share: 1, config: advisories, single: true, why: "the server's own complaints; must stay empty"},
		{share: 25, config: register(Jobs, 5, 0), why: "records of jobs, plans of requests; the planner alone writes"},
		{share: 5, config: register(Leases, 1, 7*day), why: "who runs which attempt; a marker of each expired one stays for seven days"},
		{share: 7, config: commits, why: "whose files are a job's, for ever"},
		{share: 1, config: register(Fleet, 1, time.Hour), why: "presence of workers, settings of backends, the active planner"},
	}
}

// streams returns the table's configurations for this fleet.
func (t Topology) streams() []jetstream.StreamConfig {
	rows := table()
	out := make([]jetstream.StreamConfig, len(rows))
	for i, row := range rows {
		c := row.config
		c.Description = row.why
		c.Storage = jetstream.FileStorage
		c.Replicas = max(t.Replicas, 1)
		if row.single {
			c.Replicas = 1
		}
		c.MaxBytes = t.Store / 100 * int64(row.share)
		out[i] = c
	}
	return out
}

// A consumer is a durable pull consumer of a stream.
type consumer struct {
	stream string
	config jetstream.ConsumerConfig
}

// consumers returns the durable consumers: one a pool and one a persister,
// never one a workspace, as a stream takes a thousand and stopping is slow.
// Redelivery is without end and without steps: attempts are the planner's to
// count, and parking is ours to do where people can see it. Who works on a
// message says so every third of the wait: it is how long a message of one that
// was killed is out of sight, not how long the work may take.
func (t Topology) consumers() []consumer {
	pull := func(stream, name, filter string, wait time.Duration, pending int) consumer {
		return consumer{stream, jetstream.ConsumerConfig{
			Durable: name, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy, AckWait: wait,
			MaxDeliver: -1, MaxAckPending: pending, MaxWaiting: 4096,
		}}
	}
	list := []consumer{
		pull(Requests, PlannerConsumer, "", 15*time.Second, 1), // one at a time: a cancellation must not overtake its request
		pull(Events, PlannerConsumer, "", 30*time.Second, 1000),
		pull(Outcomes, JobServerConsumer, "", 60*time.Second, 1000),
	}
	for _, backend := range t.backends() {
		for _, pool := range t.Backends[backend] {
			filter := fmt.Sprintf("sluice.action.%s.%s.*.*", messages.Token(backend), messages.Token(pool))
			list = append(list, pull(Actions, WorkerConsumer(backend, pool), filter, 30*time.Second, 4096))
		}
		filter := fmt.Sprintf("sluice.files.%s.*.*", messages.Token(backend))
		// No bound on what waits for its next try: a persister asks for no more than
		// it has hands and turns for, and those of a workspace that cannot go on must
		// not fill a bound that all workspaces share.
		list = append(list, pull(Files, PersisterConsumer(backend), filter, 20*time.Second, -1))
	}
	return list
}

func (t Topology) backends() []string {
	names := make([]string, 0, len(t.Backends))
	for name := range t.Backends {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Validate reports what is wrong with the topology's own parameters.
func (t Topology) Validate() error {
	if t.Replicas < 0 || t.Replicas > 5 || t.Replicas%2 == 0 && t.Replicas != 0 {
		return fmt.Errorf("%d replicas: use 1 for a single server, 3 in a cluster", t.Replicas)
	}
	if t.Store < minStore {
		return fmt.Errorf("a store of %d bytes is too small; %d MiB is the least", t.Store, minStore>>20)
	}
	of := map[string]string{}
	for _, backend := range t.backends() {
		if err := messages.CheckBackend(backend); err != nil {
			return err
		}
		for _, pool := range t.Backends[backend] {
			if err := messages.CheckPool(pool); err != nil {
				return err
			}
			name, own := WorkerConsumer(backend, pool), fmt.Sprintf("pool %s of backend %s", pool, backend)
			if other := of[name]; other != "" {
				return fmt.Errorf("%s and %s would share the consumer %s: rename one of them", other, own, name)
			}
			of[name] = own
		}
	}
	return nil
}

// A Row describes a stream, register or consumer for people.
type Row struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // stream, register, consumer
	Subjects string `json:"subjects"`
	Keeps    string `json:"keeps"`
	Why      string `json:"why"`
}

// Rows lists the whole topology for people.
func (t Topology) Rows() []Row {
	var rows []Row
	for _, s := range t.streams() {
		r := Row{Name: s.Name, Kind: "stream", Subjects: strings.Join(s.Subjects, " "), Why: s.Description, Keeps: "limits"}
		if bucket, ok := strings.CutPrefix(s.Name, "KV_"); ok {
			r.Name, r.Kind, r.Subjects, r.Keeps = bucket, "register", bucket, fmt.Sprintf("history %d", s.MaxMsgsPerSubject)
		}
		if s.Retention == jetstream.WorkQueuePolicy {
			r.Keeps = "work queue"
		}
		r.Keeps += fmt.Sprintf(", %d MiB", s.MaxBytes>>20)
		rows = append(rows, r)
	}
	for _, c := range t.consumers() {
		rows = append(rows, Row{Name: c.config.Durable, Kind: "consumer", Subjects: c.config.FilterSubject, Keeps: c.stream, Why: "durable pull consumer"})
	}
	return rows
}
