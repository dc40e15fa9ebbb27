package bench

import (
	"context"
	"fmt"
	"time"
)

// w4: ten jobs, each of which needs the one before, beside ten that are
// submitted one after another.
func w4(ctx context.Context, b *Bench) error {
	f, err := b.useFleet(ctx)
	if err != nil {
		return err
	}
	var whole, single []time.Duration
	n := b.rounds(5)
	if err := f.run(ctx, f.study.Source, "w4-warm", "noop0"); err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	for i := range n {
		b.say("round %d of %d", i+1, n)
		took, err := timed(func() error {
			return f.run(ctx, f.study.Source, fmt.Sprintf("w4-%d", i), fmt.Sprintf("chain%d", chain-1))
		})
		if err != nil {
			return err
		}
		if err := b.settled(ctx); err != nil {
			return err
		}
		var ten time.Duration
		for k := range chain {
			one, err := timed(func() error { return f.run(ctx, f.study.Source, fmt.Sprintf("w4-%d-%d", i, k), "noop0") })
			if err != nil {
				return err
			}
			ten += one
		}
		whole, single = append(whole, took), append(single, ten)
		if err := b.settled(ctx); err != nil {
			return err
		}
	}
	b.add(fmt.Sprintf("a chain of %d jobs, submit to outcome", chain), "ms", times(whole), fmt.Sprintf("our own w1, %d times in a row", chain), times(single), "<= 1.1")
	return nil
}
