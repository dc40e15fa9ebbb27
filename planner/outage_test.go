package planner_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/planner"
)

// A line tells of reconnects when a test says so.
type line chan struct{}

func (l line) Reconnected() (<-chan struct{}, func()) { return l, func() {} }

// TestOutage: all leases expire together when the server was away for longer
// than they live. The grace is over by then, and still nobody is fenced before
// workers had twice the time to live to come back.
func TestOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, again := newFleet(), make(line)
		f.Study(commit, diamond)
		ports := f.Connect(0, false, nil).Ports()
		ports.Line = again
		cfg := planner.DefaultConfig()
		p, err := planner.New(cfg, ports, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = p.Run(ctx) })
		w := f.Worker(t, "w1", "tpp", map[string]float64{"default": 1, "db": 1})
		r := messages.Request{ID: "r1", Backend: "tpp", Workspace: "ws", Actions: []string{"alone"},
			Source: messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: commit}}
		f.Send(t, r.Subject(), &r)
		synctest.Wait()
		a := w.Take(ctx)
		// It expires a minute from now, and its grace is over at three minutes.
		<-time.After(2*time.Minute + 50*time.Second)
		again <- struct{}{}
		fenced := func() bool {
			synctest.Wait()
			l := Lookup[messages.Lease](f, "leases", messages.LeaseKey("tpp", a.Job, 1))
			return l != nil && l.State == messages.LeaseFenced
		}
		<-time.After(2*cfg.LeaseTTL - time.Second)
		if fenced() {
			t.Error("the attempt was fenced before its worker had time to come back")
		}
		<-time.After(2 * time.Second)
		if !fenced() {
			t.Error("the attempt was not fenced though its worker did not come back")
		}
		stop()
		wg.Wait()
	})
}
