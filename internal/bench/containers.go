package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// settle is the pause after our turn: what we do after a job has ended
// (removing containers, making the next ones) must not slow down the baseline.
const settle = 500 * time.Millisecond

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
		if err := pause(ctx, settle); err != nil {
			return err
		}
	}
	b.add("one no-op job, submit to outcome", "ms", times(ours), "bare lifecycle, network none", times(bare), "<= 0.25")
	return nil
}

// w2: many no-op containers, four at a time.
func w2(ctx context.Context, b *Bench) error {
	f, err := b.useFleet(ctx)
	if err != nil {
		return err
	}
	e, n, jobs := b.engine, b.rounds(3), min(b.size(100), most)
	if err := f.run(ctx, f.many.Source, "w2-warm", "noop0"); err != nil {
		return err
	}
	var ours, bare, same []float64
	for i := range n {
		for _, turn := range []struct {
			what string
			to   *[]float64
			run  func() error
		}{
			{"bare", &bare, func() error { return inParallel(ctx, jobs, slots, e.noop) }},
			{"ours", &ours, func() error {
				return f.run(ctx, f.many.Source, fmt.Sprintf("w2-%d", i), noops(jobs)...)
			}},
			{"bare with our settings", &same, func() error { return inParallel(ctx, jobs, slots, e.noopLikeOurs) }},
		} {
			b.say("round %d of %d, %s", i+1, n, turn.what)
			took, err := timed(turn.run)
			if err != nil {
				return err
			}
			*turn.to = append(*turn.to, float64(jobs)/took.Seconds())
			if err := pause(ctx, settle); err != nil {
				return err
			}
		}
	}
	what := fmt.Sprintf("%d no-op jobs, %d at a time", jobs, slots)
	b.add(what, "jobs/s", sample(ours, true), "bare loops, network none", sample(bare, true), ">= 1.5")
	b.add(what, "jobs/s", sample(ours, true), "bare loops, our settings", sample(same, true), ">= 0.95")
	return nil
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
