package worker

import (
	"context"
	"math"

	"golang.org/x/sync/semaphore"

	"sluice/messages"
)

// A room is the slots of one pool. A heavy action takes several, a light one
// less than one: they are counted in thousandths.
type room struct {
	total int64
	free  *semaphore.Weighted
	used  int64 // guarded by Worker.mu
}

const one = 1000

func newRoom(slots float64) *room {
	total := thousandths(slots)
	return &room{total: total, free: semaphore.NewWeighted(total)}
}

func thousandths(slots float64) int64 { return max(int64(math.Round(slots*one)), 1) }

// pull is what must be free before an action is asked for.
func (r *room) pull() int64 { return min(one, r.total) }

// reserve waits until an action can be asked for, and returns for how many there
// is room: for no more than are known to wait, and no more than a few. It returns
// 0 if ctx ended.
func (r *room) reserve(ctx context.Context, behind int) (n int) {
	const most = 16
	if r.free.Acquire(ctx, r.pull()) != nil {
		return 0
	}
	for n = 1; n < min(behind, most) && r.free.TryAcquire(r.pull()); n++ {
	}
	return n
}

// weight is what an action takes: never more than there is.
func (r *room) weight(a *messages.Action) int64 { return min(thousandths(a.Weight), r.total) }

// fit changes what was acquired to ask for an action into what the action
// takes. While it waits, nothing else is asked for in this pool.
func (r *room) fit(ctx context.Context, a *messages.Action) error {
	have, want := r.pull(), r.weight(a)
	if want <= have {
		r.free.Release(have - want)
		return nil
	}
	if err := r.free.Acquire(ctx, want-have); err != nil {
		r.free.Release(have)
		return context.Cause(ctx)
	}
	return nil
}
