package persister

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Turns bounds how many attempts' files are at work at once, and by that how many
// messages are asked for: what would wait for its turn here is for another
// persister.
type Turns struct {
	most int
	sem  *semaphore.Weighted

	mu            sync.Mutex
	busy, waiting int
	change        chan struct{} // closed when there may be room again
}

// NewTurns returns so many turns.
func NewTurns(most int) *Turns {
	return &Turns{most: most, sem: semaphore.NewWeighted(int64(most)), change: make(chan struct{})}
}

// spare is how many messages are asked for beyond the free turns: before and after
// its turn a message waits for the server.
const spare = 8

// Room returns how many messages may be asked for; where that is none, changed is
// closed when it may be some.
func (t *Turns) Room() (n int, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting > 0 {
		return 0, t.change
	}
	return t.most - t.busy + spare, nil
}

// take waits for a turn, which ends with done.
func (t *Turns) take(ctx context.Context) (done func(), err error) {
	t.count(0, 1)
	if err := t.sem.Acquire(ctx, 1); err != nil {
		t.count(0, -1)
		return nil, context.Cause(ctx)
	}
	t.count(1, -1)
	return func() {
		t.sem.Release(1)
		t.count(-1, 0)
	}, nil
}

func (t *Turns) count(busy, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy, t.waiting = t.busy+busy, t.waiting+waiting
	if t.waiting == 0 {
		close(t.change)
		t.change = make(chan struct{})
	}
}
