package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// idle: what a whole fleet costs that has nothing to do.
func idle(ctx context.Context, b *Bench) error {
	f, err := b.useFleet(ctx)
	if err != nil {
		return err
	}
	if err := f.run(ctx, f.study.Source, "idle", "noop0"); err != nil { // everything has been used once
		return err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	var shares []float64
	n := b.rounds(3)
	long := time.Duration(b.size(20)) * time.Second
	for i := range n {
		b.say("round %d of %d, %s each", i+1, n, long)
		before, err := f.child.cpu()
		if err != nil {
			return err
		}
		if err := pause(ctx, long); err != nil {
			return err
		}
		after, err := f.child.cpu()
		if err != nil {
			return err
		}
		shares = append(shares, 100*(after-before).Seconds()/long.Seconds())
	}
	b.add("sluice up with nothing to do", "% of a core", sample(shares, false), "", Sample{}, "< 1")
	rss, err := f.child.memory()
	if err != nil {
		return err
	}
	b.add("sluice up with nothing to do, resident memory", "MiB", sample([]float64{rss}, false), "", Sample{}, "")
	return nil
}

// cpu is what the process has used since its start.
func (c *child) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, errors.Join(c.alive(), err)
	}
	// The second field is the program's name in brackets, and may have spaces.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is not as expected", c.cmd.Process.Pid)
	}
	var ticks int64
	for _, field := range fields[11:13] { // user and system time
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", c.cmd.Process.Pid, err)
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ, the same on every Linux that Go runs on
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// memory is how much of the process is resident, in MiB.
func (c *child) memory() (float64, error) {
	value := field(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid), "VmRSS")
	kb, err := strconv.ParseFloat(strings.TrimSuffix(value, " kB"), 64)
	if err != nil {
		return 0, errors.Join(c.alive(), fmt.Errorf("the resident memory of process %d is not known", c.cmd.Process.Pid))
	}
	return kb / 1024, nil
}
