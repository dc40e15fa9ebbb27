package persister_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/persister/storetest"
)

// slowCommits is a register that does not answer.
type slowCommits struct {
	persister.Commits
	asked chan struct{}
}

func (c slowCommits) Create(ctx context.Context, _ string, _ *messages.Commit) (messages.Revision, error) {
	close(c.asked)
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestStopGivesBack: a persister that is told to stop before an attempt has the
// commit breaks it off, and gives its message back as one that stopped.
func TestStopGivesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	store, err := disk.Open(b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	ports := b.Ports(store, func() time.Time { return storetest.Epoch.Add(time.Hour) })
	slow := slowCommits{ports.Commits, make(chan struct{})}
	ports.Commits = slow
	cfg := persister.DefaultConfig()
	cfg.Backend, cfg.Checks = storetest.Backend, b.checks
	p, err := persister.New(cfg, ports, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	j := storetest.NewJob("ws", "a", "r1", high, "out.csv")
	b.AddJob(j)
	delivery, err := storetest.Delivery(b.stage(t, j, j.Attempt, map[string]string{"out.csv": "x\n"}), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran, given := make(chan error, 1), make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	go func() { given <- b.Deliver(t.Context(), delivery) }()
	select {
	case <-slow.asked:
	case err := <-given:
		t.Fatalf("the attempt ended before its commit: %v", err)
	}
	stop()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("the message ended with %v, want that it was broken off", err)
	}
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
}
