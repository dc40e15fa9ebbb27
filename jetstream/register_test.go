package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// TestLeaseIsClaimedOnce: an expired lease is not free for another claim, its
// marker can be revived by compare-and-set, and a renewal keeps the time to
// live.
func TestLeaseIsClaimedOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	leases := f.LeasesRegister()
	key := messages.LeaseKey("test", job(1), 1)

	if _, err := leases.Get(t.Context(), key); !errors.Is(err, messages.ErrNotFound) {
		t.Fatalf("Get of a new key: %v, want ErrNotFound", err)
	}
	first, err := leases.Create(t.Context(), key, lease("w1"), time.Hour)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if _, err := leases.Create(t.Context(), key, lease("w2"), time.Second); !errors.Is(err, messages.ErrConflict) {
		t.Fatalf("second Create: %v, want ErrConflict", err)
	}
	// 300 ms are rounded up to the server's second: it refuses less.
	renewed, err := leases.Update(t.Context(), key, lease("w1"), first, 300*time.Millisecond)
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	msg, err := f.lastRaw(t, "KV_SLUICE_LEASES", "$KV.SLUICE_LEASES."+key)
	if expired := err == nil && msg.Header.Get("Nats-Marker-Reason") != ""; !expired && (err != nil || msg.Header.Get("Nats-TTL") != "1s") {
		t.Errorf("a renewed lease has Nats-TTL %q, %v; want 1s: it must not live for ever", msg.Header.Get("Nats-TTL"), err)
	}

	marker := awaitMarker(t, leases, key)
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
	if _, err := leases.Update(t.Context(), key, lease("w2"), renewed, time.Second); !errors.Is(err, messages.ErrConflict) {
		t.Errorf("Update of an expired key by its old revision: %v, want ErrConflict", err)
	}
	if err := leases.All(t.Context(), "", func(e messages.Entry[messages.Lease]) { t.Errorf("All hands over the expired %+v", e) }); err != nil {
		t.Error(err)
	}
	if _, err := leases.Update(t.Context(), key, lease("w1"), marker.Revision, time.Minute); err != nil {
		t.Errorf("revive: %v", err)
	}
}

func awaitMarker(t testing.TB, leases interface {
	Watch(context.Context, string, func(messages.Entry[messages.Lease])) error
}, key string) (marker messages.Entry[messages.Lease]) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := leases.Watch(ctx, key, func(e messages.Entry[messages.Lease]) {
		if e.Expired {
			marker = e
			stop()
		}
	}); err != nil {
		t.Fatalf("Watch: %v", err)
	}
	return marker
}

func (f *fleet) lastRaw(t testing.TB, stream, subject string) (*njs.RawStreamMsg, error) {
	s, err := f.js.Stream(t.Context(), stream)
	if err != nil {
		return &njs.RawStreamMsg{}, err
	}
	msg, err := s.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		return &njs.RawStreamMsg{}, err
	}
	return msg, nil
}

// TestRegisterComparesAndSets also: a conflict with one's own write, whose
// answer was lost, is none.
func TestRegisterComparesAndSets(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	latest := c.LatestRegister()
	key := messages.LatestKey("test", "ws", "an action / with.dots")
	v1 := &messages.Latest{Action: "a", Jobs: []messages.JobID{job(1)}}
	rev, err := latest.Create(t.Context(), key, v1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := latest.Update(t.Context(), key, &messages.Latest{Action: "b"}, rev+1); !errors.Is(err, messages.ErrConflict) {
		t.Errorf("Update with another revision: %v, want ErrConflict", err)
	}
	again, err := latest.Create(t.Context(), key, &messages.Latest{Action: "a", Jobs: []messages.JobID{job(1)}})
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
	for _, bad := range []string{"", ".", "a..b", "*", "a.>", "a b", "a.\n", ".a", "a."} {
		if _, err := latest.Create(t.Context(), bad, v1); err == nil {
			t.Errorf("Create of key %q went through", bad)
		}
		if _, err := latest.Get(t.Context(), bad); err == nil || errors.Is(err, messages.ErrNotFound) {
			t.Errorf("Get of key %q: %v, want that it is no key", bad, err)
		}
	}
}

// TestOneOfManyWins: of many that change a key at once each revision has one
// winner, and nobody sees an error but ErrConflict.
func TestOneOfManyWins(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	leader := c.LeaderRegister()
	const rivals = 8
	wins := make([]int, rivals)
	var group sync.WaitGroup
	for r := range rivals {
		group.Go(func() {
			me := &messages.Leader{Owner: fmt.Sprint(r), Nonce: fmt.Sprint(r)}
			for round := range 20 {
				got, err := leader.Get(t.Context(), messages.LeaderKey)
				if err != nil && !errors.Is(err, messages.ErrNotFound) {
					t.Errorf("Get: %v", err)
					return
				}
				me.Nonce = fmt.Sprint(r, round)
				_, err = leader.Update(t.Context(), messages.LeaderKey, me, got.Revision, time.Minute)
				switch {
				case err == nil:
					wins[r]++
				case !errors.Is(err, messages.ErrConflict):
					t.Errorf("Update: %v, want ErrConflict", err)
				}
			}
		})
	}
	group.Wait()
	total := 0
	for _, n := range wins {
		total += n
	}
	writes := 0
	if err := leader.All(t.Context(), messages.LeaderKey, func(e messages.Entry[messages.Leader]) { writes = int(e.Revision) }); err != nil {
		t.Fatal(err)
	}
	if writes != total {
		t.Errorf("%d writers were told that they won, the register counts %d", total, writes)
	}
}

// TestUnreadableRecord: bytes that are no record name their key and revision,
// and keep nobody from reading the others.
func TestUnreadableRecord(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	settings := f.SettingsRegister()
	for _, bad := range []string{"not json", `{}`, `{"schema":99}`, "\xff\x00", `[1]`, `{"schema":1,"pool_limits":{"default":-1}}`} {
		ack, err := f.js.Publish(t.Context(), "$KV.SLUICE_FLEET."+messages.SettingKey("bad"), []byte(bad))
		if err != nil {
			t.Fatal(err)
		}
		_, err = settings.Get(t.Context(), messages.SettingKey("bad"))
		if err == nil || errors.Is(err, messages.ErrNotFound) || !strings.Contains(err.Error(), "setting.bad") || !strings.Contains(err.Error(), fmt.Sprintf("revision %d", ack.Sequence)) {
			t.Errorf("Get of %q: %v, want its key and revision", bad, err)
		}
	}
	if _, err := settings.Create(t.Context(), messages.SettingKey("test"), &messages.Setting{Limits: map[string]float64{"db": 4}}); err != nil {
		t.Fatal(err)
	}
	var keys []string
	if err := settings.All(t.Context(), "setting.*", func(e messages.Entry[messages.Setting]) { keys = append(keys, e.Key) }); err != nil || fmt.Sprint(keys) != "[setting.test]" {
		t.Errorf("All = %v, %v; want the one that can be read", keys, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := settings.Watch(ctx, "setting.*", func(e messages.Entry[messages.Setting]) {
		if e.Key != "setting.test" {
			t.Errorf("Watch hands over %+v", e)
		}
		stop()
	}); err != nil {
		t.Error(err)
	}
	f.lines.await(t, "record cannot be read")
}

// TestRemove: a removed key is not found, not free, and in no list; its marker
// goes with time.
func TestRemove(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	latest := f.LatestRegister()
	key := messages.LatestKey("test", "ws", "a")
	rev, err := latest.Create(t.Context(), key, &messages.Latest{Action: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if rev, err = latest.Update(t.Context(), key, &messages.Latest{Action: "b"}, rev); err != nil {
		t.Fatal(err)
	}
	if err := latest.Remove(t.Context(), key, rev-1, time.Second); !errors.Is(err, messages.ErrConflict) {
		t.Fatalf("Remove of an old revision: %v, want ErrConflict", err)
	}
	if err := latest.Remove(t.Context(), key, rev, time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := latest.Get(t.Context(), key); !errors.Is(err, messages.ErrNotFound) {
		t.Errorf("Get of a removed key: %v, want ErrNotFound", err)
	}
	if err := latest.All(t.Context(), "", func(e messages.Entry[messages.Latest]) { t.Errorf("All hands over the removed %+v", e) }); err != nil {
		t.Error(err)
	}
	if _, err := latest.Create(t.Context(), key, &messages.Latest{Action: "c"}); !errors.Is(err, messages.ErrConflict) {
		t.Errorf("Create of a removed key: %v, want ErrConflict while its marker stays", err)
	}
	if n := f.stream(t, "KV_SLUICE_JOBS").State.Msgs; n != 1 {
		t.Errorf("a removed key keeps %d messages, want its marker", n)
	}
	for f.stream(t, "KV_SLUICE_JOBS").State.Msgs > 0 {
		f.awaitExpiry(t, time.Millisecond)
	}
}

// TestAnnounce: a presence is overwritten, and goes with its time to live.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	p := &messages.Presence{Worker: "w1", Backend: "test", Pools: map[string]messages.Slots{"default": {Total: 2}}}
	for used := range 3 {
		p.Pools["default"] = messages.Slots{Total: 2, Used: float64(used)}
		if err := f.Announce(t.Context(), p, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var seen []string
	if err := f.PresenceRegister().Watch(ctx, "worker.test.*", func(e messages.Entry[messages.Presence]) {
		if e.Value == nil {
			seen = append(seen, fmt.Sprint("gone ", e.Key, e.Expired))
			stop()
			return
		}
		seen = append(seen, fmt.Sprint(e.Key, " ", e.Value.Pools["default"].Used))
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(seen, ", "), "worker.test.w1 2, gone worker.test.w1true"; got != want {
		t.Errorf("Watch = %s, want %s", got, want)
	}
}

// TestInvalidValue: a write whose value breaks its rules never reaches the server.
func TestInvalidValue(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	if _, err := f.LeasesRegister().Create(t.Context(), messages.LeaseKey("test", job(1), 1), &messages.Lease{Owner: "no state"}, time.Second); err == nil {
		t.Error("Create of an invalid lease went through")
	}
	if n := f.stream(t, "KV_SLUICE_LEASES").State.LastSeq; n != 0 {
		t.Errorf("the register has %d writes, want none", n)
	}
}

// TestAPIPrefix: an account that imports the API and a register under another
// name reads and writes through it.
func TestAPIPrefix(t *testing.T) {
	t.Parallel()
	url := configuredServer(t, `
		accounts {
		  FLEET { jetstream: enabled, users: [{user: admin, password: a}], exports: [
		    {service: "$JS.API.>", response: stream}, {service: "$KV.>"}, {service: "$JS.ACK.>"}, {service: "sluice.>"}] }
		  WORKER { users: [{user: worker, password: w}], imports: [
		    {service: {account: FLEET, subject: "$JS.API.>"}, to: "FLEET.API.>"},
		    {service: {account: FLEET, subject: "$KV.>"}, to: "FLEET.API.$KV.>"},
		    {service: {account: FLEET, subject: "$JS.ACK.>"}},
		    {service: {account: FLEET, subject: "sluice.>"}}] }
		}`)
	admin := connect(t, optionsFor(url, "admin", "a"))
	if err := admin.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	o := optionsFor(url, "worker", "w")
	o.APIPrefix = "FLEET.API"
	worker := connect(t, o)
	key := messages.LeaseKey("test", job(1), 1)
	rev, err := worker.LeasesRegister().Create(t.Context(), key, lease("w"), time.Minute)
	if err != nil {
		t.Fatalf("Create through the prefix: %v", err)
	}
	if rev, err = worker.LeasesRegister().Update(t.Context(), key, lease("w"), rev, time.Minute); err != nil {
		t.Fatalf("Update through the prefix: %v", err)
	}
	got, err := worker.LeasesRegister().Get(t.Context(), key)
	if err != nil || got.Revision != rev || got.Value.Owner != "w" {
		t.Errorf("Get through the prefix = %+v, %v", got, err)
	}
	if got, err = admin.LeasesRegister().Get(t.Context(), key); err != nil || got.Revision != rev {
		t.Errorf("Get by the owner of the stream = %+v, %v", got, err)
	}
	if err := worker.Announce(t.Context(), &messages.Presence{Worker: "w", Backend: "test"}, time.Minute); err != nil {
		t.Errorf("Announce through the prefix: %v", err)
	}
	if err := worker.Publish(t.Context(), files(1).Subject(), files(1), ""); err != nil {
		t.Errorf("Publish: %v", err)
	}
	q := worker.Queue("SLUICE_FILES", "persister-test", "persister")
	d := next(t, q)
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Errorf("Settle: %v", err)
	}
	n := 0
	if err := worker.PresenceRegister().All(t.Context(), "worker.>", func(messages.Entry[messages.Presence]) { n++ }); err != nil || n != 1 {
		t.Errorf("All through the prefix: %d, %v", n, err)
	}
}
