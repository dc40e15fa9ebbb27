// Package bench measures a fleet on the machine it runs on, each workload
// beside its baseline: the same work done by a few bare calls, in turns with
// ours, so that both meet the same hour of the same machine. What counts is the
// ratio.
//
// The fleet is a child process, `sluice up` with a folder of its own and the
// settings of this environment; everything lies in one scratch folder and is
// taken away at the end.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Options say what is measured, and with what.
type Options struct {
	Program   string   // of the sluice to measure
	Args      []string // more arguments for its `up`
	Dir       string   // the scratch folder is made in it: the file system that is measured
	Image     string   // with /bin/sh, /bin/true, awk, dd and mkdir; empty: made of this machine's static busybox
	Workloads []string // names; none means those that are measured by default
	Rounds    int      // turns of each pair; 0: the workload's own number
	Size      int      // jobs of a round of w2 and w5, jobs before in growth, seconds of one of idle; 0: the workload's own number
	Version   string   // of this program, for the report
	Progress  func(text string)
	Log       zerolog.Logger
}

// A Workload is one thing to measure.
type Workload struct {
	Name  string
	Does  string // one line for the help
	Extra bool   // measured only when it is named
	Run   func(ctx context.Context, b *Bench) error
}

// Workloads are all that can be measured, in order.
func Workloads() []Workload {
	return []Workload{
		{Name: "w1", Does: "one no-op job, submitted to outcome, against a bare container lifecycle", Run: w1},
		{Name: "w2", Does: "100 no-op jobs on 4 slots, against 4 bare loops", Run: w2},
		{Name: "w3", Does: "a job that leaves 1,000 × 4 KiB and 256 MiB, against the bare job with cp -r and sync", Run: w3},
		{Name: "w4", Does: "a chain of ten jobs, against ten single ones", Run: w4},
		{Name: "w5", Does: "10,000 jobs without containers, against the same messages passed bare", Run: w5},
		{Name: "growth", Does: "time per job and memory with 1,000, 10,000 and 100,000 jobs before", Extra: true, Run: growth},
		{Name: "trace", Does: "where the time of one no-op job goes", Run: trace},
		{Name: "idle", Does: "CPU and memory of a fleet with nothing to do, for a minute", Run: idle},
	}
}

// A Bench is one run of workloads. What they share is made on first use.
type Bench struct {
	Options
	scratch string
	report  Report
	engine  *engine
	fleet   *fleet
	studies map[int]study // by their number of actions
	closers []func() error
	current string
}

// Run measures until it is done or ctx ends, and takes everything away either
// way. The report has what was measured until then.
func Run(ctx context.Context, o Options) (report Report, err error) {
	chosen, err := choose(o.Workloads)
	if err != nil {
		return Report{}, err
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	b := &Bench{Options: o}
	if b.scratch, err = os.MkdirTemp(o.Dir, "sluice-bench-"); err != nil {
		return Report{}, fmt.Errorf("make a scratch folder: %w", err)
	}
	if b.scratch, err = filepath.Abs(b.scratch); err != nil {
		return Report{}, err
	}
	if err := os.Chmod(b.scratch, 0o755); err != nil { //nolint:gosec // containers' users pass through it
		return Report{}, err
	}
	before := ticks()
	defer func() {
		o.Progress("cleaning up")
		if e := b.close(); err == nil {
			err = e
		}
		b.report.Machine.Stolen = stolen(before, ticks())
		report = b.report
	}()
	b.report.Began, b.report.Machine = time.Now().UTC().Truncate(time.Second), b.machine()
	for _, w := range chosen {
		b.current = w.Name
		b.say("preparing")
		if err := w.Run(ctx, b); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return b.report, fmt.Errorf("%s: %w", w.Name, err)
		}
	}
	return b.report, nil
}

// choose finds workloads by name.
func choose(names []string) ([]Workload, error) {
	all := Workloads()
	var chosen []Workload
	for _, name := range names {
		i := slices.IndexFunc(all, func(w Workload) bool { return w.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no workload %q; there are %s", name, strings.Join(Names(), ", "))
		}
		chosen = append(chosen, all[i])
	}
	if len(names) == 0 {
		chosen = slices.DeleteFunc(all, func(w Workload) bool { return w.Extra })
	}
	return chosen, nil
}

// Names are those of all workloads.
func Names() (names []string) {
	for _, w := range Workloads() {
		names = append(names, w.Name)
	}
	return names
}

// say tells how far the current workload is.
func (b *Bench) say(format string, args ...any) {
	b.Progress(b.current + ": " + fmt.Sprintf(format, args...))
}

// rounds is how many turns to take, n unless the options say otherwise.
func (b *Bench) rounds(n int) int { return cmp.Or(b.Rounds, n) }

// size is how many jobs to run in a round, likewise.
func (b *Bench) size(n int) int { return cmp.Or(b.Size, n) }

// onClose has f called at the end, before what was registered earlier.
func (b *Bench) onClose(f func() error) { b.closers = append(b.closers, f) }

// close takes everything away: the fleet, containers, the image, the folder.
func (b *Bench) close() error {
	var first error
	for _, f := range slices.Backward(b.closers) {
		if err := f(); err != nil && first == nil {
			first = err
		}
	}
	if err := removeTree(b.scratch); err != nil && first == nil {
		first = err
	}
	if first != nil {
		return fmt.Errorf("clean up: %w", first)
	}
	return nil
}
