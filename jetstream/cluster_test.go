package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// cluster starts three servers in this process.
func cluster(t *testing.T) []*server.Server {
	t.Helper()
	const size = 3
	routes := make([]string, size)
	ports := make([]int, size)
	for i := range size {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		routes[i] = fmt.Sprintf("nats://127.0.0.1:%d", ports[i])
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	servers := make([]*server.Server, size)
	for i := range size {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}, Routes: server.RoutesFromStr(strings.Join(routes, ",")),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers[i] = s
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !slices.ContainsFunc(servers, (*server.Server).JetStreamIsLeader) {
		<-tick.C
	}
	return servers
}

// TestCluster: with three replicas one's own write is read at once, and work
// goes on through the loss of leaders and of a server.
func TestCluster(t *testing.T) {
	t.Parallel()
	servers := cluster(t)
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.ClientURL()
	}
	c := connect(t, jetstream.Options{URL: strings.Join(urls, ","), Log: zerolog.Nop()})
	nc, js := raw(t, strings.Join(urls, ","))
	topology := jetstreamtest.Topology()
	topology.Replicas = 3
	topology.Backends = map[string][]string{"test": {"default"}}
	if err := c.Provision(t.Context(), topology); err != nil {
		t.Fatalf("Provision: %v", err)
	}
	if diffs, err := c.Check(t.Context(), topology); err != nil || len(diffs) > 0 {
		t.Errorf("Check = %v, %v; want none", diffs, err)
	}

	// Without reads from the leader 18 of 100 of these were old or missing.
	leases := c.LeasesRegister()
	rev := messages.Revision(0)
	write := func(n int) {
		t.Helper()
		key := messages.LeaseKey("test", job(n%10), 1+n/10)
		var err error
		if rev, err = leases.Create(t.Context(), key, lease("w"), time.Minute); err != nil {
			t.Fatalf("Create: %v", err)
		}
		got, err := leases.Get(t.Context(), key)
		if err != nil || got.Revision != rev {
			t.Fatalf("Get after one's own write = %+v, %v; want revision %d", got, err, rev)
		}
		if rev, err = leases.Update(t.Context(), key, lease("w"), rev, time.Minute); err != nil {
			t.Fatalf("Update: %v", err)
		}
		if got, err = leases.Get(t.Context(), key); err != nil || got.Revision != rev {
			t.Fatalf("Get after one's own write = %+v, %v; want revision %d", got, err, rev)
		}
	}
	for n := range 100 {
		write(n)
	}

	// Messages flow all the while.
	const messagesInAll = 60
	ctx, stop := context.WithCancel(t.Context())
	handled := map[string]bool{}
	received := make(chan error, 1)
	half := make(chan struct{}, messagesInAll)
	go func() {
		q := c.Queue(jetstream.Files, jetstream.PersisterConsumer("test"), "persister")
		received <- q.Receive(ctx, func(_ context.Context, d *messages.Delivery) error {
			handled[d.Subject] = true
			switch len(handled) {
			case messagesInAll / 2:
				half <- struct{}{}
			case messagesInAll:
				stop()
			}
			return nil
		})
	}()
	for n := range messagesInAll / 2 {
		publish(t, c, files(n))
	}
	<-half
	for _, resign := range []string{"STREAM.LEADER.STEPDOWN.SLUICE_FILES", "CONSUMER.LEADER.STEPDOWN.SLUICE_FILES.persister-test"} {
		if _, err := nc.RequestWithContext(t.Context(), "$JS.API."+resign, nil); err != nil {
			t.Fatalf("%s: %v", resign, err)
		}
	}
	s, err := js.Stream(t.Context(), "KV_SLUICE_LEASES")
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range servers {
		if ns.Name() == s.CachedInfo().Cluster.Leader {
			ns.Shutdown()
			ns.WaitForShutdown()
		}
	}
	write(100)
	for n := range messagesInAll / 2 {
		publish(t, c, files(messagesInAll/2+n))
	}
	if err := <-received; err != nil {
		t.Errorf("Receive: %v", err)
	}
	count := 0
	if err := leases.All(t.Context(), "", func(messages.Entry[messages.Lease]) { count++ }); err != nil {
		t.Fatalf("All: %v", err)
	}
	if count != 101 {
		t.Errorf("All = %d leases, want 101", count)
	}
}

// TestProvisionWaits: a cluster without a leader is waited for, as is one that
// has not heard of enough servers yet, and what is waited for is said.
func TestProvisionWaits(t *testing.T) {
	t.Parallel()
	servers := cluster(t)
	wait := func(replicas int, says string) error {
		t.Helper()
		lines := newLogLines()
		c := connect(t, jetstream.Options{URL: servers[0].ClientURL(), Log: zerolog.New(lines)})
		topology := jetstreamtest.Topology()
		topology.Replicas = replicas
		ctx, giveUp := context.WithCancel(t.Context())
		defer giveUp()
		ended := make(chan error, 1)
		go func() { ended <- c.Provision(ctx, topology) }()
		lines.await(t, says)
		lines.await(t, "waiting for the server; one of a cluster answers when more than half of its servers run")
		lines.await(t, "stream SLUICE_REQUESTS")
		giveUp()
		err := <-ended
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Provision: %v, want that it was given up", err)
		}
		return err
	}
	if err := wait(5, "it has not heard of enough servers yet"); !strings.Contains(fmt.Sprint(err), "fewer servers than replicas are wanted") {
		t.Errorf("Provision with five replicas: %v", err)
	}
	for _, s := range servers[1:] {
		s.Shutdown()
		s.WaitForShutdown()
	}
	_ = wait(1, "SLUICE_REQUESTS")
}
