package planner_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"sluice/planner"
)

// lines keeps what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count returns how many lines have a text.
func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// TestCrowded: a stream that has become more than half full is warned of, once,
// and once more when it was mended and is so again.
func TestCrowded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, log := newFleet(), &lines{}
		cfg := planner.DefaultConfig()
		f.Crowd(map[string]string{"SLUICE_DEAD": "the dead are many"})
		p, err := planner.New(cfg, f.Connect(0, false, nil).Ports(), zerolog.New(log))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		running.Go(func() { _ = p.Run(ctx) })
		synctest.Wait()
		if n := log.count("the dead are many"); n != 1 {
			t.Errorf("at the start: warned %d times, want once", n)
		}
		<-time.After(cfg.Reconcile / 2) // between two passes
		for _, pass := range []struct {
			crowded        map[string]string
			dead, outcomes int // warnings of them, all in all
		}{
			{map[string]string{"SLUICE_DEAD": "the dead are many"}, 1, 0},
			{map[string]string{"SLUICE_DEAD": "the dead are many, still", "SLUICE_OUTCOMES": "outcomes are many"}, 1, 1},
			{nil, 1, 1},
			{map[string]string{"SLUICE_DEAD": "the dead are many"}, 2, 1},
		} {
			f.Crowd(pass.crowded)
			<-time.After(cfg.Reconcile)
			synctest.Wait()
			if dead, outcomes := log.count("the dead are many"), log.count("outcomes are many"); dead != pass.dead || outcomes != pass.outcomes {
				t.Errorf("after a pass with %v: warned %d and %d times, want %d and %d", pass.crowded, dead, outcomes, pass.dead, pass.outcomes)
			}
		}
	})
}
