package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// TestClusterIsKilled: the cluster of deploy/nats, with its accounts, loses the
// leader of a stream to a kill -9, then all three servers at once, while messages
// and leases are written. Nothing that was acknowledged is lost.
// Checked by giving SLUICE_FILES one replica: then it stands still without the leader.
func TestClusterIsKilled(t *testing.T) {
	t.Parallel()
	const size = 3
	var listen, routes [size]string
	for i := range size {
		listen[i], routes[i] = freePort(t), freePort(t)
	}
	servers := map[string]*natsProcess{}
	for i := range size {
		name := fmt.Sprintf("n%d", i)
		p := &natsProcess{t: t, env: append(passwords(t), serverConfig+"=../deploy/nats/cluster.conf", "SLUICE_NATS_STORE="+t.TempDir(), "SLUICE_NATS_NAME="+name,
			"SLUICE_NATS_LISTEN="+listen[i], "SLUICE_NATS_CLUSTER="+routes[i], "SLUICE_NATS_ROUTES=[nats://route:SLUICE_NATS_CLUSTER_PASSWORD@"+strings.Join(routes[:], ", nats://route:SLUICE_NATS_CLUSTER_PASSWORD@")+"]")}
		p.start()
		servers[name] = p
	}
	t.Cleanup(func() {
		for _, p := range servers {
			p.kill()
		}
	})
	url := "nats://" + strings.Join(listen[:], ",nats://")
	as := func(user string) *jetstream.Conn {
		o := optionsFor(url, user, passwordOf(user))
		if user != "admin" {
			o.APIPrefix = "FLEET.API"
		}
		return connect(t, o)
	}
	for _, p := range servers {
		p.await("ready")
	}
	admin, worker, persister := as("admin"), as("worker-tpp"), as("persister-tpp")
	if err := admin.Provision(t.Context(), jetstream.Topology{Backends: map[string][]string{"tpp": {"default"}}, Replicas: size, Store: 256 << 20}); err != nil {
		t.Fatal(err)
	}
	_, js := raw(t, url, nats.UserInfo("admin", passwordOf("admin")))

	// What was acknowledged, and what came of it.
	var mu sync.Mutex
	acked, revisions, handled := map[messages.JobID]bool{}, map[string]messages.Revision{}, map[messages.JobID]bool{}
	progress := make(chan struct{}, 1)
	note := func(do func()) {
		mu.Lock()
		defer mu.Unlock()
		do()
		select {
		case progress <- struct{}{}:
		default:
		}
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for {
			mu.Lock()
			ok := done()
			mu.Unlock()
			if ok {
				return
			}
			select {
			case <-progress:
			case <-time.After(2 * time.Minute):
				t.Fatalf("nothing goes on: %s; %d acknowledged, %d handled", what, len(acked), len(handled))
			}
		}
	}
	working, stop := context.WithCancel(t.Context())
	receiving, stopReceiving := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stopReceiving()
	defer stop()
	for w := range 4 {
		all.Go(func() {
			for n := w; ; n += 4 {
				f := files(n)
				f.Backend = "tpp"
				if err := worker.Publish(working, f.Subject(), f, ""); err != nil {
					return
				}
				key := messages.LeaseKey("tpp", f.Job, 1)
				rev, err := worker.LeasesRegister().Create(working, key, lease("w"), time.Hour)
				if err == nil {
					rev, err = worker.LeasesRegister().Update(working, key, lease("w"), rev, time.Hour)
				}
				if err != nil {
					return
				}
				note(func() { acked[f.Job], revisions[key] = true, rev })
			}
		})
	}
	all.Go(func() {
		q := persister.Queue(jetstream.Files, jetstream.PersisterConsumer("tpp"), "persister", jetstream.Concurrently(8))
		if err := q.Receive(receiving, func(ctx context.Context, d *messages.Delivery) error {
			var f messages.Files
			if err := messages.Decode(d.Data, &f); err != nil {
				return err
			}
			e := &messages.PersisterEvent{Job: f.Job, Attempt: 1, Backend: "tpp", Workspace: "ws", Verdict: messages.Persisted}
			if err := persister.Publish(receiving, e.Subject(), e, ""); err != nil {
				return err
			}
			note(func() { handled[f.Job] = true })
			return nil
		}); err != nil {
			t.Errorf("Receive: %v", err)
		}
	})
	heard := 0
	all.Go(func() {
		if err := (jetstream.Verdicts{Conn: worker, Backend: "tpp"}).Follow(receiving, func(context.Context, *messages.PersisterEvent) { note(func() { heard++ }) }, func() {}); err != nil {
			t.Errorf("Follow: %v", err)
		}
	})
	more := func(what string, n int) {
		t.Helper()
		mu.Lock()
		want, verdicts := len(acked)+n, heard
		mu.Unlock()
		until(what, func() bool { return len(acked) >= want && heard > verdicts })
	}

	more("all run", 40)
	info, err := js.Stream(t.Context(), jetstream.Files)
	if err != nil {
		t.Fatal(err)
	}
	leader := servers[info.CachedInfo().Cluster.Leader]
	leader.kill()
	more("the leader is killed", 40)
	leader.start()
	leader.await("ready")
	for _, p := range servers {
		p.kill()
	}
	for _, p := range servers {
		p.start()
	}
	more("all were killed", 40)
	stop()
	until("all is handled", func() bool {
		for job := range acked {
			if !handled[job] {
				return false
			}
		}
		return true
	})
	stopReceiving()
	all.Wait()
	for key, rev := range revisions {
		if got, err := admin.LeasesRegister().Get(t.Context(), key); err != nil || got.Revision < rev || got.Value == nil {
			t.Errorf("lease %s = %+v, %v; revision %d was acknowledged", key, got, err, rev)
		}
	}
	t.Logf("%d messages and leases were acknowledged", len(acked))
}

// TestFullDisk: when the disk of the server is full, nothing is acknowledged
// that is not stored, who publishes is told what it may be, and after space is
// back and the server was restarted all goes on, with all that was acknowledged.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir, address := t.TempDir(), freePort(t)
	config := filepath.Join(dir, "nats.conf")
	disk := filepath.Join(dir, "disk")
	if err := errors.Join(os.Mkdir(disk, 0o700), os.WriteFile(config, fmt.Appendf(nil, "listen: %q\njetstream { store_dir: %q, max_file: 1GB, sync_interval: always }\n", address, disk), 0o600)); err != nil {
		t.Fatal(err)
	}
	p := &natsProcess{t: t, disk: true, env: []string{serverConfig + "=" + config, serverDisk + "=" + disk}}
	p.start()
	t.Cleanup(p.kill)
	p.await("ready")
	lines := newLogLines()
	c := connect(t, jetstream.Options{URL: "nats://" + address, Log: zerolog.New(lines)})
	if err := c.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	large := func(n int) *messages.Files {
		f := files(n)
		f.Given = slices.Repeat([]messages.Path{messages.Path(strings.Repeat("x", messages.MaxPath))}, 25)
		return f
	}
	for n := range 5 {
		publish(t, c, large(n))
	}
	p.tell("fill")
	ctx, stop := context.WithCancel(t.Context())
	published := make(chan error, 1)
	go func() { published <- c.Publish(ctx, large(5).Subject(), large(5), "") }()
	lines.await(t, "its disk may be full")
	stop()
	if err := <-published; !errors.Is(err, context.Canceled) {
		t.Errorf("Publish on a full disk: %v, want none, until it is given up", err)
	}
	p.tell("free")
	p.tell("restart")
	publish(t, c, large(6))
	var got []messages.JobID
	q := c.Queue(jetstream.Files, jetstream.PersisterConsumer("test"), "persister")
	for len(got) == 0 || got[len(got)-1] != job(6) {
		d := next(t, q)
		var f messages.Files
		if err := messages.Decode(d.Data, &f); err != nil {
			t.Fatalf("a message is stored by half: %v", err)
		}
		if f.Job != job(5) { // which nobody was told is stored, or is not
			got = append(got, f.Job)
		}
		if err := d.Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 6 {
		t.Errorf("stored are %v, want the six that were acknowledged", got)
	}
	if letters, err := c.Count(t.Context(), jetstream.Dead, ""); err != nil || letters != 0 {
		t.Errorf("%d dead letters, %v", letters, err)
	}
}
