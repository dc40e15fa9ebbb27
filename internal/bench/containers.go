package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// After our turn the baseline waits until no container has begun or ended for a
// while: what we do after a job has ended (removing containers, making the next
// ones, a second later at the latest) must not slow it down.
const (
	settle     = 2 * time.Second
	settleMost = time.Minute
)

// settled waits until the engine rests.
func (b *Bench) settled(ctx context.Context) error {
	last, began, since := "", time.Now(), time.Now()
	for time.Since(since) < settle {
		if time.Since(began) > settleMost {
			b.say("the engine has other work, too: the figures are worth less")
			return nil
		}
		all, err := b.engine.Containers(ctx)
		if err != nil {
			return err
		}
		if all != last {
			last, since = all, time.Now()
		}
		if err := pause(ctx, settle/10); err != nil {
			return err
		}
	}
	return nil
}

// w1: one no-op container at a time.
func w1(ctx context.Context, b *Bench) error {
	f, err := b.useFleet(ctx)
	if err != nil {
		return err
	}
	e, n := b.engine, b.rounds(20)
	var ours, bare []time.Duration
	for i := range n + 1 { // the first turn warms up
		b.say("round %d of %d", i, n)
		took, err := timed(func() error { return e.noop(ctx) })
		if err != nil {
			return err
		}
		mine, err := timed(func() error { return f.run(ctx, f.study.Source, fmt.Sprintf("w1-%d", i), "noop0") })
		if err != nil {
			return err
		}
		if i > 0 {
			bare, ours = append(bare, took), append(ours, mine)
		}
		if err := b.settled(ctx); err != nil {
			return err
		}
	}
	b.add("one no-op job, submit to outcome", "ms", times(ours), "bare lifecycle, network none", times(bare), "<= 0.25")
	return nil
}

// w2: many no-op containers, four at a time, at a worker that has seen so many
// once: up to --parked containers wait for the next burst, and are made before it.
func w2(ctx context.Context, b *Bench) error {
	f, err := b.useFleet(ctx)
	if err != nil {
		return err
	}
	e, n, jobs := b.engine, b.rounds(len(orders)), min(b.size(100), most)
	b.say("a burst that is not measured")
	if err := f.run(ctx, f.many.Source, "w2-warm", noops(jobs)...); err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	var ours, bare, same []float64
	for i := range n {
		turns := []turn{
			{"bare", &bare, func() error { return inParallel(ctx, jobs, slots, e.noop) }},
			{"ours", &ours, func() error {
				return f.run(ctx, f.many.Source, fmt.Sprintf("w2-%d", i), noops(jobs)...)
			}},
			{"bare with our settings", &same, func() error { return inParallel(ctx, jobs, slots, e.noopLikeOurs) }},
		}
		for _, k := range orders[i%len(orders)] {
			now := turns[k]
			b.say("round %d of %d, %s", i+1, n, now.what)
			took, err := timed(now.run)
			if err != nil {
				return err
			}
			*now.to = append(*now.to, float64(jobs)/took.Seconds())
			if err := b.settled(ctx); err != nil {
				return err
			}
		}
	}
	what := fmt.Sprintf("%d no-op jobs, %d at a time", jobs, slots)
	b.add(what, "jobs/s", sample(ours, true), "bare loops, network none", sample(bare, true), ">= 1.5")
	b.add(what, "jobs/s", sample(ours, true), "bare loops, our settings", sample(same, true), ">= 0.95")
	return nil
}

// orders are those of three turns. What one leaves behind (inodes that were just
// deleted, for one) slows down the next.
var orders = [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {0, 2, 1}, {2, 0, 1}, {1, 0, 2}}

// A turn is one of the things that are measured in a round.
type turn struct {
	what string
	to   *[]float64
	run  func() error
}

func noops(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("noop%d", i))
	}
	return names
}

// timed says how long f took.
func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}

// inParallel calls f n times, so many at once.
func inParallel(ctx context.Context, n, atOnce int, f func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range atOnce {
		group.Go(func() error {
			for next.Add(1) <= int64(n) {
				if err := f(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// pause waits, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
