package planner_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/planner"
)

// TestTakeOver: of two planners one works; when it stops, the other one does.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		stopFirst := b.stop
		b.start() // a second one, which waits
		w := b.worker("w1", 1)
		b.ask("r1", "left")
		gen := b.take(w)
		stopFirst()
		b.sleep(2 * time.Second) // the key was given back
		w.Persist(gen, ok)
		b.wantCode("r1", "gen", messages.Success)
		w.Persist(b.take(w), ok)
		b.wantCode("r1", "left", messages.Success)
		if kinds := b.kinds("r1"); !slices.Contains(kinds, "finished") {
			t.Errorf("outcomes: %q", kinds)
		}
	})
}

// TestDeposed: a planner whose key somebody else has writes nothing more, and
// goes on when it is free again.
func TestDeposed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, diamond)
		b.worker("w1", 1)
		usurper := &messages.Leader{Owner: "other", Nonce: "x"}
		Set(t, b.Fleet, "fleet", messages.LeaderKey, usurper, time.Minute)
		b.sleep(5 * time.Second)
		b.ask("r1", "alone")
		b.sleep(30 * time.Second)
		if b.Waiting() != 1 || len(b.Started()) != 0 {
			t.Errorf("a deposed planner works: waiting %d, started %d", b.Waiting(), len(b.Started()))
		}
		b.sleep(time.Minute)
		b.wantCode("r1", "alone", messages.Initiated)
	})
}

// TestTwoAtOnce: two planners that both believe to be the active one do no harm.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{Fleet: newFleet(), t: t, cfg: planner.DefaultConfig()}
		b.Study(commit, diamond)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		for range 2 {
			ports := b.Connect(0, false, nil).Ports()
			ports.Leader = usurped{ports.Leader} // everybody is the leader
			p, err := planner.New(b.cfg, ports, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			go func() { done <- p.Run(ctx) }()
		}
		synctest.Wait()
		w := b.worker("w1", 2)
		for _, r := range []messages.RequestID{"r1", "r2", "r3"} {
			b.ask(r, "run_all")
		}
		for range 20 {
			b.run(w)
			b.sleep(2 * time.Minute)
		}
		for _, j := range All[messages.Job](b.Fleet, "jobs", "*.*.*") {
			if j.Code != messages.Success {
				t.Errorf("%s of %s ended as %s (%s)", j.Action, j.Request, j.Code, j.Message)
			}
		}
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// usurped is a leader key that everybody has.
type usurped struct {
	planner.Expiring[messages.Leader]
}

func (usurped) Get(context.Context, string) (messages.Entry[messages.Leader], error) {
	return messages.Entry[messages.Leader]{}, messages.ErrNotFound
}

func (usurped) Create(context.Context, string, *messages.Leader, time.Duration) (messages.Revision, error) {
	return 1, nil
}

func (usurped) Update(context.Context, string, *messages.Leader, messages.Revision, time.Duration) (messages.Revision, error) {
	return 1, nil
}
