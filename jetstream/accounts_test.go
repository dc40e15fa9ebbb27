package jetstream_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/jetstream"
	"sluice/messages"
)

// passwords gives each variable of a password that the configuration of deploy/
// reads a value: its own name.
func passwords(t *testing.T) []string {
	t.Helper()
	var list []string
	files, err := filepath.Glob("../deploy/nats/*.conf")
	if err != nil || len(files) < 4 {
		t.Fatalf("configurations = %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\$(SLUICE_[A-Z_]+_PASSWORD)\b`).FindAllStringSubmatch(string(text), -1) {
			list = append(list, name[1]+"="+name[1])
		}
	}
	return list
}

// accountsServer starts a server with deploy/nats/one.conf.
func accountsServer(t *testing.T) *server.Server {
	t.Helper()
	for _, v := range append(passwords(t), "SLUICE_NATS_STORE="+t.TempDir(), "SLUICE_NATS_NAME=n1", "SLUICE_NATS_LISTEN=127.0.0.1:-1",
		"SLUICE_NATS_CLUSTER=127.0.0.1:-1", "SLUICE_NATS_ROUTES=[nats://127.0.0.1:1]") {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	if _, err := server.ProcessConfigFile("../deploy/nats/cluster.conf"); err != nil {
		t.Errorf("cluster.conf: %v", err)
	}
	opts, err := server.ProcessConfigFile("../deploy/nats/one.conf")
	if err != nil {
		t.Fatalf("one.conf: %v", err)
	}
	if !opts.SyncAlways || opts.JetStreamMaxStore < 10<<30 {
		t.Errorf("one.conf syncs always: %t, has a store of %d bytes", opts.SyncAlways, opts.JetStreamMaxStore)
	}
	opts.Host, opts.Port, opts.HTTPPort, opts.SyncAlways = "127.0.0.1", -1, 0, false
	return startServer(t, opts)
}

func passwordOf(user string) string {
	return "SLUICE_" + strings.ToUpper(strings.ReplaceAll(user, "-", "_")) + "_PASSWORD"
}

// TestAccounts: of each subject and consumer of the topology, who reaches it in
// the accounts of deploy/nats, and that nobody else does.
func TestAccounts(t *testing.T) {
	s := accountsServer(t)
	backends := []string{"tpp", "emis"}
	topology := jetstream.Topology{Backends: map[string][]string{}, Replicas: 1, Store: 256 << 20}
	users := []string{"admin", "planner", "jobserver", "gateway", "operator"}
	for _, b := range backends {
		topology.Backends[b] = []string{"default", "db"}
		users = append(users, "worker-"+b, "persister-"+b)
	}
	if err := connect(t, optionsFor(s.ClientURL(), "admin", passwordOf("admin"))).Provision(t.Context(), topology); err != nil {
		t.Fatal(err)
	}
	conns := map[string]*nats.Conn{}
	for _, user := range users {
		conns[user], _ = raw(t, s.ClientURL(), nats.UserInfo(user, passwordOf(user)))
	}

	// Who publishes what; % stands for a backend. The administrator may all.
	may := map[string][]string{
		"sluice.request.%.ws":                     {"jobserver", "gateway", "operator"},
		"sluice.cancel.%.ws":                      {"jobserver", "gateway", "operator"},
		"sluice.action.%.default.ws.j":            {"planner", "operator"},
		"sluice.files.%.ws.j":                     {"worker-%", "operator"},
		"sluice.event.worker.%.ws.j.1.executed":   {"worker-%", "operator"},
		"sluice.event.persister.%.ws.j.persisted": {"persister-%", "operator"},
		"sluice.outcome.%.r":                      {"planner"},
		"sluice.log.%.j.1":                        {"worker-%"},
		"sluice.dead.%.ws.j":                      {"planner", "worker-%", "persister-%"},
		"$KV.SLUICE_JOBS.%.ws.j":                  {"planner"},
		"$KV.SLUICE_LEASES.%.j.1":                 {"planner", "worker-%"},
		"$KV.SLUICE_COMMITS.%.j":                  {"planner", "persister-%"},
		"$KV.SLUICE_FLEET.worker.%.w":             {"worker-%"},
		"$KV.SLUICE_FLEET.setting.%":              {"operator"},
		"$KV.SLUICE_FLEET.leader.planner":         {"planner"},
	}
	consumers := map[string]string{"planner": "planner", "jobserver": "jobserver"}
	for _, b := range backends {
		consumers[jetstream.PersisterConsumer(b)] = "persister-" + b
		for _, pool := range topology.Backends[b] {
			consumers[jetstream.WorkerConsumer(b, pool)] = "worker-" + b
		}
	}

	reached := func(user, subject, data string) bool {
		t.Helper()
		if rest, api := strings.CutPrefix(subject, "$JS.API."); user != "admin" && api {
			subject = "FLEET.API." + rest
		} else if user != "admin" && strings.HasPrefix(subject, "$KV.") {
			subject = "FLEET.API." + subject
		}
		msg, err := conns[user].Request(subject, []byte(data), 20*time.Second)
		if errors.Is(err, nats.ErrNoResponders) {
			return false
		}
		if err != nil {
			t.Fatalf("%s asks %s: %v", user, subject, err)
		}
		var refusal struct{ Error *struct{ Description string } }
		if json.Unmarshal(msg.Data, &refusal) == nil && refusal.Error != nil && !strings.Contains(refusal.Error.Description, "per subject") {
			t.Errorf("%s asks %s: %s", user, subject, msg.Data)
		}
		return true
	}
	for pattern, who := range may {
		for _, b := range backends {
			subject := strings.ReplaceAll(pattern, "%", b)
			for _, user := range users {
				want := user == "admin" || slices.ContainsFunc(who, func(w string) bool { return strings.ReplaceAll(w, "%", b) == user })
				if got := reached(user, subject, "{}"); got != want {
					t.Errorf("%s publishes on %s: %t, want %t", user, subject, got, want)
				}
			}
		}
	}
	for _, row := range topology.Rows() {
		if row.Kind == "stream" {
			for _, user := range users { // nothing is before the first message
				want := user == "admin" || user == "planner" && slices.Contains([]string{jetstream.Requests, jetstream.Actions, jetstream.Files}, row.Name)
				if got := reached(user, "$JS.API.STREAM.PURGE."+row.Name, `{"seq":1}`); got != want {
					t.Errorf("%s purges %s: %t, want %t", user, row.Name, got, want)
				}
			}
		}
		if row.Kind == "consumer" {
			owner := consumers[row.Name]
			for _, user := range users {
				want := user == "admin" || user == "operator" || user == owner
				if got := reached(user, "$JS.API.CONSUMER.MSG.NEXT."+row.Keeps+"."+row.Name, `{"batch":1,"expires":1000000}`); got != want {
					t.Errorf("%s takes from consumer %s of %s: %t, want %t", user, row.Name, row.Keeps, got, want)
				}
			}
			continue
		}
		for pattern := range strings.FieldsSeq(row.Subjects) {
			if row.Kind == "register" {
				pattern = "$KV." + pattern + ".>"
			}
			covered := slices.ContainsFunc(slices.Collect(maps.Keys(may)), func(subject string) bool { return server.SubjectsCollide(pattern, subject) })
			if !covered && row.Name != jetstream.Advisories { // which the server alone publishes
				t.Errorf("%s of %s is not in the table of this test", pattern, row.Name)
			}
		}
	}
}

// TestAccountsTogether: what is published and taken together passes between the
// accounts of deploy/nats, too.
func TestAccountsTogether(t *testing.T) {
	s := accountsServer(t)
	as := func(user string) *jetstream.Conn {
		o := optionsFor(s.ClientURL(), user, passwordOf(user))
		if user != "admin" {
			o.APIPrefix = "FLEET.API"
		}
		return connect(t, o)
	}
	topology := jetstream.Topology{Backends: map[string][]string{"tpp": {"default", "db"}}, Replicas: 1, Store: 256 << 20}
	if err := as("admin").Provision(t.Context(), topology); err != nil {
		t.Fatal(err)
	}
	list := make([]messages.Outgoing, 6)
	for i := range list {
		a := action(i)
		a.Backend = "tpp"
		list[i] = messages.Outgoing{Subject: a.Subject(), Message: a}
	}
	if err := errors.Join(as("planner").PublishAll(t.Context(), list)...); err != nil {
		t.Fatalf("PublishAll as planner: %v", err)
	}
	q := as("worker-tpp").Queue(jetstream.Actions, jetstream.WorkerConsumer("tpp", "default"), "worker")
	first := next(t, q)
	if first.Behind != len(list)-1 {
		t.Errorf("%d messages wait behind the first, want %d", first.Behind, len(list)-1)
	}
	rest := q.Some(t.Context(), 100)
	if len(rest) != len(list)-1 {
		t.Errorf("%d messages came together, want %d", len(rest), len(list)-1)
	}
	for i, d := range append([]*messages.Delivery{first}, rest...) {
		if d.Subject != list[i].Subject {
			t.Errorf("message %d is on %s, want %s", i, d.Subject, list[i].Subject)
		}
		if err := d.Settle(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}
