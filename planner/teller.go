package planner

import (
	"context"
	"sync"

	"sluice/messages"
)

// A teller publishes outcomes, apart from the goroutine that decides. What it
// had in hand when the session ended, the next one tells.
//
// What is told of one job comes in the order in which it came about, and what
// is told of a request as a whole after all that came about in it before, and
// before all that did later. Beyond that there is no order, so that a fleet is
// not held up by one durable write after another.
type teller struct {
	mu   sync.Mutex
	line []telling
	more chan struct{}
}

// A telling is one outcome that is to be published: of a job, or of a request
// as a whole.
type telling struct {
	request requestKey
	job     messages.JobID // empty: of the request
	tell    func(context.Context) error
}

func newTeller() *teller { return &teller{more: make(chan struct{}, 1)} }

// add puts something to tell at the end of the line.
func (t *teller) add(what telling) {
	t.mu.Lock()
	t.line = append(t.line, what)
	t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// run tells until ctx ends. Bear takes what cannot be told, now or later.
func (t *teller) run(ctx context.Context, bear func(error) error) error {
	for {
		now := t.next()
		if len(now) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-t.more:
			}
			continue
		}
		err := each(ctx, now, func(ctx context.Context, what telling) error { return bear(what.tell(ctx)) })
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// next takes out of the line what can be told at the same time.
func (t *teller) next() []telling {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, rest := together(t.line)
	t.line = rest
	return now
}

// Bounds of together: how much is told at once, and how far ahead is looked.
const (
	mostTold  = 64
	lookAhead = 1024
)

// together divides a line into what can be told now, in any order, and the
// rest, in its order.
func together(line []telling) (now, rest []telling) {
	type part struct {
		request requestKey
		job     messages.JobID
	}
	jobs := map[part]bool{}
	anything, whole := map[requestKey]bool{}, map[requestKey]bool{}
	for i, what := range line {
		if len(now) == mostTold || i == lookAhead {
			return now, append(rest, line[i:]...)
		}
		p := part{what.request, what.job}
		if whole[what.request] || jobs[p] || what.job == "" && anything[what.request] {
			rest = append(rest, what)
		} else {
			now = append(now, what)
		}
		anything[what.request], jobs[p] = true, true
		if what.job == "" {
			whole[what.request] = true
		}
	}
	return now, rest
}
