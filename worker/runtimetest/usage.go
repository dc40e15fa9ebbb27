package runtimetest

import (
	"testing"
	"time"
)

// testUsage: what a container uses can be seen while it runs, and of one that
// is gone it cannot.
func testUsage(t *testing.T, s Setup) {
	box := s.start(t, s.spec(t, "head -c 20000000 /dev/zero > /tmp/x; while :; do :; done"))
	ctx := within(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		u, err := box.Usage(ctx)
		if err != nil {
			t.Fatalf("Usage: %v", err)
		}
		if u.Memory >= 20_000_000 && u.Memory <= 64<<20 && u.CPU >= 10*time.Millisecond && u.Container != "" {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("Usage = %+v, want 20 MB and some time", u)
		}
	}
	if err := box.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if u, err := box.Usage(ctx); err == nil {
		t.Errorf("Usage of a container that is gone = %+v, want an error", u)
	}
}
