package persister

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestTurns: as long as a message waits for its turn no other is asked for, and
// when it has it, or was given up, some may be again.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(2)
		room := func(want int) (changed <-chan struct{}) {
			t.Helper()
			n, changed := turns.Room()
			if n != want || (n == 0) != (changed != nil) {
				t.Errorf("room for %d, want %d", n, want)
			}
			return changed
		}
		room(2 + spare)
		var done []func()
		for range 2 {
			end, err := turns.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			done = append(done, end)
		}
		room(spare)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 2)
		for _, ctx := range []context.Context{ctx, t.Context()} {
			go func() {
				_, err := turns.take(ctx)
				got <- err
			}()
		}
		synctest.Wait()
		changed := room(0)
		cancel()
		if err := <-got; err == nil {
			t.Error("a turn that was given up was had")
		}
		synctest.Wait()
		room(0)
		done[0]()
		if err := <-got; err != nil {
			t.Errorf("take: %v", err)
		}
		<-changed
		room(spare)
		done[1]()
		room(1 + spare)
	})
}
